"""What a memory policy declares of each message: the probability that the commitment in it is still in the notes.

A policy says itself what it had no room for (`LOST: topic 90%`). What it overlooked it cannot say, so the ledger also
looks at how much of the message the notes hold. The sum goes through a logistic curve that was fitted where the truth
is known (Platt scaling on dev families: `python -m train.ledger`), and is shipped beside the adapter.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from memkv.compaction.base import Item, word_overlap
from memkv.compaction.notes import Loss
from memkv.compaction.rules import BULLET, find_rules
from memkv.config import from_mapping
from memkv.errors import ConfigError

FILE = "ledger.json"
MADE_FROM = 0.6  # share of a note's words that a message must hold for the note to be made from it
ABOUT = 0.5  # share of a topic's words that a message must hold for the declaration to be about it


@dataclass(frozen=True)
class Evidence:
    """What there is to see of one message.

    Attributes:
        notes: notes made from it.
        held: of its sentences worded as rules, or of its list's entries, the share that a note is there for; 1 where it
            has a note and no such sentence, 0 where it has none.
        declared: the highest probability of loss that was declared of it.
        sure: of the notes made from it, the least `Item.sure`; 1 where none has any.
    """

    notes: tuple[int, ...]
    held: float
    declared: float
    sure: float = 1.0

    @property
    def drive(self) -> float:
        """Log-odds before calibration."""
        return (
            BIAS + NOTED * bool(self.notes) + HELD * self.held + DECLARED * self.declared + SURE * math.log(self.sure)
        )


# Weights of the evidence before calibration, and what they start from.
BIAS, NOTED, HELD, DECLARED, SURE = -2.0, 3.0, 1.5, -2.0, 1.0
LEAST_SURE = 1e-3


@dataclass(frozen=True)
class Calibration:
    """A logistic curve over the weighed evidence (Platt 1999); the default is for policies that nobody calibrated."""

    slope: float = 1.0
    intercept: float = 0.0

    def probability(self, evidence: Evidence) -> float:
        """That the message's commitment is still said."""
        drive = self.slope * evidence.drive + self.intercept
        return 1 / (1 + math.exp(-max(-30.0, min(30.0, drive))))


def load_calibration(folder: Path) -> Calibration:
    """The curve beside an adapter; the default where there is none.

    Raises:
        ConfigError: the file is there and is no calibration.
    """
    path = folder / FILE
    if not path.exists():
        return Calibration()
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"Cannot read {path}: {error}", "Fit it again: python -m train.ledger.") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path} is no mapping", "Fit it again: python -m train.ledger.")
    return from_mapping(Calibration, data, str(path))


def evidence(message: Item, notes: Sequence[Item], losses: Sequence[Loss]) -> Evidence:
    """What the notes and declarations of now show of `message`."""
    made = [note for note in notes if word_overlap(note.text, message.text) >= MADE_FROM]
    entries = sum(BULLET.match(line) is not None for line in message.text.splitlines())
    worded = max(entries, len(find_rules(message.text)))
    held = min(1.0, len(made) / max(1, worded))
    sure = min((note.sure for note in made if note.kind == "summary" and note.sure is not None), default=1.0)
    about = [loss.probability for loss in losses if word_overlap(loss.topic, message.text) >= ABOUT]
    return Evidence(tuple(note.n for note in made), held, max(about, default=0.0), max(LEAST_SURE, sure))
