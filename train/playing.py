"""What reinforcement learns from: states that the policy gets itself into, made anew every few steps."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console

from memkv.compaction.windows import Count
from train.config import Config, Stage
from train.data import episodes, held_out
from train.policy import Writer
from train.rewards import Reward
from train.rollout import rollout, survival
from train.run_folder import RunFolder
from train.states import Row, State, oracle
from train.workers import Spread

PART = "grpo"
OWN_SEEDS = 100_000  # of the conversations of refreshes, beyond those of the warm start


@dataclass(frozen=True)
class Segment:
    """Steps between two refreshes: `first` is not yet done, `last` is the last, both of the whole run."""

    stage: Stage
    first: int
    last: int


def segments(config: Config) -> Iterator[Segment]:
    """All segments of all stages, in order."""
    done = 0
    for stage in config.grpo.stages:
        end = done + stage.steps
        while done < end:
            last = min(done + config.grpo.refresh, end)
            yield Segment(stage, done, last)
            done = last


def play(
    config: Config, writer: Writer, segment: Segment, folder: RunFolder, console: Console, spread: Spread
) -> list[State]:
    """New conversations, compacted by the policy as it is now; the states in them that a segment learns from."""
    count = writer.base.counter()
    data = dataclasses.replace(
        config.data, episodes=config.grpo.episodes, seed=config.data.seed + OWN_SEEDS + segment.first
    )
    found = episodes(data, spread, config.grpo.families)
    paths = rollout(found, writer.answers, count, f"step-{segment.first}", segment.stage.folds, segment.first)
    folder.log(PART, {"kind": "rollout", "step": segment.first, **dataclasses.asdict(survival(paths))})
    watch(config, writer, segment.first, folder, console, spread)
    rows = [(step.state, step.answer) for path in paths for step in path]
    pool = worth_learning(rows, Reward(count, weights=segment.stage.weights), count, config.grpo.easy, segment.first)
    return pool[: (segment.last - segment.first) * config.grpo.groups]


def watch(config: Config, writer: Writer, step: int, folder: RunFolder, console: Console, spread: Spread) -> None:
    """How many rules of families that were never trained on survive now; logged, and nothing is learned from it."""
    found = held_out(config.data, config.grpo.watched, spread)
    reached = survival(rollout(found, writer.answers, writer.base.counter(), f"watched-{step}"))
    folder.log(PART, {"kind": "held_out", "step": step, **dataclasses.asdict(reached)})
    console.print(
        f"step {step}: of {reached.rules} rules of held-out families {reached.survived:.0%} survive, "
        f"{reached.false:.1%} of what is claimed is false",
        highlight=False,
    )


def worth_learning(rows: Sequence[Row], reward: Reward, count: Count, easy: float, seed: int) -> list[State]:
    """States in which the greedy answer was worse than the oracle's, and a share of the others, in any order.

    A group in which all answers are perfect has no differences, and nothing can be learned from it.
    """
    rng = random.Random(seed)
    hard, rest = [], []
    for state, answer in rows:
        best = oracle(state)
        worse = answer != best and reward.total(state, answer) < reward.total(state, best)
        (hard if worse else rest).append(state)
    rng.shuffle(rest)
    kept = [*hard, *rest[: max(1, round(easy * len(rows)))]]
    rng.shuffle(kept)
    return kept
