"""One commit: all of a turn becomes durable together, or nothing of it does."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from memkv.errors import Conflict, InvalidInput
from memkv.store.backend import Backend
from memkv.store.names import check_text, to_json
from memkv.store.records import BlobRef, Buffer, Event, Memory, NewEvent, NewMemory, SessionRecord


@dataclasses.dataclass(frozen=True)
class Turn:
    """What a commit adds and what the session looks like after it. See `TenantStore.commit`."""

    memories: Sequence[NewMemory]
    events: Sequence[NewEvent]
    context: Sequence[int]
    tokens: bytes
    settings: Mapping[str, Any] | None
    fingerprint: Mapping[str, str] | None


def commit(
    backend: Backend, tenant_id: str, session: str, expected_head: int, turn: Turn, blob: Iterable[Buffer] | None
) -> SessionRecord:
    """Blob first, durable under its own name; then one transaction that moves the head from `expected_head`."""
    check_turn(turn)
    key = backend.tenant(tenant_id).key
    ref: BlobRef | None = None
    try:
        with backend.blobs.writing():  # no gc between the blob and the reference to it
            ref = None if blob is None else backend.blobs.put(key, blob)
            with backend.growing(tenant_id):
                before = backend.session(tenant_id, session)
                if before.head != expected_head:
                    raise Conflict(
                        f"Session {session!r} is at head {before.head}, not {expected_head}: another writer was first",
                        "Open the session again to go on from its present state.",
                    )
                after = apply(backend, tenant_id, before, turn, ref)
    except BaseException:
        backend.discard(ref)
        raise
    backend.discard(before.blob if before.blob != ref else None)
    return after


def apply(backend: Backend, tenant_id: str, before: SessionRecord, turn: Turn, ref: BlobRef | None) -> SessionRecord:
    """Write the turn's rows, inside the transaction."""
    now = time.time()
    memories = [
        Memory(before.name, n, new.kind, new.role, new.text, now, tuple(new.sources), dict(new.data))
        for n, new in enumerate(turn.memories, start=before.next_n)
    ]
    events = [
        Event(before.name, seq, new.kind, now, dict(new.data))
        for seq, new in enumerate(turn.events, start=before.next_seq)
    ]
    after = dataclasses.replace(
        before, head=before.head + 1, next_n=before.next_n + len(memories), next_seq=before.next_seq + len(events),
        context=tuple(turn.context), tokens=bytes(turn.tokens), blob=ref, updated=now,
        settings=before.settings if turn.settings is None else dict(turn.settings),
        fingerprint=None if turn.fingerprint is None else dict(turn.fingerprint),
    )  # fmt: skip
    check_numbers(backend, tenant_id, before, after, memories)
    backend.index.save_session(tenant_id, after)
    backend.index.add_memories(tenant_id, before.name, memories)
    backend.index.add_events(tenant_id, before.name, events)
    return after


def check_turn(turn: Turn) -> None:
    """Refuse what cannot be stored before any byte is written.

    Raises:
        InvalidInput: a text, JSON value or number that cannot be kept.
    """
    for memory in turn.memories:
        check_text(memory.text)
        check_text(memory.kind + memory.role)
        to_json(memory.data, "The data of a memory")
    for event in turn.events:
        check_text(event.kind)
        to_json(event.data, "The data of an event")
    to_json(turn.settings or {}, "The settings")
    to_json(turn.fingerprint or {}, "The fingerprint")
    if len(set(turn.context)) != len(turn.context):
        raise InvalidInput("The context names a memory twice", "Pass each number once.")


def check_numbers(
    backend: Backend, tenant_id: str, before: SessionRecord, after: SessionRecord, memories: Sequence[Memory]
) -> None:
    """Refuse a context or sources that name memories which do not exist.

    Raises:
        InvalidInput: with the numbers.
    """
    known: Collection[int] = {*before.context, *range(before.next_n, after.next_n)}
    named = {*after.context, *(n for memory in memories for n in memory.sources)}
    if not named <= set(known):  # a memory recalled from outside the context: rare, so the full list is read only here
        known = {*known, *backend.index.sources(tenant_id, before.name)}
    missing = sorted(named - set(known))
    late = [memory.n for memory in memories if any(n >= memory.n for n in memory.sources)]
    if missing or late:
        raise InvalidInput(
            f"No memory {missing} in session {before.name!r}" if missing else f"Memories {late} derive from later ones",
            "Use the numbers of `SessionRecord.next_n` onward for new memories.",
        )
