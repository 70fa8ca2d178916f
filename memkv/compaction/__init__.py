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
from memkv.compaction.shipped import SHIPPED, find_shipped
from memkv.compaction.summary import Summary
from memkv.compaction.trained import TrainedSummary
from memkv.compaction.truncate import Truncate
from memkv.errors import ConfigError
from memkv.model import HybridModel

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
    "default_strategy",
    "strategy",
    "to_messages",
]

STRATEGIES = ("truncate", "summary", "pinned", "pinned+summary", "notes")
TRAINED = ("trained", "pinned+trained")


def default_strategy(model: HybridModel) -> str:
    """The policy that comes with memkv where it was trained on this model, else `pinned+summary`.

    With the registry beside it: what is worded as a rule and the policy passes by is kept all the same.
    """
    folder = find_shipped(model)
    return "pinned+trained" if folder is not None and folder.name == model.name else "pinned+summary"


def strategy(name: str) -> CompactionStrategy:
    """A strategy by name: `trained` is the policy that comes for the model, `trained:FOLDER` one of your own.

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
    if kind in TRAINED and bool(colon) == bool(folder):
        return TrainedSummary(Path(folder) if folder else SHIPPED, pin_rules=kind.startswith("pinned+"))
    known = ", ".join([*STRATEGIES, *TRAINED, *(f"{kind}:FOLDER" for kind in TRAINED)])
    raise ConfigError(f"Unknown compaction strategy {name!r}", f"Choose from: {known}.")
