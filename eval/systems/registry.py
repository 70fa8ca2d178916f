"""The verbatim rule registry: sentences worded as rules stay, the rest leaves ("pinning", arXiv 2606.22528)."""

from __future__ import annotations

from eval.systems.base import Case, Limits, Memory
from eval.systems.rounds import compact_rounds
from memkv.compaction import Pinned


class Registry:
    """memkv's own `pinned`, then the newest messages; rules that do not fit leave, the oldest first."""

    name = "registry"
    budgeted = True
    sampled = False

    def remember(self, case: Case, limits: Limits) -> Memory:
        """See `System.remember`."""
        return compact_rounds(case, limits, Pinned(), reads=False)
