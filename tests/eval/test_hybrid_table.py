"""The table of hybrids: bytes as they are, each model beside the first, rows of before kept."""

from __future__ import annotations

import json

import pytest
from tiny_chat import save_with_hybrid, tiny_chat

from eval.hybrid_table import main, read
from memkv.errors import ConfigError


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    model = tiny_chat("llama")
    model.hf.config.max_position_embeddings = 16384  # its tokens are characters
    return save_with_hybrid(model, tmp_path_factory.mktemp("models"))


def test_a_hybrid_is_shown_beside_its_base_and_a_later_row_takes_the_place_of_its_own(folders, tmp_path, capsys):
    out = tmp_path / "table.json"
    few = ["--lengths", "300", "--scenarios", "2", "--texts", "1", "--out", str(out)]
    models = [str(folders / "base"), str(folders / "hybrid")]
    assert main([*few, "--models", *models, "--codecs", "int8"]) == 0
    base, small_base, hybrid, small_hybrid = read(out)
    assert (base.attention, hybrid.attention, hybrid.layers) == (3, 1, 3)
    assert hybrid.per_token * 3 == base.per_token and base.fixed == 0 < hybrid.fixed
    assert small_base.per_token < base.per_token and small_hybrid.per_token < hybrid.per_token
    assert base.probed["300"].probes > 20 and base.probed["300"].tokens > 300
    assert "(0.333 x)" in out.with_suffix(".md").read_text(encoding="utf-8")
    assert main([*few, "--models", models[1], "--codecs"]) == 0
    assert [row.model for row in read(out)] == [each for model in models for each in (model, model)]
    capsys.readouterr()


def test_what_cannot_be_measured_is_named(folders, tmp_path, capsys):
    out = tmp_path / "table.json"
    assert main(["--models", str(folders / "nothing"), "--out", str(out)]) == 1
    assert "ModelUnavailable" in capsys.readouterr().err
    assert main(["--models", str(folders / "base"), "--texts", "60", "--out", str(out)]) == 1
    assert "Ask for fewer --texts" in capsys.readouterr().err
    out.write_text(json.dumps([{"model": "x"}]), encoding="utf-8")
    with pytest.raises(ConfigError, match="is no such table"):
        read(out)
