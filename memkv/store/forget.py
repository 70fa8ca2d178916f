"""Forgetting: the text goes, everything derived from it goes, and no file of the store keeps a trace.

What is left is the event `forgot` with numbers only. Copies outside the store (an export, a backup, the free blocks of
the disk itself) are beyond its reach, and so is a later message that repeats the text in its own words.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from memkv.errors import ForgetPending, NotFound, StorageFull, StoreBusy
from memkv.store.backend import Backend, drop_cache
from memkv.store.records import OF, Event

Result = TypeVar("Result")
WAIT_SECONDS = 10.0
RECALLED = "recalled"  # kind of a memory that was brought back from another session


def derived_from(n: int, sources: Mapping[int, Iterable[int]]) -> set[int]:
    """`n` and every memory that was derived from it, directly or not."""
    gone = {n}
    for number in sorted(sources):  # a memory is newer than its sources, so one pass is enough
        if gone.intersection(sources[number]):
            gone.add(number)
    return gone


def context_without(context: Sequence[int], gone: set[int], sources: Mapping[int, Sequence[int]]) -> tuple[int, ...]:
    """The context with each lost summary replaced by what is left of its sources, in order and only once."""
    kept = {n for n in context if n not in gone}
    result: list[int] = []

    def place(n: int) -> None:
        if n in gone:
            for source in sources.get(n, ()):
                if source not in kept:  # one that stays in the context has its own place there
                    place(source)
        elif n not in result:
            result.append(n)

    for n in context:
        place(n)
    return tuple(result)


def forget_memory(backend: Backend, tenant_id: str, session: str, n: int) -> tuple[int, ...]:
    """Delete memory `n` and its derivatives; their numbers. See `TenantStore.forget_memory`."""
    touched: list[str] = [session]

    def delete() -> tuple[int, ...]:
        with backend.index.transaction():
            if n not in backend.index.sources(tenant_id, session):
                backend.session(tenant_id, session)
                raise NotFound(f"No memory {session}/{n}", f"`memkv memory ls {session}` lists what there is.")
            own = derived_from(n, backend.index.sources(tenant_id, session))
            gone = gone_with(backend, tenant_id, session, own)
            touched[:] = gone
            for name, numbers in gone.items():
                take_out(backend, tenant_id, name, numbers, n if name == session else None)
        return tuple(sorted(gone[session]))

    return erase(backend, tenant_id, touched, delete)


def gone_with(backend: Backend, tenant_id: str, session: str, numbers: Iterable[int]) -> dict[str, set[int]]:
    """Session -> what goes with memories of `session`: themselves, and where they were brought back, all made of it."""
    back = backend.index.memories(tenant_id, None, RECALLED, None, -1, 0)
    gone = {session: set(numbers)}
    found = True
    while found:
        new = [
            memory
            for memory in back
            if (of := memory.data.get(OF)) is not None
            and any(of["first"] <= number <= of["last"] for number in gone.get(of["session"], ()))
            and memory.n not in gone.get(memory.session, ())
        ]
        for memory in new:
            sources = backend.index.sources(tenant_id, memory.session)
            gone.setdefault(memory.session, set()).update(derived_from(memory.n, sources))
        found = bool(new)
    return gone


def take_out(backend: Backend, tenant_id: str, session: str, gone: set[int], n: int | None) -> None:
    """Delete memories of a session, with the cache and the tokens that were made of them; `n` is what was asked for."""
    record = backend.session(tenant_id, session)
    sources = backend.index.sources(tenant_id, session)
    now = time.time()
    what = {"derived": sorted(gone)} if n is None else {"memory": n, "derived": sorted(gone - {n})}
    forgot = Event(session, record.next_seq, "forgot", now, what)
    backend.index.delete_memories(tenant_id, session, gone)
    backend.index.add_events(tenant_id, session, [forgot])
    after = dataclasses.replace(
        record, head=record.head + 1, next_seq=record.next_seq + 1, updated=now, tokens=b"", blob=None,
        fingerprint=None, context=context_without(record.context, gone, sources),
    )  # fmt: skip
    backend.index.save_session(tenant_id, after)


def forget_session(backend: Backend, tenant_id: str, session: str) -> None:
    """Delete a whole session, and what was brought back from it into others."""
    touched: list[str] = [session]

    def delete() -> None:
        with backend.index.transaction():
            touched[:] = delete_session(backend, tenant_id, session)

    erase(backend, tenant_id, touched, delete)


def delete_session(backend: Backend, tenant_id: str, session: str) -> list[str]:
    """Delete a session and what was brought back from it into others, inside a transaction; the sessions touched."""
    backend.session(tenant_id, session)
    gone = gone_with(backend, tenant_id, session, backend.index.sources(tenant_id, session))
    for name, numbers in gone.items():
        if name != session:
            take_out(backend, tenant_id, name, numbers, None)
    backend.index.delete_session(tenant_id, session)
    return list(gone)


def forget_tenant(backend: Backend, tenant_id: str) -> None:
    """Delete a tenant with its key and all its sessions."""

    def delete() -> None:
        with backend.index.transaction():
            backend.tenant(tenant_id)
            backend.index.delete_tenant(tenant_id)

    erase(backend, tenant_id, [session.name for session in backend.index.sessions(tenant_id)], delete)


def erase(backend: Backend, tenant_id: str, sessions: Sequence[str], delete: Callable[[], Result]) -> Result:
    """Run the transaction `delete`, then remove blobs, quarantined and temporary files, and scrub the index.

    All unreferenced files go, not only this session's: an older head's KV that a killed writer left holds the text too.

    Raises:
        ForgetPending: deleted, but traces are left until the next gc.
    """
    try:
        try:
            result = delete()
        except StorageFull:  # deleting needs room for the log: first the reserve, then the KV, which is disposable
            backend.blobs.release_reserve()
            drop_blobs(backend, tenant_id, sessions)
            backend.collect(WAIT_SECONDS)
            result = delete()
        try:
            backend.collect(WAIT_SECONDS)
        except StoreBusy as error:
            raise ForgetPending("Deleted, but a stored cache of it is left", error.next_step) from error
        backend.index.scrub()
    finally:
        backend.blobs.keep_reserve()
    return result


def drop_blobs(backend: Backend, tenant_id: str, sessions: Sequence[str]) -> None:
    """Let the sessions go without KV; it is rebuilt from text when they are opened."""
    with backend.index.transaction():
        for name in sessions:
            record = backend.index.session(tenant_id, name)
            if record is not None:
                backend.index.save_session(tenant_id, dataclasses.replace(record, blob=None))
        for use in backend.index.blobs():
            if use.tenant == tenant_id and use.session in sessions:
                drop_cache(backend, use)
