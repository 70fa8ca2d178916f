"""The table of splicing: every way beside reading, and ways with states only where a model has some."""

from __future__ import annotations

import pytest
from tiny_chat import save_with_hybrid, tiny_chat

from eval.splice_table import READ, REPAIRED, caches, divergence, main
from memkv.splice import Splicer


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return save_with_hybrid(tiny_chat("llama"), tmp_path_factory.mktemp("models"))


def test_every_way_stands_beside_reading_and_states_only_where_there_are_some(folders, tmp_path, capsys):
    out = tmp_path / "splice.md"
    names = [str(folders / "base"), str(folders / "hybrid")]
    assert main(["--models", *names, "--texts", "3", "--out", str(out)]) == 0
    lines = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith(f"| {folders}")]
    by_model = {name: [line[1] for line in lines if line[0] == f"| {name}"] for name in names}
    assert by_model[names[0]][:2] == [READ, "spliced"] and len(by_model[names[0]]) == 4
    assert len(by_model[names[1]]) == 7 and sum("states alone" in way for way in by_model[names[1]]) == 2
    assert main(["--models", str(folders / "none"), "--out", str(out)]) == 1
    assert "ModelUnavailable" in capsys.readouterr().err


def test_what_is_closer_to_reading_has_the_smaller_divergence(folders):
    model = tiny_chat("llama")
    tokens = [[11 + 3 * i % 80 for i in range(20)], [90 - 7 * i % 80 for i in range(20)]]
    found = dict(caches(Splicer(model), [1, 7, 9], tokens))
    logits = {way: model.logits_after(live, [5, 6, 7]).float() for way, live in found.items()}
    apart = {way: divergence(logits[READ], each) for way, each in logits.items()}
    assert apart[READ] == pytest.approx(0, abs=1e-6)
    assert apart[f"spliced, {REPAIRED} tokens of each read again"] < apart["the lead alone"]
