"""Talk that tests of sessions share."""

from __future__ import annotations

from memkv.compaction import to_messages
from memkv.session import Session

POLICY = "1. Never name a source.\n2. Headlines must be at most 62 characters.\nWe meet on Tuesdays."


def talk(session: Session, turns: int, start: int = 0) -> None:
    for turn in range(start, start + turns):
        session.turn(f"Question {turn}: what of item {turn * 7}?", max_new_tokens=8)


def in_full(session: Session) -> list[int]:
    """The tokens that a single reading of the context gives."""
    chat = session.model.chat
    return chat.encode(chat.stable(to_messages(session.model, session.context)))
