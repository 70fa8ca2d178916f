"""The trained policy: memkv's own `trained`, notes that an adapter of the model edits after each chunk."""

from __future__ import annotations

from pathlib import Path

from eval.systems.base import Case, Limits, Memory
from eval.systems.rounds import compact_rounds
from memkv.compaction.trained import TrainedSummary


class TrainedPolicy:
    """Notes in the room that the budget leaves, then the newest messages.

    Args:
        adapter: folder of the adapter; None asks the model as it is.
        pin_rules: let the registry's sentences compete with the notes.
    """

    budgeted = True
    sampled = False

    def __init__(self, adapter: Path | None, pin_rules: bool = False) -> None:
        self.strategy = TrainedSummary(adapter, pin_rules)
        self.name = self.strategy.name

    def remember(self, case: Case, limits: Limits) -> Memory:
        """See `System.remember`."""
        return compact_rounds(case, limits, self.strategy, reads=False)
