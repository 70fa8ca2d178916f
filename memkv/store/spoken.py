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
    spoken = (f"{message.role.capitalize()}: {message.text}" for message in said)
    return "\n".join([heading(said[0].created), *spoken])


def as_notes(created: float, notes: Sequence[str]) -> str:
    """Notes of a stretch under the day on which it was said."""
    return "\n".join([heading(created), *(f"- {note}" for note in notes)])


def heading(created: float) -> str:
    """The day of something said, in seconds since 1970."""
    day = datetime.fromtimestamp(created)
    return f"From our conversation of {day:%A}, {day.day} {day:%B %Y}:"
