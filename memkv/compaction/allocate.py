"""One byte budget for all commitments: which stay word for word, which as a note, which are left to the store.

Every commitment has up to three forms with a price in tokens and a worth: the probability that whoever asks for it
later gets it right. The choice that is worth most within the budget is found exactly (a multiple-choice knapsack).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Form = Literal["verbatim", "note", "store", "drop"]


@dataclass(frozen=True)
class Commitment:
    """Something that was agreed on.

    Attributes:
        note: how the policy words it; empty if it did not note it.
        verbatim: the sentence as it was said; empty if it is not known.
        binds: probability that it is a commitment in force at all.
        noted: probability that the note says it rightly.
    """

    note: str = ""
    verbatim: str = ""
    binds: float = 1.0
    noted: float = 1.0


@dataclass(frozen=True)
class Prices:
    """Tokens of each form of one commitment."""

    verbatim: int
    note: int


@dataclass(frozen=True)
class Worth:
    """How likely each form is to answer a question later: measured on dev, in the order of cost.

    Attributes:
        verbatim: read word for word.
        store: brought back when a question touches it.
    """

    verbatim: float = 1.0
    store: float = 0.6


def allocate(
    commitments: Sequence[Commitment], prices: Sequence[Prices], room: int, worth: Worth | None = None
) -> list[Form]:
    """The form of each commitment.

    The sum over commitments of probability times worth is the largest that `room` tokens allow. One that does not bind
    for sure is dropped.
    """
    worth = worth or Worth()
    left = max(0, room)
    # best[t]: the largest sum with at most t tokens, and the forms that give it.
    best: list[tuple[float, tuple[Form, ...]]] = [(0.0, ())] * (left + 1)
    for commitment, price in zip(commitments, prices, strict=True):
        forms = _forms(commitment, price, worth)
        best = [
            max(
                ((best[t - cost][0] + gain, (*best[t - cost][1], form)) for form, cost, gain in forms if cost <= t),
                key=lambda option: option[0],
            )
            for t in range(left + 1)
        ]
    return list(best[left][1])


def _forms(commitment: Commitment, price: Prices, worth: Worth) -> list[tuple[Form, int, float]]:
    """The forms that a commitment can have: name, tokens, gain. The cheaper comes first, so that it wins a tie."""
    if commitment.binds <= 0:
        return [("drop", 0, 0.0)]
    forms: list[tuple[Form, int, float]] = [("store", 0, commitment.binds * worth.store)]
    if commitment.note:
        forms.append(("note", price.note, commitment.binds * commitment.noted))
    if commitment.verbatim:
        forms.append(("verbatim", price.verbatim, commitment.binds * worth.verbatim))
    return forms
