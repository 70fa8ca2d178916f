"""What the memory API shows, as plain data with a schema each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, Field

from memkv.cache_size import CacheSize
from memkv.compaction import Compaction, Item, to_messages
from memkv.model import HybridModel
from memkv.recall.stretch import text_of
from memkv.session import Session
from memkv.session.opening import items_of
from memkv.store import Event, Memory, SessionInfo, TenantStore


class SessionLine(BaseModel):
    """A session in a list."""

    name: str
    created: float = Field(description="Seconds since 1970.")
    updated: float = Field(description="Seconds since 1970.")
    head: int = Field(description="Commits so far; 0 where nothing was said yet.")
    memories: int
    in_context: int
    text_bytes: int
    cache_bytes: int = Field(description="Of the cache on disk.")
    settings: dict[str, Any]
    title: str = Field("", description="The beginning of the first message.")


class ItemView(BaseModel):
    """An item of a session: a message, or what was made of some."""

    n: int
    kind: str = Field(description="system, message, rule, summary, or recalled (also memory and noted, in a context).")
    role: str
    text: str
    created: float | None = Field(None, description="Seconds since 1970.")
    sources: list[int] = Field(description="Items that it was made from.")
    in_context: bool
    pinned: bool = False
    interrupted: bool = False
    of: dict[str, Any] | None = Field(None, description="The other session that it was brought back from.")


class CacheView(BaseModel):
    """Bytes of a live cache, measured on its tensors."""

    payload: int
    resident: int = Field(description="What the allocator holds for it.")
    by_kind: dict[str, int] = Field(description="attention, window, recurrent and others.")
    tokens: int


class SessionView(BaseModel):
    """A session as it is now."""

    name: str
    head: int
    created: float
    updated: float
    model: str
    strategy: str
    codec: str
    budget: int = Field(description="Most bytes of live cache.")
    stored_bytes: int = Field(description="Of its cache on disk.")
    said_tokens: int = Field(description="Tokens of all messages that were ever said in it.")
    said_bytes: int = Field(description="Of a cache of all of them, had nothing been compacted.")
    live: CacheView | None = Field(description="None while its cache is in the store only.")
    opened: dict[str, Any] | None = Field(description="How it came up, where it is live.")
    context: list[ItemView]


class EventView(BaseModel):
    """Something that happened; numbers and sizes, never text."""

    seq: int
    kind: str
    created: float
    data: dict[str, Any]


class CompactionView(BaseModel):
    """What a compaction leaves, or would leave."""

    before: int = Field(description="Bytes of cache.")
    after: int
    preview: bool
    context: list[ItemView]
    ledger: list[dict[str, Any]] = Field(description="What becomes of each item that was in the context.")


def session_line(tenant: TenantStore, info: SessionInfo) -> SessionLine:
    """A session in a list."""
    first = tenant.memories(info.name, "message", 1)
    return SessionLine(
        name=info.name, created=info.created, updated=info.updated, head=info.head, memories=info.memories,
        in_context=info.in_context, text_bytes=info.text_bytes, cache_bytes=info.blob_bytes,
        settings=dict(info.settings), title=" ".join(first[0].text.split())[:80] if first else "",
    )  # fmt: skip


def by_kind(size: CacheSize) -> dict[str, int]:
    """Bytes of a cache by kind."""
    return {str(kind): count for kind, count in size.by_kind.items()}


def cache_view(size: CacheSize, tokens: int) -> CacheView:
    """Bytes of a live cache."""
    return CacheView(
        payload=size.payload,
        resident=size.resident,
        by_kind=by_kind(size),
        tokens=tokens,
    )


def item_of_context(item: Item, known: Mapping[int, Memory]) -> ItemView:
    """An item as a context holds it, with what the store knows of it."""
    stored = known.get(item.n)
    data: Mapping[str, Any] = stored.data if stored else {}
    return ItemView(
        n=item.n, kind=item.kind, role=item.role, text=item.text, created=stored.created if stored else None,
        sources=list(item.sources), in_context=True, pinned=bool(data.get("pinned")),
        interrupted=bool(data.get("interrupted")), of=data.get("of"),
    )  # fmt: skip


def item_of_store(tenant: TenantStore, memory: Memory, in_context: bool) -> ItemView:
    """A memory as the store holds it."""
    return ItemView(
        n=memory.n, kind=memory.kind, role=memory.role, text=text_of(tenant, memory), created=memory.created,
        sources=list(memory.sources), in_context=in_context, pinned=bool(memory.data.get("pinned")),
        interrupted=bool(memory.data.get("interrupted")), of=memory.data.get("of"),
    )  # fmt: skip


def session_view(model: HybridModel, tenant: TenantStore, name: str, session: Session | None) -> SessionView:
    """A session as it is now; `session` where its cache is in memory, of the server's `model`.

    Raises:
        NotFound: there is none.
    """
    record = tenant.session(name)
    live = session if session is not None and not session.moved else None
    known = {memory.n: memory for memory in tenant.memories(name)}
    settings = record.settings
    spoken = [memory for memory in known.values() if memory.kind in ("message", "system")]
    items = [Item(memory.n, memory.kind, memory.role, memory.text) for memory in spoken]
    said = len(model.chat.encode(model.chat.stable(to_messages(model, items)))) if items else 0
    return SessionView(
        name=name, head=record.head, created=record.created, updated=record.updated,
        model=str(settings.get("model", "")), strategy=str(settings.get("strategy", "")),
        codec=str(settings.get("codec", "")),
        budget=live.context_budget if live else int(settings.get("context_budget", 0)),
        stored_bytes=record.blob.length if record.blob else 0, said_tokens=said,
        said_bytes=model.profile.at(said) if said else 0,
        live=cache_view(live.size, live.tokens) if live else None,
        opened={
            "how": live.opened.how, "reason": live.opened.reason, "reused_tokens": live.opened.reused_tokens,
            "prefilled_tokens": live.opened.prefilled_tokens, "seconds": live.opened.seconds,
        } if live else None,
        context=[item_of_context(item, known) for item in items_of(tenant, name, record.context)],
    )  # fmt: skip


def event_view(event: Event) -> EventView:
    """An event."""
    return EventView(seq=event.seq, kind=event.kind, created=event.created, data=dict(event.data))


def compaction_view(found: Compaction, preview: bool) -> CompactionView:
    """What a compaction leaves."""
    return CompactionView(
        before=found.before, after=found.after, preview=preview,
        context=[item_of_context(item, {}) for item in found.items], ledger=found.ledger.as_data(),
    )  # fmt: skip
