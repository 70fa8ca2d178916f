"""A stretch of an earlier conversation as text, under the day on which it was said, and as tokens."""

from __future__ import annotations

from collections.abc import Sequence

from memkv.compaction.base import MEMORIES
from memkv.compaction.windows import QUOTE
from memkv.store import Memory, TenantStore
from memkv.store.records import OF
from memkv.store.spoken import as_text
from memkv.turns import ChatFormat, Message

LONGEST = 160  # words of a message that are embedded at once: MiniLM reads 256 pieces of words


def text_of(tenant: TenantStore, memory: Memory) -> str:
    """A memory's text; of one that was brought back whole from another session, what was said there."""
    of = memory.data.get(OF)
    return memory.text if memory.text or not of else as_text(tenant.stretch(of["session"], of["first"], of["last"]))


def searched(said: Sequence[Memory]) -> list[str]:
    """The texts under which a stretch is found: all of it, and each of the user's messages.

    A message is found as such, whatever else was said around it, and a model for embeddings reads so many words only.
    """
    words = [text.split() for text in of_user(said)]
    parts = [" ".join(each[at : at + LONGEST]) for each in words for at in range(0, len(each), LONGEST)]
    return [as_text(said), *parts]


def of_user(said: Sequence[Memory]) -> list[str]:
    """What the user said of a stretch."""
    return [message.text for message in said if message.role == "user"]


def trust(said: Sequence[Memory]) -> tuple[str, ...]:
    """Who stands behind what a stretch says: roles, and `quoted` where the user passes on what somebody else wrote."""
    voices = [voice for message in said for voice in (message.role, *(["quoted"] if quotes(message) else []))]
    return tuple(dict.fromkeys(voices))


def quotes(message: Memory) -> bool:
    """Whether any line of a message is quoted."""
    return message.role == "user" and own_words(message.text) != message.text


def own_words(text: str) -> str:
    """A message without the lines that it quotes."""
    return "\n".join(line for line in text.split("\n") if not line.lstrip().startswith(QUOTE))


def segment_tokens(chat: ChatFormat, text: str) -> tuple[list[int], list[int]]:
    """Tokens of the lead, and of a stretch behind it: a system message of its own.

    Read alone, without a lead, each segment would have an attention sink of its own.
    """
    lead = [Message(role="system", content=MEMORIES)]
    before = chat.stable(lead)
    return chat.encode(before), chat.encode_rest(before, chat.stable([*lead, Message(role="system", content=text)]))
