"""A trained policy: memkv's own `trained`, notes that an adapter of the model edits after each chunk."""

from __future__ import annotations

from eval.systems.base import Case, Limits, Memory
from eval.systems.rounds import compact_rounds
from memkv.compaction import strategy

RECALL = "+recall"


class TrainedPolicy:
    """Notes in the room that the budget leaves, then the newest messages.

    Args:
        name: of memkv's strategy: `trained`, `trained:FOLDER`, or `notes`, the same asked of the model as it is;
            `trained+recall` also brings back what a question touches and the ledger calls lost.
    """

    budgeted = True
    sampled = False

    def __init__(self, name: str) -> None:
        self.name = name
        kind, colon, folder = name.partition(":")
        self._recall = kind.endswith(RECALL)
        self._strategy = strategy(kind.removesuffix(RECALL) + colon + folder)

    def remember(self, case: Case, limits: Limits) -> Memory:
        """See `System.remember`."""
        return compact_rounds(case, limits, self._strategy, reads=False, recall=self._recall)
