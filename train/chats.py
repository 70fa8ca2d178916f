"""Rows out of chats that language models wrote in the way people type (`train/messages`), beside the generator's.

The generator's conversations share frames and talk; a policy that saw nothing else notes a quarter of what is said in
other words (`train.wild`). A chat is one person's messages, each with the sentences that hold from now on and
the earlier ones that no longer do.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from memkv.compaction.notes import Edit, write
from memkv.config import from_mapping
from memkv.errors import ConfigError, InvalidInput
from train.states import Row, State

FOLDER = Path(__file__).with_name("messages")
HELD_OUT = FOLDER / "held_out.yaml"
SEALED = FOLDER / "held_out_2.yaml"  # looked at only when a recipe is settled
MESSAGES = (1, 6)  # of one window
ROOM = (120, 384)  # tokens


@dataclass(frozen=True)
class Said:
    """A message, its sentences that hold from now on, and those of before that no longer do."""

    said: str
    keep: tuple[str, ...] = ()
    over: tuple[str, ...] = ()


Chat = tuple[Said, ...]


def read_chats(names: Sequence[str] = (), folder: Path = FOLDER) -> list[Chat]:
    """The chats of the named files of a folder; with no name of all but those that are held out.

    Raises:
        ConfigError: no such file; a message with an unknown key, or without what was said.
        InvalidInput: a file is no list of chats, or marks what was not said.
    """
    there = {file.stem: file for file in sorted(folder.glob("*.yaml")) if file not in (HELD_OUT, SEALED)}
    if unknown := [name for name in names if name not in there]:
        raise ConfigError(f"There are no chats {unknown[0]!r} to learn from", f"{folder} has {', '.join(there)}.")
    return [chat for name in names or there for chat in chats_of(there[name])]


def chats_of(file: Path) -> list[Chat]:
    """The chats of one file: a list of `chat`, its name, and `messages`. Raises as `read_chats`."""
    try:
        data = yaml.safe_load(file.read_text(encoding="utf-8"))
        chats = [tuple(from_mapping(Said, each, str(file)) for each in chat["messages"]) for chat in data]
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise InvalidInput(f"{file} is no list of chats: {error}", "See train/messages/01.yaml.") from error
    for chat in chats:
        held: list[str] = []
        for message in chat:
            wrong = [text for text in message.keep if text not in message.said]
            wrong += [text for text in message.over if text not in held]
            if wrong:
                raise InvalidInput(
                    f"{file} marks {wrong[0]!r} in {message.said!r}", "Mark sentences as they were said."
                )
            held += message.keep
    return chats


def chat_rows(chats: Sequence[Chat], times: int, seed: int) -> Iterator[Row]:
    """States and the right answers; every chat is cut into windows anew so many times."""
    for number, chat in enumerate(chats):
        for time in range(times):
            yield from cut(chat, f"chat-{number}/{time}", random.Random(f"{seed}/{number}/{time}"))


def cut(chat: Chat, name: str, rng: random.Random) -> Iterator[Row]:
    """One chat window by window, from a place drawn at random, with the right notes of before."""
    room = rng.randint(*ROOM)
    notes: list[str] = []
    left = list(chat)
    while left:
        count = rng.randint(*MESSAGES)
        window, left = left[:count], left[count:]
        last = {
            text: holds
            for message in window
            for texts, holds in ((message.over, False), (message.keep, True))
            for text in texts
        }
        gone = {text for text, holds in last.items() if not holds}
        edits = [edit for place, message in enumerate(window) for edit in edits_of(message, place, notes, gone)]
        said = tuple(message.said for message in window)
        state = State(f"{name}/{len(chat) - len(left)}", len(chat) - len(left), tuple(notes), said, room, ())
        yield state, write(edits, messages=len(window))
        notes += [text for message in window for text in message.keep]
        notes = [text for text in notes if text not in gone]


def edits_of(message: Said, place: int, notes: Sequence[str], gone: Collection[str]) -> Iterator[Edit]:
    """What is to be written under a message: of what it changes what is in the notes, nothing that is gone later."""
    over = [text for text in message.over if text in notes]
    keep = [text for text in message.keep if text not in gone]
    for number, text in enumerate(keep):
        yield Edit("change" if number < len(over) else "add", text, place)
    for text in over[len(keep) :]:
        yield Edit("drop", text, place)
