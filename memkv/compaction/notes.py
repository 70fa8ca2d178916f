"""Notes: what a memory policy reads and writes. One fold is notes and new messages in, edits of the notes out.

A policy that writes edits instead of a new summary copies nothing twice: a line that nobody touches stays word for word
through any number of compactions. It goes through the user's messages by their letters, so that it decides of each one
whether it says anything to keep. The grammar, one edit a line:

    A                       (what follows comes of message A; what stands before, of the notes alone)
    + a new note            ~ a note that takes the place of the one about the same
    - what it is about      (the note about it no longer holds)
    LOST: topic 80%         (there is no room for it, or it may have been got wrong)        No change.

A note that is a sentence of the message, but for slips, becomes that sentence: a small model copies 98 words of 100
rightly, which is every third rule wrongly. Which note is meant by the others is found by the words that it shares: of
families of rules that it was not trained on such a model looks up the wrong one. And where a message speaks of a
change, a new note takes the place of one that shares much with it, also if the policy did not say so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from string import ascii_uppercase
from types import MappingProxyType
from typing import Literal

from memkv.compaction.allocate import Commitment, Prices, allocate
from memkv.compaction.matching import as_said, instead, meant, replaced, takes_back
from memkv.compaction.rules import BINDING
from memkv.compaction.windows import Count, quoted, sentences
from memkv.turns import Message

INSTRUCTION = (
    "Keep the user's rules. Write each message's letter, below it '+ new rule', '~ changed rule', '- what is over'."
)
SIGNS = {"add": "+", "change": "~", "drop": "-"}
NO_CHANGE = "No change."
NO_NOTES = "(none)"
NOTED_RIGHT = 0.95  # share of notes that are right
BULLET = "- "
ADD = re.compile(r"\+\s+(\S.*)")
CHANGE = re.compile(r"~\s+(\S.*)")
DROP = re.compile(r"-\s+(\S.*)")
LETTERS = re.compile(r"([A-Z]{1,2})[.:]?")
LOST = re.compile(r"LOST:\s+(\S.*?)\s+(\d{1,3})\s?%")


@dataclass(frozen=True)
class Edit:
    """One change to the notes.

    Attributes:
        kind: of add, change and drop.
        text: of the new note; of a drop, what it is about.
        under: index of the user's message that it comes of; None where it stands before all of them.
        number: of the note that goes, counted from 1; None where there is none such.
        sure: probability of the token of its line of which the policy was least sure.
    """

    kind: Literal["add", "change", "drop"]
    text: str
    under: int | None = None
    number: int | None = None
    sure: float = 1.0


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
        sure: see `Edit`.
    """

    text: str
    before: int | None = None
    under: int | None = None
    sure: float = 1.0


def prompt(notes: Sequence[str], said: Sequence[str], room: int, count: Count) -> list[Message]:
    """What the policy reads: notes, the tokens that they take and may take, and the user's messages with letters."""
    spoken = "\n".join(f"{letter(number)}: {message}" for number, message in enumerate(said))
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


def parse(
    answer: str, notes: Sequence[str], said: Sequence[str], sure: Mapping[str, float] = MappingProxyType({})
) -> Written:
    """Edits in `answer` to `notes`; a line cut off by the end of the answer counts as malformed or as it reads.

    New notes are taken from what is said in the message of their letter, or else in any of them.

    An empty answer is malformed as a whole.

    Args:
        answer: of the policy.
        notes: that it was given.
        said: the messages that it was given.
        sure: of lines, the probability of the token of which the policy was least sure.
    """
    spoken = [[quoted(sentence) for sentence in sentences(message)] for message in said]
    edits: dict[int, Edit] = {}  # by the numbers that their notes get; drops and changes by numbers of their own
    losses: list[Loss] = []
    malformed: list[str] = []
    left: dict[int | None, str] = dict(enumerate(notes, 1))
    under: int | None = None
    lines = [line.strip() for line in answer.strip().splitlines() if line.strip()]
    for number, line in enumerate(lines, len(notes) + 1):
        if match := LETTERS.fullmatch(line):
            under = index_of(match[1])
        elif (match := ADD.fullmatch(line) or CHANGE.fullmatch(line)) and not LETTERS.fullmatch(match[1]):
            edit = as_edit(match.re is CHANGE, match[1], under, spoken, said, left)
            if edit.text.endswith(":") and not BINDING.search(edit.text):
                continue  # it leads up to a list, whose entries are notes of their own
            edits[number] = replace(edit, sure=sure.get(line, 1.0))
        elif match := LOST.fullmatch(line):
            losses.append(Loss(match[1], min(int(match[2]), 100) / 100))
        elif match := DROP.fullmatch(line):
            edits[number] = Edit("drop", match[1], under, meant(match[1], left))
        elif line != NO_CHANGE or len(lines) > 1:
            malformed.append(line)
        if number in edits:
            settle(edits, number, left, len(notes))
    if not lines:
        malformed.append("")
    for number, edit in enumerate(overlooked(spoken, edits, left), 1 + len(notes) + len(lines)):
        edits[number] = edit
        settle(edits, number, left, len(notes))
    return Written(tuple(edits.values()), tuple(losses), tuple(malformed))


def overlooked(
    spoken: Sequence[Sequence[str]], edits: Mapping[int, Edit], left: Mapping[int | None, str]
) -> list[Edit]:
    """Notes of before that a message takes back in so many words, and under which the policy took out none."""
    taken = {edit.under for edit in edits.values() if edit.number is not None}
    found: dict[int | None, Edit] = {}
    for under, message in enumerate(spoken):
        if under in taken:
            continue
        new = {n for n, edit in edits.items() if (edit.under or 0) >= under}
        earlier = {n: note for n, note in left.items() if n not in new}
        for sentence in filter(takes_back, message):
            number = meant(sentence, earlier, fewest=2)
            if number is not None:
                found[number] = Edit("drop", sentence, under, number)
    return list(found.values())


def settle(edits: dict[int, Edit], number: int, left: dict[int | None, str], before: int) -> None:
    """Let an edit have its effect on what later ones can mean; one of a note that the same answer added undoes that.

    Args:
        edits: so far, by number.
        number: of the new one.
        left: notes that can be meant, by number.
        before: notes that there were before the answer.
    """
    edit = edits[number]
    left.pop(edit.number, None)
    if edit.number is not None and edit.number > before:
        del edits[edit.number]
        edits[number] = edit = replace(edit, kind="drop" if edit.kind == "drop" else "add", number=None)
        if edit.kind == "drop":
            del edits[number]
    if edit.kind != "drop":
        left[number] = edit.text


def as_edit(
    change: bool,
    words: str,
    under: int | None,
    spoken: Sequence[Sequence[str]],
    said: Sequence[str],
    left: Mapping[int | None, str],
) -> Edit:
    """A new or changed note as an edit. A sentence that only takes a rule back is no note: the old one goes.

    Args:
        change: it was written as a changed note.
        words: that the policy wrote.
        under: index of its message.
        spoken: the sentences of each message.
        said: the messages.
        left: the notes that no edit has touched yet, by number.
    """
    text, under = as_said(words, under, spoken)
    if takes_back(text):
        other = instead(text, under, spoken)
        if other is None:
            return Edit("drop", text, under, meant(text, left, fewest=2))
        text = words = other
    heard = said[under] if under is not None and under < len(said) else ""
    number = meant(words, left) if change else replaced(text, heard, left)
    return Edit("change" if change or number is not None else "add", text, under, number)


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
            kept.append(Note(edit.text, under=edit.under, sure=edit.sure))
    return tuple(kept)


def fitting(notes: Sequence[Note], room: int, count: Count) -> tuple[tuple[Note, ...], tuple[Loss, ...]]:
    """The notes that the allocator keeps in `room` tokens, as many as fit, and the others as losses."""
    if size([note.text for note in notes], count) <= room:
        return tuple(notes), ()
    prices = [Prices(0, count(f"{BULLET}{note.text}\n")) for note in notes]
    forms = allocate([Commitment(note=note.text, noted=NOTED_RIGHT) for note in notes], prices, room)
    kept = tuple(note for note, form in zip(notes, forms, strict=True) if form == "note")
    return kept, tuple(Loss(note.text, 1.0) for note, form in zip(notes, forms, strict=True) if form != "note")


def size(notes: Sequence[str], count: Count) -> int:
    """Tokens that notes take as lines of a context."""
    return count(as_text(notes)) if notes else 0


def bare(line: str) -> str:
    """A line of the notes without its bullet."""
    return line.removeprefix(BULLET)


def as_text(notes: Sequence[str]) -> str:
    """Notes as they stand in a context."""
    return "\n".join(f"{BULLET}{note}" for note in notes)
