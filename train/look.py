"""`python -m train.look ADAPTER`: what a policy makes of conversations of families that it was never trained on.

Prints how many rules survive, which terms of the reward it loses, and the states in which it lost most, with what it
wrote and what the oracle would have.
"""

from __future__ import annotations

import dataclasses
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console

from memkv.errors import MemkvError
from train.config import Config, load_config
from train.data import held_out
from train.machine import base_of, prepared, writer_of
from train.policy import trained_adapter
from train.rewards import COSTS, Reward, Terms
from train.rollout import Step, rollout, survival
from train.states import oracle
from train.workers import spread_over

TOLD = 0.01  # differences in a term that are worth naming


@dataclass(frozen=True)
class Options:
    """Look at what a policy writes.

    Attributes:
        adapter: folder of the adapter.
        config: YAML file that it was trained with.
        episodes: conversations of dev families; always the same ones.
        worst: states to show.
    """

    adapter: tyro.conf.Positional[Path]
    config: Path = Path("configs/policy.yaml")
    episodes: int = 16
    worst: int = 3


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, play, print, and exit: 0, or 1 with a message."""
    options = tyro.cli(Options, prog="python -m train.look", description=__doc__, args=arguments)
    try:
        look(load_config(options.config), options)
    except MemkvError as error:
        Console(stderr=True).print(f"{type(error).__name__}: {error}", markup=False, highlight=False, soft_wrap=True)
        sys.exit(1)


def look(config: Config, options: Options) -> None:
    """Play the conversations and print what came of it.

    Raises:
        ModelUnavailable: no adapter there, or one for another model.
    """
    config = prepared(config)
    base = base_of(config.model, config.machine)
    writer = writer_of(config, base, trained_adapter(base, options.adapter, config.lora))
    count, reward = base.counter(), Reward(base.counter())
    with spread_over(config.machine.processes) as spread:
        found = held_out(config.data, options.episodes, spread)
    paths = rollout(found, writer.answers, count, "looked at")
    reached = survival(paths)
    print(
        f"Of {reached.rules} rules in force {reached.survived:.1%} survive; {reached.false:.1%} of what is claimed is "
        f"false; {reached.stale:.1%} of amended rules keep their old value."
    )
    lost: list[tuple[float, Step, str]] = []
    for step in (step for path in paths for step in path):
        best = oracle(step.state)
        lost.append((reward.total(step.state, best) - reward.total(step.state, step.answer), step, best))
    behind = sorted((each for each in lost if each[0] > TOLD), key=lambda each: -each[0])
    mean = sum(loss for loss, _, _ in lost) / len(lost)
    print(
        f"Behind the oracle in {len(behind)} of {len(lost)} compactions, by {mean:.3f} of reward on average over all."
    )
    terms = Counter(
        name
        for _, step, best in behind
        for name in worse(reward.terms(step.state, step.answer), reward.terms(step.state, best))
    )
    print("Terms: " + ", ".join(f"{name} {times}" for name, times in terms.most_common()))
    for loss, step, best in behind[: options.worst]:
        print(f"\n--- {step.state.id}: {loss:.2f} behind\n{step.state.prompt(count)[-1]['content']}")
        print(f"\n>>> it wrote\n{step.answer}\n>>> the oracle\n{best}")


def worse(found: Terms, best: Terms) -> list[str]:
    """Names of the terms in which one answer is behind another."""
    told = []
    for field in dataclasses.fields(Terms):
        sign = -1.0 if field.name in COSTS else 1.0
        if sign * (getattr(best, field.name) - getattr(found, field.name)) > TOLD:
            told.append(field.name)
    return told


if __name__ == "__main__":
    main()
