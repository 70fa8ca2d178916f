"""Which memories come back within a byte budget: what they are worth, and a knapsack over what they take.

What a memory is worth is how near it is to what was said, a little more if it is recent or if it holds a rule. Of
two that say the same only the later one comes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memkv.recall.nearest import Address
from memkv.recall.standing import Standing

RECENT = 0.1  # what a memory of this moment is worth more, in cosine
HALF_LIFE = 14 * 24 * 3600.0  # seconds in which half of that is gone
STANDING = 0.15  # what a memory that holds a rule is worth more, and one whose rules are over is worth less
LEAST = 0.25  # worth below which nothing comes back: of MiniLM's cosines unrelated texts reach about 0.1
SAME = 0.95  # cosine from which on two memories say the same
STEPS = 512  # parts into which the budget is divided


@dataclass(frozen=True)
class Candidate:
    """A memory that might come back.

    Attributes:
        address: of the memory.
        nbytes: of cache that it takes, measured.
        cosine: to what was said.
        age: seconds since it was said.
        standing: 1 where it holds a rule that is in force, -1 where all of its rules are over.
    """

    address: Address
    nbytes: int
    cosine: float
    age: float
    standing: Standing = 0

    @property
    def worth(self) -> float:
        """In units of cosine."""
        recent: float = 0.5 ** (max(0.0, self.age) / HALF_LIFE)
        return self.cosine + RECENT * recent + STANDING * self.standing


def choose(candidates: Sequence[Candidate], vectors_ND: Sequence[NDArray[np.float32]], budget: int) -> list[Candidate]:
    """The candidates that are worth most together within `budget` bytes, the oldest first.

    Args:
        candidates: in any order.
        vectors_ND: of the candidates, of length 1.
        budget: bytes.
    """
    wanted = [
        index
        for index in without_repetitions(candidates, vectors_ND)
        if candidates[index].worth >= LEAST and candidates[index].nbytes <= budget
    ]
    chosen = knapsack([candidates[i].nbytes for i in wanted], [candidates[i].worth for i in wanted], budget)
    return sorted((candidates[wanted[place]] for place in chosen), key=lambda each: -each.age)


def without_repetitions(candidates: Sequence[Candidate], vectors_ND: Sequence[NDArray[np.float32]]) -> list[int]:
    """Indices of the candidates without those that a later one repeats."""
    kept: list[int] = []
    for index in sorted(range(len(candidates)), key=lambda i: candidates[i].age):
        if all(float(vectors_ND[index] @ vectors_ND[other]) < SAME for other in kept):
            kept.append(index)
    return kept


def knapsack(sizes: Sequence[int], worths: Sequence[float], budget: int) -> list[int]:
    """Places of the items of the greatest worth in all whose sizes, rounded up to a 512th of the budget, fit it."""
    steps = [-(-size * STEPS // max(1, budget)) for size in sizes]  # a purely recurrent model's cache takes no more
    best = np.zeros((len(sizes) + 1, STEPS + 1))
    for place, (size, worth) in enumerate(zip(steps, worths, strict=True)):
        best[place + 1] = best[place]
        taken = best[place, : STEPS + 1 - size] + worth
        best[place + 1, size:] = np.maximum(best[place, size:], taken)
    chosen, left = [], STEPS
    for place in reversed(range(len(sizes))):
        if best[place + 1, left] > best[place, left]:
            chosen.append(place)
            left -= steps[place]
    return chosen[::-1]
