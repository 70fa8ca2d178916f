"""Truncation: the oldest messages leave."""

from __future__ import annotations

from memkv.compaction.base import Compaction, Context, keep_recent


class Truncate:
    """Keep the standing items and the newest messages that fit. The baseline every strategy has to beat."""

    name = "truncate"

    def compact(self, context: Context, aim: int, most: int) -> Compaction:
        """See `CompactionStrategy.compact`."""
        return keep_recent(context, context.standing("system", "rule", "summary"), aim, most)
