"""Notes: what a memory policy reads and writes. One fold is notes and new messages in, edits of the notes out.

A policy that writes edits instead of a new summary copies nothing twice: a line that nobody touches stays word for word
through any number of compactions. It goes through the user's messages by their letters, so that it decides of each one
whether it says anything to keep. The grammar, one edit a line:

    A                       (what follows comes of message A; what stands before, of the notes alone)
    + a new note            ~ a note that takes the place of the one about the same
    - what it is about      (the note about it no longer holds)
    LOST: topic 80%         (there is no room for it, or it may have been got wrong)        No change.

Which note is meant is found by the words that it shares: a small model copies words surely, but of families of rules
that it was not trained on it looks up the wrong note.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Literal

from memkv.turns import Message

INSTRUCTION = (
    "You keep the notes of a conversation: the user's rules that are in force, in their words. Write the letter of "
    "each message, and below it '+ note' for a new rule, '~ note' for one that changed, '- topic' for one that is "
    "over, 'LOST: topic 90%' for what there is no room for."
)
SIGNS = {"add": "+", "change": "~", "drop": "-"}
NO_CHANGE = "No change."
NO_NOTES = "(none)"
BULLET = "- "
STEM = 5  # letters by which words are compared: approve, approves, approved
FUNCTION_WORDS = frozenset(
    "the and for may must not has have had are you your our with that this who when what how any all one will can but "
    "was were into from its his her their them they she him out always never only every each been does did "
    "should".split()
)
MEANT = 0.2  # share of the rarer words, of a note or of what names it, that both must hold
HEARD = 12  # words of an assistant's message that the policy reads: rules are the user's
ADD = re.compile(r"\+\s+(\S.*)")
CHANGE = re.compile(r"~\s+(\S.*)")
DROP = re.compile(r"-\s+(\S.*)")
LETTERS = re.compile(r"([A-Z]{1,2})[.:]?")
LOST = re.compile(r"LOST:\s+(\S.*?)\s+(\d{1,3})\s?%")

Count = Callable[[str], int]  # tokens of a text


@dataclass(frozen=True)
class Edit:
    """One change to the notes.

    Attributes:
        kind: of add, change and drop.
        text: of the new note; of a drop, what it is about.
        under: index of the user's message that it comes of; None where it stands before all of them.
        number: of the note that goes, counted from 1; None where there is none such.
    """

    kind: Literal["add", "change", "drop"]
    text: str
    under: int | None = None
    number: int | None = None


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
    """One line of the notes.

    Attributes:
        before: its number before the fold; None for one that the fold added.
        under: index of the user's message that the fold took it from, if it said so.
    """

    text: str
    before: int | None = None
    under: int | None = None


def prompt(notes: Sequence[str], window: Sequence[Piece], room: int, count: Count) -> list[Message]:
    """What the policy reads: the notes, how many tokens they may take and take now, and the new messages.

    The user's messages have letters.
    """
    letters = iter(range(len(window)))
    names = [letter(next(letters)) if piece.role == "user" else piece.role.capitalize() for piece in window]
    spoken = "\n".join(f"{name}: {piece.text}" for name, piece in zip(names, window, strict=True))
    text = f"Notes ({size(notes, count)} of {room} tokens):\n{as_text(notes) or NO_NOTES}\n\nNew messages:\n{spoken}"
    return [Message(role="system", content=INSTRUCTION), Message(role="user", content=text)]


def letter(index: int) -> str:
    """A to Z, then AA to ZZ."""
    first, second = divmod(index, len(ascii_uppercase))
    return (ascii_uppercase[first - 1] if first else "") + ascii_uppercase[second]


def index_of(letters: str) -> int:
    """The inverse of `letter`."""
    index = 0
    for each in letters:
        index = index * len(ascii_uppercase) + ascii_uppercase.index(each) + 1
    return index - 1


def parse(answer: str, notes: Sequence[str]) -> Written:
    """Edits in `answer` to `notes`; a line cut off by the end of the answer counts as malformed or as it reads.

    An empty answer is malformed as a whole.
    """
    edits: list[Edit] = []
    losses: list[Loss] = []
    malformed: list[str] = []
    left: dict[int | None, str] = dict(enumerate(notes, 1))
    under: int | None = None
    lines = [line.strip() for line in answer.strip().splitlines() if line.strip()]
    for line in lines:
        if match := LETTERS.fullmatch(line):
            under = index_of(match[1])
        elif match := ADD.fullmatch(line):
            edits.append(Edit("add", match[1], under))
        elif match := LOST.fullmatch(line):
            losses.append(Loss(match[1], min(int(match[2]), 100) / 100))
        elif match := CHANGE.fullmatch(line) or DROP.fullmatch(line):
            number = meant(match[1], left)
            edits.append(Edit("change" if match.re is CHANGE else "drop", match[1], under, number))
            left.pop(number, None)
        elif line != NO_CHANGE or len(lines) > 1:
            malformed.append(line)
    if not lines:
        malformed.append("")
    return Written(tuple(edits), tuple(losses), tuple(malformed))


def meant(words: str, notes: Mapping[int | None, str]) -> int | None:
    """Number of the note that `words` are, or are about: rare words that both hold count most. None where none is."""
    said = words.casefold()
    if (same := next((n for n, note in notes.items() if note.casefold() == said), None)) is not None:
        return same
    stems = {n: stems_of(note) for n, note in notes.items()}
    seen = Counter(stem for each in stems.values() for stem in each)

    def weight(some: set[str]) -> float:
        """Of words: the rarer among the notes, the more."""
        return sum(math.log(1 + len(notes) / max(1, seen[stem])) for stem in some)

    asked = stems_of(words)
    shared = {n: weight(each & asked) for n, each in stems.items() if each & asked}
    near = {n: found / math.sqrt(weight(stems[n])) for n, found in shared.items()}
    best = max(near, key=lambda n: near[n], default=None)
    return best if best is not None and shared[best] >= MEANT * min(weight(stems[best]), weight(asked)) else None


def stems_of(text: str) -> set[str]:
    """What a text's content words begin with."""
    words = re.findall(r"[^\W\d_]{3,}|\d+", text.lower())
    return {word[:STEM] for word in words if word not in FUNCTION_WORDS}


def write(edits: Sequence[Edit], losses: Sequence[Loss] = (), messages: int = 0) -> str:
    """Edits as a policy writes them of a window with so many of the user's messages; the inverse of `parse`."""
    lines = [as_line(edit) for edit in edits if edit.under is None]
    for index in range(messages):
        lines += [letter(index), *(as_line(edit) for edit in edits if edit.under == index)]
    lines += [f"LOST: {loss.topic} {round(100 * loss.probability)}%" for loss in losses]
    return "\n".join(lines) or NO_CHANGE


def as_line(edit: Edit) -> str:
    """One edit in the grammar."""
    return f"{SIGNS[edit.kind]} {edit.text}"


def apply(notes: Sequence[str], written: Written) -> tuple[Note, ...]:
    """The notes after the edits: what stays in its order, then what is new; a note said before is not added again."""
    gone = {edit.number for edit in written.edits if edit.kind != "add"}
    kept = [Note(note, number) for number, note in enumerate(notes, 1) if number not in gone]
    present = {note.text.casefold() for note in kept}
    for edit in written.edits:
        if edit.kind != "drop" and edit.text.casefold() not in present:
            present.add(edit.text.casefold())
            kept.append(Note(edit.text, under=edit.under))
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
    sentences, then at words. Of an assistant's message the beginning is read.
    """
    found: list[list[Piece]] = []
    held = 0
    for index, turn in enumerate(turns):
        for piece in pieces(heard(turn), most, count):
            tokens = count(piece)
            goes_on = turn["role"] != "user" and held + tokens <= most * 5 // 4  # an answer stays with its question
            if not found or (held + tokens > most and not goes_on):
                found.append([])
                held = 0
            found[-1].append(Piece(index, turn["role"], piece))
            held += tokens
    return found


def heard(turn: Message) -> str:
    """What the policy reads of a message."""
    words = turn["content"].split()
    if turn["role"] == "user" or len(words) <= HEARD:
        return turn["content"]
    return f"{' '.join(words[:HEARD])} ..."


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
