"""No memory: the question alone. The floor."""

from __future__ import annotations

from eval.systems.base import Case, Limits, Memory, constant


class NoMemory:
    """Nothing is kept."""

    name = "none"
    budgeted = False
    sampled = False

    def remember(self, case: Case, limits: Limits) -> Memory:
        """See `System.remember`."""
        return Memory(messages=constant([]), text="", at_rest={})
