"""Rollouts: many conversations at once, each compacted window by window by the policy as it is now."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

from rich.progress import track

from memkv.compaction.windows import Count
from train.data import Episode, follow
from train.rewards import read_notes
from train.states import State, oracle

WriteAll = Callable[[Sequence[State]], list[str]]


@dataclass(frozen=True)
class Step:
    """A state, what was written in answer to it, and the notes that this left."""

    state: State
    answer: str
    notes: tuple[str, ...]


def rollout(
    found: Sequence[Episode], write: WriteAll, count: Count, how: str, folds: int | None = None, seed: int = 0
) -> list[list[Step]]:
    """Every episode from beginning to end; the n-th windows of all are answered together.

    With `folds` only so many windows of each, from a place drawn with `seed` on, with the oracle's notes of before: so
    that what is played is like the whole conversation, amendments and full notes included.
    """
    rng = random.Random(seed)
    starts = [0 if folds is None else rng.randint(0, max(0, len(one.windows) - folds)) for one in found]
    notes = [notes_before(one, start, count) for one, start in zip(found, starts, strict=True)]
    paths: list[list[Step]] = [[] for _ in found]
    ends = [len(one.windows) if folds is None else start + folds for one, start in zip(found, starts, strict=True)]
    lengths = [min(end, len(one.windows)) - start for one, start, end in zip(found, starts, ends, strict=True)]
    for step in track(range(max(lengths, default=0)), "Compacting", transient=True):
        going = [index for index, length in enumerate(lengths) if step < length]
        states = [found[i].state(starts[i] + step, notes[i], how) for i in going]
        for index, state, answer in zip(going, states, write(states), strict=True):
            notes[index] = tuple(note.text for note in state.after(answer, count)[2])
            paths[index].append(Step(state, answer, notes[index]))
    return paths


def notes_before(one: Episode, fold: int, count: Count) -> tuple[str, ...]:
    """The oracle's notes before window `fold`."""
    notes: tuple[str, ...] = ()
    for state, answer in islice(follow(one, oracle, count, "oracle"), fold):
        notes = tuple(note.text for note in state.after(answer, count)[2])
    return notes


@dataclass(frozen=True)
class Survival:
    """What the notes say at the end of conversations.

    Attributes:
        survived: share of the rules in force that they say rightly.
        false: share of claimed rules that are not in force.
        stale: share of amended rules whose old value is claimed.
        rules: in force, over all conversations.
    """

    survived: float
    false: float
    stale: float
    rules: int


def survival(paths: Sequence[Sequence[Step]]) -> Survival:
    """Over the last notes of all conversations."""
    right = claimed = false = amended = stale = rules = 0
    for path in paths:
        targets = path[-1].state.targets
        verdicts = read_notes(path[-1].notes, targets)
        for target in targets:
            verdict = verdicts[target.rule.id]
            claimed += verdict != "absent"
            if target.wording:
                rules += 1
                right += verdict == "right"
                amended += target.rule.old_value is not None
                stale += verdict == "stale"
            else:
                false += verdict != "absent"
    return Survival(right / max(1, rules), false / max(1, claimed), stale / max(1, amended), rules)
