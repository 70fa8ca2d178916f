"""A stretch of an earlier conversation as text, under the day on which it was said, and as tokens."""

from __future__ import annotations

from collections.abc import Sequence

from memkv.compaction.base import MEMORIES
from memkv.compaction.windows import QUOTE
from memkv.store import Memory, TenantStore
from memkv.store.records import OF
from memkv.store.spoken import as_text
from memkv.turns import ChatFormat, Message


def text_of(tenant: TenantStore, memory: Memory) -> str:
    """A memory's text; of one that was brought back from another session, what was said there."""
    of = memory.data.get(OF)
    return as_text(tenant.stretch(of["session"], of["first"], of["last"])) if of else memory.text


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
