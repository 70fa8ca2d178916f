"""The chart of turns behind many sessions, small: what is found is timed apart, and nothing is left behind."""

from __future__ import annotations

from tiny_chat import tiny_chat

from eval.bench.many_sessions import FINDING, REST, draw, timed
from memkv import MemoryStore


def test_it_times_turns_behind_two_numbers_of_sessions(store_folder, tmp_path):
    with MemoryStore.open(store_folder) as store:
        turns = timed(tiny_chat("llama"), store, (2, 4), 2)
        assert [len(store.tenant(f"behind-{count}").sessions()) for count in (2, 4)] == [2, 4]
    assert set(turns) == {2, 4} and all(set(parts) == {FINDING, REST} for parts in turns.values())
    assert all(len(times) == 2 and min(times) > 0 for parts in turns.values() for times in parts.values())
    draw(turns, tmp_path / "many.svg")
    assert "<svg" in (tmp_path / "many.svg").read_text()
