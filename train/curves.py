"""`python -m train.curves RUN --out FILE`: how a training run went, from its `curves.jsonl`, as one chart."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console

from memkv.errors import ConfigError, MemkvError
from train.grpo import COSTS, TERMS
from train.playing import PART
from train.run_folder import CURVES, RunFolder

SMOOTHING = 0.2  # weight of the newest step in the moving average


@dataclass(frozen=True)
class Options:
    """Draw a run.

    Attributes:
        run: folder of the run.
        out: SVG or PNG file.
    """

    run: tyro.conf.Positional[Path]
    out: Path = Path("curves.svg")


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw, or say what is missing."""
    options = tyro.cli(Options, prog="python -m train.curves", description=__doc__, args=arguments)
    try:
        draw(RunFolder(options.run).curves(), options.out)
    except MemkvError as error:
        Console(stderr=True, soft_wrap=True).print(f"[red]{type(error).__name__}[/]: {error}", highlight=False)
        sys.exit(1)
    print(f"Wrote {options.out}")


def draw(records: Sequence[dict[str, Any]], path: Path) -> None:
    """Loss of the warm start, reward terms, KL, and survival on held-out families.

    Raises:
        ConfigError: nothing was logged.
    """
    from matplotlib.figure import Figure

    if not records:
        raise ConfigError(f"There is nothing in {CURVES}", "Name the folder of a training run.")
    figure = Figure(figsize=(10, 6.4), layout="constrained")
    warm, terms, divergence, survival = figure.subplots(2, 2).flat
    for part in dict.fromkeys(each["part"] for each in records if each["part"] != PART):
        line(warm, records, part, "train", "loss", part)
    warm.set(title="Warm start: loss", xlabel="step", yscale="log")
    for name in reversed(TERMS):  # survival on top of what runs beside it
        line(terms, records, PART, "train", f"rewards/{name}/mean", f"- {name}" if name in COSTS else name)
    terms.set(title="Reinforcement: reward terms (costs below 0)", xlabel="step")
    line(divergence, records, PART, "train", "kl", "KL from the warm start")
    line(divergence, records, PART, "train", "reward_std", "deviation of the reward in a group")
    divergence.set(title="Reinforcement: KL (nats a token), signal", xlabel="step", ylim=(0, None))
    line(survival, records, PART, "held_out", "survived", "held-out families: rules surviving", smooth=False)
    line(survival, records, PART, "held_out", "false", "held-out families: false among claimed", smooth=False)
    line(survival, records, PART, "rollout", "survived", "train families: rules surviving", smooth=False)
    survival.set(title="Conversations played to the end", xlabel="step", ylim=(0, 1))
    for axes in (warm, terms, divergence, survival):
        if axes.lines:
            axes.legend(frameon=False, fontsize=8)
            axes.spines[["top", "right"]].set_visible(False)
        else:  # a run of one of the two steps only
            axes.set_axis_off()
            axes.set_title("")
    figure.savefig(path)


def line(
    axes: Any, records: Sequence[dict[str, Any]], part: str, kind: str, name: str, label: str, smooth: bool = True
) -> None:
    """One curve; noisy ones as a moving average over a faint line of what was logged."""
    points = [
        (each["step"], each[name]) for each in records if (each["part"], each["kind"]) == (part, kind) and name in each
    ]
    if not points:
        return
    steps, values = zip(*sorted(points), strict=True)
    if not smooth:
        axes.plot(steps, values, marker="o", label=label)
        return
    average: list[float] = []
    for value in values:
        average.append(value if not average else SMOOTHING * value + (1 - SMOOTHING) * average[-1])
    (drawn,) = axes.plot(steps, average, label=label)
    axes.plot(steps, values, color=drawn.get_color(), alpha=0.2, linewidth=1)


if __name__ == "__main__":
    main()
