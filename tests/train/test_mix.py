"""The average of two adapters: what lies between them, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from tiny_chat import tiny_chat
from tiny_models import tiny

from memkv.compaction.trained import loaded
from memkv.errors import ConfigError
from train.mix import main, mix
from train.policy import WEIGHTS


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    """An adapter, and the same with other numbers."""
    first, second = tmp_path / "first", tmp_path / "second"
    get_peft_model(tiny("llama"), LoraConfig(target_modules="all-linear")).save_pretrained(str(first))
    shutil.copytree(first, second)
    save_file({name: tensor + 1 for name, tensor in load_file(first / WEIGHTS).items()}, second / WEIGHTS)
    return first, second


@pytest.mark.parametrize("share", [0.0, 0.75, 1.0])
def test_it_lies_between_them(two, tmp_path, share):
    main([*map(str, two), "--share", str(share), "--out", str(tmp_path / "mixed")])
    before, mixed = load_file(two[0] / WEIGHTS), load_file(tmp_path / "mixed" / WEIGHTS)
    assert all(torch.allclose(mixed[name], tensor + share, atol=1e-6) for name, tensor in before.items())
    assert loaded(tiny_chat("llama"), tmp_path / "mixed").name


def test_what_does_not_go_together_is_named(two, tmp_path):
    first, second = two
    with pytest.raises(ConfigError, match="share of 2"):
        mix(first, second, 2, tmp_path / "mixed")
    with pytest.raises(ConfigError, match="No adapter"):
        mix(first, tmp_path / "nothing", 0.5, tmp_path / "mixed")
    (second / "memkv.json").write_text('{"model": "other", "weights": "0", "dtype": "float32"}')
    with pytest.raises(ConfigError, match="not of one model"):
        mix(first, second, 0.5, tmp_path / "mixed")
    assert not (tmp_path / "mixed").exists()
