"""Answers are judged alike by one process and by several, and the same answer once."""

from __future__ import annotations

from pathlib import Path

import pytest
from conversations import small_episodes
from tiny_policy import tiny_base

from train.config import Config, Machine
from train.data import oracle_rows
from train.readers import Readers
from train.states import to_line
from train.workers import spread_over


@pytest.mark.slow
def test_several_readers_find_what_one_finds(tmp_path: Path) -> None:
    base = tiny_base("llama", tmp_path)
    config = Config(model=base.name, machine=Machine(dtype="float32"))
    rows = [row for row in oracle_rows(small_episodes(), base.counter()) if row[0].probes][:4]
    states, answers = [to_line(state) for state, _ in rows] * 2, [answer for _, answer in rows] * 2
    one = Readers(config, map).terms(states, answers)
    with spread_over(2) as spread:
        assert Readers(config, spread).terms(states, answers) == one
    assert any(terms.behaviour for terms in one), "the reader was asked"


def test_an_answer_that_is_known_is_not_read_again() -> None:
    read: list[str] = []

    def spread(function, asked):
        read.extend(answer for _, answer in asked)
        return [answer.upper() for _, answer in asked]

    readers = Readers(Config(), spread)
    assert readers.terms(["s", "s", "t"], ["a", "a", "a"]) == ["A", "A", "A"]
    assert readers.terms(["s", "s"], ["b", "a"]) == ["B", "A"]
    assert read == ["a", "a", "b"]
