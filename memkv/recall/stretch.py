"""A stretch of an earlier conversation as text, under the day on which it was said, and as tokens."""

from __future__ import annotations

from collections.abc import Sequence

from memkv.compaction.base import MEMORIES
from memkv.errors import NotFound
from memkv.store import Memory, StoredSegment, TenantStore
from memkv.store.spoken import as_text
from memkv.turns import ChatFormat, Message

QUOTE = ">"  # at the beginning of a line that somebody else wrote


def stretch_text(tenant: TenantStore, segment: StoredSegment) -> str:
    """A stretch as it is embedded and read.

    Raises:
        NotFound: it was forgotten.
    """
    said = tenant.stretch(segment.session, segment.first, segment.last)
    if not said:
        raise NotFound(f"Nothing is left of {segment.address}", "It was forgotten meanwhile; say your message again.")
    return as_text(said)


def text_of(tenant: TenantStore, memory: Memory) -> str:
    """A memory's text; of one that was brought back from another session, what was said there."""
    of = memory.data.get("of")
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
