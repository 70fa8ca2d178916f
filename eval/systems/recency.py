"""Recency: the newest messages that fit; the oldest leave. What a chat does that runs out of context."""

from __future__ import annotations

from eval.systems.base import Case, Limits, Memory
from eval.systems.rounds import compact_rounds
from memkv.compaction import Truncate


class Recency:
    """Truncation by memkv's own strategy."""

    name = "recency"
    budgeted = True
    sampled = False

    def remember(self, case: Case, limits: Limits) -> Memory:
        """See `System.remember`."""
        return compact_rounds(case, limits, Truncate(), reads=False)
