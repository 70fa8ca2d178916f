"""Strategies that make a context smaller, each with an account of what left it."""

from __future__ import annotations

from pathlib import Path

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
from memkv.compaction.trained import SHIPPED, TrainedSummary
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
    "TrainedSummary",
    "Truncate",
    "strategy",
    "to_messages",
]

STRATEGIES = ("truncate", "summary", "pinned", "pinned+summary", "notes")
TRAINED = ("trained", "pinned+trained")


def strategy(name: str) -> CompactionStrategy:
    """A strategy by name: `trained` is the policy that comes with memkv, `trained:FOLDER` one of your own.

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
        case "notes":
            return TrainedSummary(None)
    kind, colon, folder = name.partition(":")
    if name in TRAINED and not SHIPPED.is_dir():
        raise ConfigError(
            "No trained policy comes with this version of memkv",
            "Train one (train/README.md) and name its folder: trained:FOLDER.",
        )
    if kind in TRAINED and bool(colon) == bool(folder):
        return TrainedSummary(Path(folder) if folder else SHIPPED, pin_rules=kind.startswith("pinned+"))
    known = ", ".join([*STRATEGIES, *TRAINED, *(f"{kind}:FOLDER" for kind in TRAINED)])
    raise ConfigError(f"Unknown compaction strategy {name!r}", f"Choose from: {known}.")
