"""Single messages that change what is in force, and as many that do not: which of the notes no longer holds?

Whole windows hold few changes, and the notes in them stand in the order in which the rules were said: a small model
learns to take out the first. Here the notes stand in any order, and the prompts are short.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterable, Iterator, Sequence

from memkv.compaction.notes import Count
from train.data import Episode, follow
from train.states import Row, State, oracle, targets_of


def drills(found: Iterable[Episode], count: Count, seed: int) -> Iterator[Row]:
    """Every message that changes or ends a rule, and as many others of the same conversations, with right answers."""
    for one in found:
        rng = random.Random(f"{seed}/{one.scenario.id}/{one.scenario.seed}/drill")
        before = [state.notes for state, _ in follow(one, lambda state: oracle(state, count), count, "drill")]
        changes, others = messages_of(one)
        for fold, place in [*changes, *rng.sample(others, min(len(others), len(changes)))]:
            state = moment(one, fold, place, shuffled(before[fold], rng))
            yield state, oracle(state, count)


def messages_of(one: Episode) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Window and place of the user's messages that change a rule of before, and of the others; no first window."""
    changes, others = [], []
    for fold in range(1, len(one.windows)):
        earlier = zip(one.places[fold], one.standings[fold - 1], strict=True)
        changing = {place for place, standing in earlier if place is not None and standing.wording}
        for place in range(sum(turn.role == "user" for turn in one.windows[fold])):
            (changes if place in changing else others).append((fold, place))
    return changes, others


def moment(one: Episode, fold: int, place: int, notes: Sequence[str]) -> State:
    """The compaction of one message with its answer alone, as if nothing else were in its window."""
    window = one.windows[fold]
    users = [index for index, turn in enumerate(window) if turn.role == "user"]
    end = users[place + 1] if place + 1 < len(users) else len(window)
    of_each = list(zip(one.places[fold], one.standings[fold], one.standings[fold - 1], strict=True))
    standings = [now if at == place else before for at, now, before in of_each]
    return State(
        id=f"{one.scenario.id}/{fold}.{place}/drill",
        fold=fold,
        notes=tuple(notes),
        turns=window[users[place] : end],
        room=one.room,
        targets=targets_of(standings, notes, [0 if at == place else None for at, _, _ in of_each]),
    )


def mixed(rows: Iterable[Row], rng: random.Random) -> Iterator[Row]:
    """The same rows with their notes in any order; an answer names notes by their words, so it stays right."""
    for state, answer in rows:
        yield dataclasses.replace(state, notes=shuffled(state.notes, rng)), answer


def shuffled(notes: Sequence[str], rng: random.Random) -> tuple[str, ...]:
    """The notes in any order."""
    return tuple(rng.sample(list(notes), len(notes)))
