"""The promise of memkv across real processes: what one wrote, another goes on with, to the last bit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from architectures import NAMED, OTHERS
from safetensors.torch import load_file

TALKER = Path(__file__).with_name("talker.py")
FOLDERS = os.pathsep.join(str(path) for path in (TALKER.parent, TALKER.parent.parent, TALKER.parent.parent.parent))


def run(act: str, folder: Path, *names: str) -> dict[str, torch.Tensor]:
    environment = os.environ | {"PYTHONPATH": FOLDERS}
    subprocess.run([sys.executable, str(TALKER), act, str(folder), *names], check=True, env=environment)
    return load_file(folder / f"{act}.safetensors")


def check(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor], name: str, rounding: float) -> None:
    reused, prefilled = after[f"{name}.reused"].tolist()
    assert reused > 50
    assert prefilled == 0
    for what in ("logits", "tokens", "last"):
        assert torch.equal(before[f"{name}.{what}"], after[f"{name}.{what}"]), what
    reference_V = after[f"{name}.reference"].float()
    off = (after[f"{name}.last"].float() - reference_V).abs().max() / reference_V.abs().max()
    assert off < rounding


def test_thirteen_architectures_go_on_bit_for_bit_in_another_process(tmp_path: Path) -> None:
    names = (*NAMED, *OTHERS)
    before, after = run("before", tmp_path, *names), run("after", tmp_path, *names)
    for name in names:
        check(before, after, name, rounding=2e-5)


@pytest.mark.slow
@pytest.mark.keeps_home
def test_the_embedded_model_goes_on_bit_for_bit_in_another_process(tmp_path: Path) -> None:
    before, after = run("before", tmp_path, "smollm2-135m"), run("after", tmp_path, "smollm2-135m")
    check(before, after, "smollm2-135m", rounding=0.05)  # bf16 rounds to 3 digits
