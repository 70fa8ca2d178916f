"""A memory file that the model edits after each chunk: MemGPT (arXiv 2310.08560), Letta, Claude's memory tool."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from eval.systems.base import Case, Limits, Memory, bytes_of
from eval.systems.rounds import compact_rounds, messages_of
from memkv.compaction import Compaction, Context, Item, to_messages
from memkv.compaction.base import keep_recent
from memkv.turns import Message

MAX_TOKENS = 80  # of edits after one chunk
HEADING = "Your memory file:"
FILE = "file"  # role of the item that holds the file
PROMPT = (
    "Update your memory file now; what is not in it will be forgotten. Write one edit a line, and nothing else:\n"
    "ADD text\nREPLACE number text\nDELETE number\n"
    "Keep every rule, name, number, deadline and exception exactly. {state}"
)
EDIT = re.compile(r"ADD:? +(?P<new>\S.*)|REPLACE +(?P<old>\d{1,4}):? +(?P<text>\S.*)|DELETE +(?P<gone>\d{1,4})")


@dataclass
class FileMemory(Memory):
    """A memory with the number of written lines that were no edit."""

    ignored: int = 0


class MemoryFile:
    """The file stands in the instructions; the newest messages that fit follow it. Edits are written greedily."""

    name = "memory file"
    budgeted = True
    sampled = False

    def remember(self, case: Case, limits: Limits) -> FileMemory:
        """See `System.remember`."""
        editing = FileEditing()
        memory = compact_rounds(case, limits, editing, reads=True)
        return FileMemory(**vars(memory), ignored=editing.ignored)


class FileEditing:
    """The compaction strategy: ask for edits, apply them, drop the oldest lines while the file does not fit.

    Attributes:
        ignored: lines written so far that were no edit.
    """

    name = "memory file"

    def __init__(self) -> None:
        self.ignored = 0

    def compact(self, context: Context, aim: int, most: int) -> Compaction:
        """See `CompactionStrategy.compact`."""
        kept = tuple(item for item in context.standing("system") if item.role != FILE)
        lines = [line for item in context.standing("system") if item.role == FILE for line in read_file(item.text)]
        lines, ignored = edit(lines, ask(context, lines))
        self.ignored += ignored
        # The model had read everything; which item a line came from, nobody knows.
        sources = tuple(item.n for item in context.items)
        while lines:
            standing = (*kept, Item(context.next_n, "system", FILE, as_file(lines), sources))
            if bytes_of(context.model, messages_of(context.model, standing)) <= aim:
                return keep_recent(context, standing, aim, most)
            lines = lines[1:]
        return keep_recent(context, kept, aim, most)


def ask(context: Context, lines: Sequence[str]) -> str:
    """What the model writes when it is asked for edits, on a fork of the cache that has read file and chunk."""
    model, chat = context.model, context.model.chat
    before = to_messages(model, context.items)
    state = f"The file has lines 1 to {len(lines)}." if lines else "The file is empty."
    asked = [*before, Message(role="user", content=PROMPT.format(state=state))]
    fork = context.live.fork()
    model.extend(fork, chat.encode_rest(chat.stable(before), chat.render(asked, open_reply=True)))
    return chat.decode(list(model.generate(fork, MAX_TOKENS, stop_ids=chat.stop_ids)))


def edit(lines: Sequence[str], written: str) -> tuple[list[str], int]:
    """The file after the edits in `written`, and how many lines of it were none.

    Numbers are those of the file as it was shown. A line that is no edit, or names a line that is not there, is left
    out. A line that is in the file already is not added again.
    """
    slots: list[str | None] = list(lines)
    ignored = 0
    for line in filter(None, map(str.strip, written.splitlines())):
        found = EDIT.fullmatch(line)
        number = int(found["old"] or found["gone"] or 0) if found else 0
        if found is None or (not found["new"] and not 1 <= number <= len(lines)):
            ignored += 1
        elif found["new"]:
            slots += [] if found["new"] in slots else [found["new"]]
        else:
            slots[number - 1] = found["text"]
    return [slot for slot in slots if slot is not None], ignored


def as_file(lines: Sequence[str]) -> str:
    """The file as the model sees it."""
    return "\n".join([HEADING, *(f"{number}. {line}" for number, line in enumerate(lines, 1))])


def read_file(text: str) -> list[str]:
    """The lines of `as_file`."""
    return [line.partition(". ")[2] for line in text.splitlines()[1:]]
