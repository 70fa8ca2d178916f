"""Conversations in portions that a policy reads one after the other, and the sentences in them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from memkv.compaction.rules import BULLET, SENTENCE_END, unwrapped
from memkv.turns import Message

ENTRY = re.compile(r"(?:^|(?<=[.!?;:]\s))\(?(\d{1,2})[.)]\s+(?=[A-Z\"“'])")  # "1. Headlines ..."
STAMP = re.compile(r"^\[[^\]]*\d[^\]]*\]\s*")  # when a message was said, if it says so itself
QUOTE = ">"  # at the beginning of a line that somebody else wrote
LONGEST_LEAD = 6  # words of "By the way:"
# Of these, and of function words, a lead consists that says nothing of what follows it.
LEAD_WORDS = frozenset(
    "a also another before btw by change changed correction else first fact forget fyi heads i important in is it "
    "know last matter more new news note now of on one plan please ps question quick reminder remember side so "
    "something that the there thing things think this to unrelated up update way while".split()
)

Count = Callable[[str], int]  # tokens of a text


@dataclass(frozen=True)
class Piece:
    """A message of the user's, or a part of a long one. `turn` is the index of the message."""

    turn: int
    text: str


def windows(turns: Sequence[Message], most: int, count: Count) -> list[list[Piece]]:
    """What the user says in portions of about `most` tokens, which a policy reads one after the other.

    A message longer than `most` is cut at lines, then at sentences, then at words. The assistant's messages are not
    read: rules are the user's, and answers are the longer half of most conversations.
    """
    found: list[list[Piece]] = []
    held = 0
    for index, turn in enumerate(turns):
        if turn["role"] != "user":
            continue
        for piece in pieces(unwrapped(turn["content"]), most, count):
            tokens = count(piece)
            if not found or held + tokens > most:
                found.append([])
                held = 0
            found[-1].append(Piece(index, piece))
            held += tokens
    return found


def sentences(text: str) -> list[str]:
    """Sentences in order; the end of a line ends one too (`unwrapped`), and so does an entry's number inside a line."""
    entries = [entry for line in unwrapped(text).splitlines() for entry in entries_of(line)]
    return [each.strip() for entry in entries for each in SENTENCE_END.split(entry) if each.strip()]


def entries_of(line: str) -> list[str]:
    """A line cut at the numbers of a list's entries: one at its beginning, or a series like "1. ... 2. ..."."""
    marks = list(ENTRY.finditer(line))
    numbers = [int(mark[1]) for mark in marks]
    series = len(marks) > 1 and numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    kept = marks if series else [mark for mark in marks if mark.start() == 0]
    starts, ends = [0, *(mark.end() for mark in kept)], [*(mark.start() for mark in kept), len(line)]
    return [line[start:end] for start, end in zip(starts, ends, strict=True)]


def quoted(sentence: str) -> str:
    """A sentence as a note says it: without date, marks of quotation, bullet, and a lead that says nothing."""
    text = BULLET.sub("", STAMP.sub("", sentence.lstrip("> "))).strip()
    lead, colon, rest = text.partition(": ")
    words = re.findall(r"[a-z']+", lead.lower())
    if colon and len(words) <= LONGEST_LEAD and LEAD_WORDS.issuperset(words):
        text = rest[:1].upper() + rest[1:]
    return text or sentence


def pieces(text: str, most: int, count: Count) -> list[str]:
    """`text` in pieces of at most `most` tokens, cut where it hurts least."""
    if count(text) <= most:
        return [text]
    for cut in (r"(?<=\n)", r"(?<=[.!?])\s+", r"\s+"):
        parts = [part for part in re.split(cut, text) if part.strip()]
        if len(parts) > 1:
            return _joined(parts, most, count)
    return [text]  # one endless word: it is read as it is


def _joined(parts: Sequence[str], most: int, count: Count) -> list[str]:
    """Parts put together again as far as they fit; those that do not fit alone are cut on."""
    found = [""]
    for part in parts:
        for piece in pieces(part, most, count):
            longer = f"{found[-1]}{'' if found[-1].endswith(chr(10)) or not found[-1] else ' '}{piece}"
            if found[-1] and count(longer) > most:
                found.append(piece)
            else:
                found[-1] = longer
    return [piece.strip() for piece in found]
