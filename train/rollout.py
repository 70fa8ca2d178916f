"""Rollouts: many conversations at once, each compacted window by window by the policy as it is now."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.progress import track

from eval.scorers import text_survival
from memkv.compaction.notes import Count, as_text
from train.data import Episode
from train.states import State

WriteAll = Callable[[Sequence[State]], list[str]]


@dataclass(frozen=True)
class Step:
    """A state, what was written in answer to it, and the notes that this left."""

    state: State
    answer: str
    notes: tuple[str, ...]


def rollout(
    found: Sequence[Episode], write: WriteAll, count: Count, how: str, most_folds: int | None = None
) -> list[list[Step]]:
    """Every episode to its end or `most_folds` windows; the n-th windows of all are answered together."""
    paths: list[list[Step]] = [[] for _ in found]
    longest = max((len(one.windows) for one in found), default=0)
    for fold in track(range(min(longest, most_folds or longest)), "Compacting", transient=True):
        going = [index for index, one in enumerate(found) if fold < len(one.windows)]
        states = [found[i].state(fold, paths[i][-1].notes if paths[i] else (), how) for i in going]
        for index, state, answer in zip(going, states, write(states), strict=True):
            notes = tuple(note.text for note in state.after(answer, count)[2])
            paths[index].append(Step(state, answer, notes))
    return paths


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
        found = text_survival(as_text(path[-1].notes), [target.rule for target in targets]).verdicts
        for target in targets:
            verdict = found[target.rule.id].verdict
            claimed += verdict != "absent"
            if target.wording:
                rules += 1
                right += verdict == "right"
                amended += target.rule.old_value is not None
                stale += verdict == "stale"
            else:
                false += verdict != "absent"
    return Survival(right / max(1, rules), false / max(1, claimed), stale / max(1, amended), rules)
