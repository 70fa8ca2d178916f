"""`python -m train.mix FIRST SECOND --share 0.75 --out FOLDER`: the average of an adapter and one trained from it.

Between the weights before and after fine-tuning there is often a place that has nearly all of what was learned and
little of what was forgotten (WiSE-FT, arXiv 2109.01903; model soups, arXiv 2203.05482).
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from memkv.compaction.origin import FILE, read_origin
from memkv.errors import ConfigError, MemkvError
from train.policy import WEIGHTS

KEPT = ("adapter_config.json", FILE)


@dataclass(frozen=True)
class Options:
    """Average two adapters.

    Attributes:
        first: folder of the one from before.
        second: folder of what was trained from it.
        out: new folder.
        share: of the second, 0 to 1.
    """

    first: tyro.conf.Positional[Path]
    second: tyro.conf.Positional[Path]
    out: Path
    share: float = 0.75


def main(arguments: Sequence[str] | None = None) -> None:
    """Read, average, write."""
    options = tyro.cli(Options, prog="python -m train.mix", description=__doc__, args=arguments)
    try:
        mix(options.first, options.second, options.share, options.out)
    except MemkvError as error:
        Console(stderr=True, soft_wrap=True).print(f"[red]{type(error).__name__}[/]: {error}", highlight=False)
        sys.exit(1)
    print(f"Wrote {options.out}")


def mix(first: Path, second: Path, share: float, out: Path) -> None:
    """Write the average, with the second's configuration and record.

    Raises:
        ConfigError: a share outside 0 to 1, a folder without an adapter, or two that do not go together.
    """
    if not 0 <= share <= 1:
        raise ConfigError(f"A share of {share:g} is none", "Give one from 0 to 1.")
    try:
        before, after = load_file(first / WEIGHTS), load_file(second / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise ConfigError(
            f"No adapter to read: {error}", "Name two folders that train.sft or train.grpo wrote."
        ) from error
    alike = {name: tensor.shape for name, tensor in before.items()} == {name: t.shape for name, t in after.items()}
    if not alike or read_origin(first) != read_origin(second):
        raise ConfigError(f"{first} and {second} are not of one model and one shape", "Mix one with what came of it.")
    mixed = {
        name: ((1 - share) * before[name].float() + share * tensor.float()).to(tensor.dtype)
        for name, tensor in after.items()
    }
    out.mkdir(parents=True, exist_ok=True)
    for name in KEPT:
        if (second / name).exists():
            shutil.copyfile(second / name, out / name)
    save_file(mixed, out / WEIGHTS, metadata={"format": "pt"})


if __name__ == "__main__":
    main()
