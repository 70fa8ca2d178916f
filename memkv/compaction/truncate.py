"""Truncation: the oldest messages leave."""

from __future__ import annotations

from memkv.compaction.base import Compaction, Context, ledger_of, with_recent


class Truncate:
    """Keep the standing items and the newest messages that fit. The baseline every strategy has to beat."""

    name = "truncate"

    def compact(self, context: Context, budget: int) -> Compaction:
        """See `CompactionStrategy.compact`."""
        items = with_recent(context, context.standing("system", "rule", "summary"), budget)
        before = context.live.size().payload
        return Compaction(items, before, context.bytes_of(items), ledger_of(context.items, items))
