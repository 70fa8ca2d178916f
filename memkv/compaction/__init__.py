"""Strategies that make a context smaller, each with an account of what left it."""

from __future__ import annotations

from memkv.compaction.base import (
    Compaction,
    CompactionStrategy,
    Context,
    Item,
    LedgerEntry,
    LossLedger,
    to_messages,
)
from memkv.compaction.pinned import Pinned
from memkv.compaction.summary import Summary
from memkv.compaction.truncate import Truncate
from memkv.errors import ConfigError

__all__ = [
    "Compaction",
    "CompactionStrategy",
    "Context",
    "Item",
    "LedgerEntry",
    "LossLedger",
    "Pinned",
    "Summary",
    "Truncate",
    "strategy",
    "to_messages",
]

STRATEGIES = ("truncate", "summary", "pinned", "pinned+summary")


def strategy(name: str) -> CompactionStrategy:
    """A strategy by name.

    Raises:
        ConfigError: unknown name.
    """
    match name:
        case "truncate":
            return Truncate()
        case "summary":
            return Summary()
        case "pinned":
            return Pinned()
        case "pinned+summary":
            return Summary(pin_rules=True)
    raise ConfigError(f"Unknown compaction strategy {name!r}", f"Choose from: {', '.join(STRATEGIES)}.")
