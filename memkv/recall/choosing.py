"""Which memories come back within a byte budget, and in which form: their worth, and a knapsack over their bytes.

A memory comes back whole, if it is one of the few nearest, or only with what it lays down: its notes that are in force.
What it is worth is how near it is to what was said, a little more if it is recent, and more if it holds a rule. Of two
that say the same only the later one comes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from memkv.recall.nearest import Address

Form = Literal["notes", "part", "whole"]  # a part stands for the whole where that is too large

RECENT = 0.1  # what a memory of this moment is worth more, in cosine
HALF_LIFE = 14 * 24 * 3600.0  # seconds in which half of that is gone
STANDING = 0.15  # what a memory that holds a rule is worth more, and one whose rules are over is worth less
LEAST = 0.25  # worth below which nothing comes back whole: of MiniLM's cosines unrelated texts reach about 0.1
SHARP = 0.1  # by so much in worth one memory is worth e of another: two that are half as near are no match for one
BESIDE = 0.25  # what a whole memory still adds to its notes
WHOLE = 2  # memories that come back whole for one message: more of them keep a small reader from finding what it needs
NOTED = 8  # memories of which notes come back for one message: they are read, however many sessions there were
SAME = 0.95  # cosine from which on two memories say the same
STEPS = 512  # parts into which the budget is divided


@dataclass(frozen=True)
class Candidate:
    """A memory that might come back.

    Attributes:
        address: of the memory.
        nbytes: of cache that it takes whole, measured.
        cosine: of what in it is nearest to what was said.
        age: seconds since it was said.
        standing: 1 where it holds a rule that is in force, -1 where all of its rules are over.
        noted: bytes of cache that its notes in force take; 0 where there are none.
    """

    address: Address
    nbytes: int
    cosine: float
    age: float
    standing: Literal[-1, 0, 1] = 0
    noted: int = 0

    @property
    def worth(self) -> float:
        """In units of cosine."""
        recent: float = 0.5 ** (max(0.0, self.age) / HALF_LIFE)
        return self.cosine + RECENT * recent + STANDING * self.standing

    def forms(self, whole: bool, noted: bool) -> list[tuple[Form, int, float]]:
        """Forms in which it can come, if it may come whole or noted, with the bytes that each takes and its value."""
        value = math.exp(self.worth / SHARP)
        found: list[tuple[Form, int, float]] = []
        if noted:
            found.append(("notes", self.noted, value))
        if self.worth >= LEAST and whole:
            found.append(("whole", self.nbytes, value * (1 + BESIDE) if self.noted else value))
        return found


def choose(
    candidates: Sequence[Candidate], vectors_ND: Sequence[NDArray[np.float32]], budget: int
) -> list[tuple[Candidate, Form]]:
    """The candidates that are worth most together within `budget` bytes, and their forms, the oldest first.

    Args:
        candidates: in any order.
        vectors_ND: of the candidates, of length 1.
        budget: bytes.
    """
    unique = set(without_repetitions(candidates, vectors_ND))
    holding = [place for place, each in enumerate(candidates) if each.noted]
    near = set(sorted(holding, key=lambda place: -candidates[place].worth)[:NOTED])
    forms = [
        [form for form in each.forms(place in unique, place in near) if form[1] <= budget]
        for place, each in enumerate(candidates)
    ]
    taken = knapsack([[(size, value, form == "whole") for form, size, value in each] for each in forms], budget, WHOLE)
    chosen = [(candidates[place], forms[place][option][0]) for place, option in enumerate(taken) if option is not None]
    return sorted(chosen, key=lambda each: -each[0].age)


def without_repetitions(candidates: Sequence[Candidate], vectors_ND: Sequence[NDArray[np.float32]]) -> list[int]:
    """Indices of the candidates without those that a later one repeats."""
    kept: list[int] = []
    for index in sorted(range(len(candidates)), key=lambda i: candidates[i].age):
        if all(float(vectors_ND[index] @ vectors_ND[other]) < SAME for other in kept):
            kept.append(index)
    return kept


def knapsack(items: Sequence[Sequence[tuple[int, float, bool]]], budget: int, most: int) -> list[int | None]:
    """Of each item at most one option, so that the values are greatest in all and the sizes fit the budget.

    Sizes are rounded up to a 512th of the budget.

    Args:
        items: options of each as (size, value, whether it counts).
        budget: in the sizes' unit.
        most: options that count, of all that are taken.
    """
    best = np.zeros((len(items) + 1, most + 1, STEPS + 1))  # of the first items, by how many count and what they take
    steps = [[-(-size * STEPS // max(1, budget)) for size, *_ in options] for options in items]
    for place, options in enumerate(items):
        before, after = best[place], best[place + 1]
        after[:] = before
        for size, (_, value, counts) in zip(steps[place], options, strict=True):
            if size <= STEPS:
                with_it = before[: most + 1 - counts, : STEPS + 1 - size] + value
                after[counts:, size:] = np.maximum(after[counts:, size:], with_it)
    taken: list[int | None] = [None] * len(items)
    left, free = STEPS, most
    for place in reversed(range(len(items))):
        reached = best[place + 1, free, left]
        if reached == best[place, free, left]:
            continue
        for option, (size, (_, value, counts)) in enumerate(zip(steps[place], items[place], strict=True)):
            fits = size <= left and counts <= free
            if fits and best[place, free - counts, left - size] + value == reached:
                taken[place] = option
                left, free = left - size, free - counts
                break
    return taken
