"""Notes: what a memory policy reads and writes. One fold is notes and new messages in, edits of the notes out.

A policy that writes edits instead of a new summary copies nothing twice: a line that nobody touches stays word for word
through any number of compactions. The grammar, one edit a line:

    + a new note            - 3 (note 3 no longer holds)        3. what note 3 says now
    LOST: topic 80%         (there is no room for it, or it may have been got wrong)        No change.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from memkv.turns import Message

INSTRUCTION = (
    "You keep the notes of a conversation: the user's rules that are in force, in their words. Reply with edits, one a "
    "line: '+ note' for a new one, '- number' for one that no longer holds, 'number. note' for one that changed, "
    "'LOST: topic 90%' for what there is no room for, or 'No change.'"
)
NO_CHANGE = "No change."
NO_NOTES = "(none)"
BULLET = "- "
ADD = re.compile(r"\+\s+(\S.*)")
DROP = re.compile(r"-\s*(\d{1,3})\.?")
CHANGE = re.compile(r"(\d{1,3})[.):]\s+(\S.*)")
LOST = re.compile(r"LOST:\s+(\S.*?)\s+(\d{1,3})\s?%")

Count = Callable[[str], int]  # tokens of a text


@dataclass(frozen=True)
class Edit:
    """One change to the notes. `number` is a note's, counted from 1; None for a new one. `text` is empty for a drop."""

    kind: Literal["add", "drop", "change"]
    number: int | None
    text: str


@dataclass(frozen=True)
class Loss:
    """What a policy says that it does not keep: a topic, and the probability that it is lost."""

    topic: str
    probability: float


@dataclass(frozen=True)
class Written:
    """A policy's answer. `malformed` are lines that are no edit, or edits of notes that do not exist."""

    edits: tuple[Edit, ...]
    losses: tuple[Loss, ...]
    malformed: tuple[str, ...]


@dataclass(frozen=True)
class Note:
    """One line of the notes. `before` is its number before the fold; None for one that the fold added.

    `changed` is whether the fold gave it a new text.
    """

    text: str
    before: int | None = None
    changed: bool = False


def prompt(notes: Sequence[str], window: Sequence[Piece], room: int, count: Count) -> list[Message]:
    """What the policy reads: the notes, numbered, how many tokens they may take and take now, and the new messages."""
    numbered = "\n".join(f"{number}. {note}" for number, note in enumerate(notes, 1)) or NO_NOTES
    spoken = "\n".join(f"{piece.role.capitalize()}: {piece.text}" for piece in window)
    text = f"Notes ({size(notes, count)} of {room} tokens):\n{numbered}\n\nNew messages:\n{spoken}"
    return [Message(role="system", content=INSTRUCTION), Message(role="user", content=text)]


def parse(answer: str, notes: int) -> Written:
    """Edits in `answer` to as many `notes`; a line cut off by the end of the answer counts as malformed or as it reads.

    An answer without a single edit, loss or "No change." is malformed as a whole.
    """
    edits: list[Edit] = []
    losses: list[Loss] = []
    malformed: list[str] = []
    touched: set[int] = set()
    lines = [line.strip() for line in answer.strip().splitlines() if line.strip()]
    for line in lines:
        if match := ADD.fullmatch(line):
            edits.append(Edit("add", None, match[1]))
        elif match := LOST.fullmatch(line):
            losses.append(Loss(match[1], min(int(match[2]), 100) / 100))
        elif (match := DROP.fullmatch(line) or CHANGE.fullmatch(line)) and _free(int(match[1]), notes, touched):
            touched.add(int(match[1]))
            text = match[2] if match.re is CHANGE else ""
            edits.append(Edit("change" if text else "drop", int(match[1]), text))
        elif line != NO_CHANGE or len(lines) > 1:
            malformed.append(line)
    if not lines:
        malformed.append("")
    return Written(tuple(edits), tuple(losses), tuple(malformed))


def _free(number: int, notes: int, touched: set[int]) -> bool:
    """Whether there is such a note and no edit has named it before."""
    return 1 <= number <= notes and number not in touched


def write(edits: Sequence[Edit], losses: Sequence[Loss] = ()) -> str:
    """Edits as a policy writes them; the inverse of `parse`."""
    lines = []
    for edit in edits:
        match edit.kind:
            case "add":
                lines.append(f"+ {edit.text}")
            case "drop":
                lines.append(f"- {edit.number}")
            case "change":
                lines.append(f"{edit.number}. {edit.text}")
    lines += [f"LOST: {loss.topic} {round(100 * loss.probability)}%" for loss in losses]
    return "\n".join(lines) or NO_CHANGE


def apply(notes: Sequence[str], written: Written) -> tuple[Note, ...]:
    """The notes after the edits: what stays in its order, then what is new; a note said before is not added again."""
    edits = {edit.number: edit for edit in written.edits if edit.number is not None}
    kept: list[Note] = []
    for number, note in enumerate(notes, 1):
        edit = edits.get(number)
        if edit is None:
            kept.append(Note(note, number))
        elif edit.kind == "change":
            kept.append(Note(edit.text, number, changed=True))
    present = {note.text.casefold() for note in kept}
    for edit in written.edits:
        if edit.kind == "add" and edit.text.casefold() not in present:
            present.add(edit.text.casefold())
            kept.append(Note(edit.text))
    return tuple(kept)


def truncate(notes: Sequence[Note], room: int, count: Count) -> tuple[Note, ...]:
    """The first notes that fit `room` tokens; a policy that does not make room first loses the newest."""
    kept: list[Note] = []
    for note in notes:
        if size([each.text for each in (*kept, note)], count) > room:
            break
        kept.append(note)
    return tuple(kept)


def size(notes: Sequence[str], count: Count) -> int:
    """Tokens that notes take as lines of a context."""
    return count(as_text(notes)) if notes else 0


def as_text(notes: Sequence[str]) -> str:
    """Notes as they stand in a context."""
    return "\n".join(f"{BULLET}{note}" for note in notes)


@dataclass(frozen=True)
class Piece:
    """A message, or a part of a long one. `turn` is the index of the message."""

    turn: int
    role: str
    text: str


def windows(turns: Sequence[Message], most: int, count: Count) -> list[list[Piece]]:
    """Messages in portions of at most `most` tokens, which a policy reads one after the other.

    Portions begin with a user's message where they can; a message longer than `most` is cut at lines, then at
    sentences, then at words.
    """
    found: list[list[Piece]] = []
    held = 0
    for index, turn in enumerate(turns):
        for piece in pieces(turn["content"], most, count):
            tokens = count(piece)
            goes_on = turn["role"] != "user" and held + tokens <= most * 5 // 4  # an answer stays with its question
            if not found or (held + tokens > most and not goes_on):
                found.append([])
                held = 0
            found[-1].append(Piece(index, turn["role"], piece))
            held += tokens
    return found


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
