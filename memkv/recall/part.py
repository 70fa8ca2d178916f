"""Of a stretch that is too large to come back whole: the sentences that a message touches, as text."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from memkv.recall.lost import Gone, touched
from memkv.store import Memory
from memkv.store.spoken import heading

MOST = 192  # tokens
AROUND = 16  # tokens of the day, the roles, and the message that they make


def part_of(said: Sequence[Memory], asked: str, room: int, count: Callable[[str], int]) -> str:
    """The sentences under the day on which they were said; empty where none is touched or none fits.

    Args:
        said: messages of the stretch.
        asked: the message.
        room: tokens in all.
        count: tokens of a text.
    """
    if not said:
        return ""
    day, roles = heading(said[0].created), {message.n: message.role for message in said}
    gone = [Gone(message.n, message.text, 1.0) for message in said]
    found = touched(asked, gone, min(MOST, room - count(day) - AROUND), count)
    return "\n".join([day, *(f"{roles[each.n].capitalize()}: {each.text}" for each in found)]) if found else ""
