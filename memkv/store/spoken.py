"""Messages as one text under the day on which they were said: how a memory of another conversation reads."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from memkv.store.records import Memory

GONE = "(What was said here was forgotten.)"


def as_text(said: Sequence[Memory]) -> str:
    """Messages under the day on which they were said; of none, that they are gone."""
    if not said:
        return GONE
    day = datetime.fromtimestamp(said[0].created)
    spoken = (f"{message.role.capitalize()}: {message.text}" for message in said)
    return "\n".join([f"From our conversation of {day:%A}, {day.day} {day:%B %Y}:", *spoken])
