"""What one tenant can do with the store. Nothing here can name another tenant's data."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from memkv.errors import Conflict, DamagedBlob, InvalidInput, NotFound
from memkv.store import archive, forget, maintenance
from memkv.store.backend import Backend
from memkv.store.blob_source import Take, Taken, whole
from memkv.store.commit import Turn, commit
from memkv.store.names import check_name, to_json
from memkv.store.records import (
    BlobRef,
    Buffer,
    Event,
    Memory,
    NewEvent,
    NewMemory,
    Notes,
    Problem,
    SessionInfo,
    SessionRecord,
    StoredSegment,
    Tenant,
    Usage,
)

PAGE = 1000


class TenantStore:
    """One tenant's sessions. Made by `MemoryStore.tenant`."""

    def __init__(self, backend: Backend, tenant_id: str) -> None:
        """Made by `MemoryStore.tenant`."""
        self.id = tenant_id
        self._backend = backend

    @property
    def limits(self) -> Tenant:
        """Quota and time to live as they are now."""
        return self._backend.tenant(self.id)

    def set_limits(self, *, quota_bytes: int | None, ttl_seconds: int | None) -> None:
        """Set the byte quota and the time to live of untouched sessions; None is no limit.

        A quota below what is stored deletes nothing: it only stops growth. Expired sessions go with the next gc.
        """
        if any(limit is not None and not 0 < limit < 2**63 for limit in (quota_bytes, ttl_seconds)):
            raise InvalidInput("A limit is a positive number", "Pass None for no limit.")
        with self._backend.index.transaction():
            tenant = self._backend.tenant(self.id)
            limits = dataclasses.replace(tenant, quota_bytes=quota_bytes, ttl_seconds=ttl_seconds)
            self._backend.index.save_tenant(limits)

    def usage(self) -> Usage:
        """Bytes stored."""
        return self._backend.index.usage(self.id)

    def sessions(self) -> list[SessionInfo]:
        """All sessions, the latest first."""
        return self._backend.index.sessions(self.id)

    def exists(self, name: str) -> bool:
        """Whether there is a session of that name."""
        return self._backend.index.session(self.id, name) is not None

    def session(self, name: str) -> SessionRecord:
        """The session at its present head.

        Raises:
            NotFound: names the nearest existing ones.
        """
        return self._backend.session(self.id, name)

    def create_session(self, name: str, settings: Mapping[str, Any] | None = None) -> SessionRecord:
        """A new session at head 0.

        Raises:
            Conflict: there is one of that name.
            InvalidInput: a name or settings that cannot be kept.
            QuotaExceeded, StorageFull: no room.
        """
        check_name(name, "session")
        to_json(settings or {}, "The settings")
        now = time.time()
        record = SessionRecord(
            name=name, head=0, next_n=1, next_seq=1, context=(), settings=dict(settings or {}), fingerprint=None,
            blob=None, created=now, updated=now, tokens=b"",
        )  # fmt: skip
        with self._backend.growing(self.id):
            if self.exists(name):
                raise Conflict(f"Session {name!r} exists already", "Open it, or choose another name.")
            self._backend.index.save_session(self.id, record)
        return record

    def commit(
        self,
        session: str,
        expected_head: int,
        *,
        memories: Sequence[NewMemory] = (),
        events: Sequence[NewEvent] = (),
        context: Sequence[int],
        tokens: bytes,
        settings: Mapping[str, Any] | None = None,
        fingerprint: Mapping[str, str] | None = None,
        blob: Sequence[Buffer] | None = None,
    ) -> SessionRecord:
        """Make one turn durable: when this returns, it survives kill -9 and power failure; if it raises, none of it is.

        New memories get the numbers `next_n`, `next_n + 1`, ... of the record at `expected_head`; the new `context`,
        their `sources` and the events may name them. Events must not contain user text. The blob is the concatenation
        of the buffers, which are written without joining them; None drops the old one, which fits the old head only.
        `settings=None` keeps the settings.

        Raises:
            Conflict: the head is not `expected_head` any more.
            QuotaExceeded, StorageFull: no room.
            InvalidInput: numbers, texts or values that cannot be kept.
            NotFound: no such session, or the tenant was forgotten.
        """
        turn = Turn(memories, events, context, tokens, settings, fingerprint)
        return commit(self._backend, self.id, session, expected_head, turn, blob)

    def read_blob(self, session: str, head: int | None = None) -> memoryview:
        """The session's KV bytes, verified, in writable memory. Raises as `take_blob`."""
        return self.take_blob(session, head, whole)

    def take_blob(self, session: str, head: int | None, take: Take[Taken]) -> Taken:
        """What `take(fill, length)` makes of the session's KV bytes, once they are verified.

        `fill` puts the next bytes into a buffer, so that each tensor is read to where it stays.

        Raises:
            DamagedBlob: it failed a check; it is in quarantine now, and the session goes on from its text.
            NotFound: the session has no blob.
            Conflict: the session is not at `head`, or another writer moved it during the read.
        """
        record = self.session(session)
        if head is not None and record.head != head:
            raise Conflict(f"Session {session!r} is at head {record.head}, not {head}", "Open the session again.")
        if record.blob is None:
            raise NotFound(f"Session {session!r} has no stored cache", "Rebuild it from the text.")
        try:
            return self._backend.blobs.read(self.limits.key, record.blob, take)
        except (DamagedBlob, NotFound) as error:
            if self.session(session).head != record.head:
                raise Conflict(f"Session {session!r} moved while it was read", "Open the session again.") from error
            self.quarantine(session, error.message)
            raise DamagedBlob(error.message, error.next_step) from error

    def quarantine(self, session: str, reason: str) -> None:
        """Take the session's blob out of use; the session goes on from its text. `reason` must hold no user text."""
        ref = self.session(session).blob
        if ref is None:
            return
        maintenance.drop_blob(self._backend, self.id, ref, reason)
        self._backend.blobs.quarantine(ref.id)

    def keep_segment(
        self,
        session: str,
        first: int,
        last: int,
        messages: int,
        cache: Sequence[Buffer] | None,
        fingerprint: Mapping[str, str] | None,
        notes: Notes | None = None,
    ) -> None:
        """Store a stretch of messages with its cache, in the place of an earlier one. It goes with any of the messages.

        Without a cache it is a place in the text, under which a vector can be kept.

        Args:
            session: its name.
            first: number of the first message.
            last: number of the last one.
            messages: how many it is made of; other memories may have numbers between them.
            cache: as buffers.
            fingerprint: of the model.
            notes: what the stretch lays down; None keeps those of an earlier one of the same messages.

        Raises:
            NotFound: one of the messages is gone.
            QuotaExceeded, StorageFull: no room.
        """
        key = self.limits.key
        ref: BlobRef | None = None
        try:
            with self._backend.blobs.writing():  # no gc between the blob and the reference to it
                ref = None if cache is None else self._backend.blobs.put(key, cache)
                with self._backend.growing(self.id):
                    before = self._backend.index.segment(self.id, session, first)
                    known = before.notes if before is not None and before.last == last else Notes()
                    said = known if notes is None else notes
                    made = StoredSegment(session, first, last, time.time(), ref, fingerprint, notes=said)
                    self._backend.index.save_segment(self.id, made, messages)
        except BaseException:
            self._backend.discard(ref)
            raise
        self._backend.discard(before.blob if before is not None and before.blob != ref else None)

    def take_segment(self, session: str, first: int, take: Take[Taken]) -> Taken:
        """What `take(fill, length)` makes of a segment's cache, once its bytes are verified.

        Raises:
            NotFound: no such segment, or it has no cache.
            DamagedBlob: it failed a check; it is in quarantine now and can be made again from the text.
        """
        found = self._backend.index.segment(self.id, session, first)
        if found is None or found.blob is None:
            raise NotFound(f"No cache of segment {session}/{first}", "Make it again from the text.")
        try:
            return self._backend.blobs.read(self.limits.key, found.blob, take)
        except (DamagedBlob, NotFound) as error:
            maintenance.drop_blob(self._backend, self.id, found.blob, error.message)
            self._backend.blobs.quarantine(found.blob.id)
            raise DamagedBlob(error.message, "Make it again from the text.") from error

    def segment(self, session: str, first: int) -> StoredSegment | None:
        """The segment that begins with memory `first`, if there is one."""
        return self._backend.index.segment(self.id, session, first)

    def segments(self, session: str | None = None) -> list[StoredSegment]:
        """Segments of one session or of all, by session and number."""
        return self._backend.index.segments(self.id, session)

    def noted(self) -> list[StoredSegment]:
        """Segments with notes, the earliest first."""
        return self._backend.index.noted(self.id)

    def segments_after(self, moment: float) -> list[StoredSegment]:
        """Segments that were said after a moment (seconds since 1970), in the order in which they were said."""
        return self._backend.index.segments_after(self.id, moment)

    def segment_changes(self) -> int:
        """How often a segment was made, changed or forgotten: what was read before the last change may be stale."""
        return self._backend.index.segment_changes(self.id)

    def keep_notes(self, segment: StoredSegment, notes: Notes) -> None:
        """Store other notes for a segment.

        Raises:
            NotFound: it is gone.
            QuotaExceeded, StorageFull: no room.
        """
        with self._backend.growing(self.id):
            self._backend.index.save_notes(self.id, segment, notes)

    def unembedded(self, embedder: str, vector_bytes: int) -> list[StoredSegment]:
        """Segments without vectors of `embedder` of `vector_bytes` each."""
        return self._backend.index.unembedded(self.id, embedder, vector_bytes)

    def unsegmented(self) -> list[str]:
        """Sessions with messages that are in no segment, those used last first."""
        return self._backend.index.unsegmented(self.id)

    def stretch(self, session: str, first: int, last: int) -> list[Memory]:
        """The messages of a session from number `first` to number `last`."""
        return self._backend.index.stretch(self.id, session, first, last)

    def keep_vectors(self, embedder: str, vectors: Iterable[tuple[str, int, bytes]]) -> None:
        """Store (session, first memory, vector) of segments, in the place of earlier ones.

        Raises:
            NotFound: no such segment.
            QuotaExceeded, StorageFull: no room.
        """
        with self._backend.growing(self.id):
            self._backend.index.save_vectors(self.id, embedder, vectors)

    def vectors(self, embedder: str) -> Iterator[tuple[str, int, bytes]]:
        """(session, first memory, vector) of every segment that `embedder` has seen, by session and number."""
        return self._backend.index.vectors(self.id, embedder)

    def memories(
        self, session: str | None = None, kind: str | None = None, limit: int | None = None, offset: int = 0
    ) -> list[Memory]:
        """Memories by session and number, of one session and kind or of all.

        Raises:
            NotFound: no such session.
        """
        if session is not None:
            self.session(session)
        return self._backend.index.memories(self.id, session, kind, None, -1 if limit is None else limit, offset)

    def iter_memories(self, session: str | None = None) -> Iterator[Memory]:
        """The same, a page at a time, for walks that must not fill the memory."""
        offset = 0
        while page := self.memories(session, limit=PAGE, offset=offset):
            yield from page
            offset += len(page)

    def memory(self, session: str, n: int) -> Memory:
        """One memory.

        Raises:
            NotFound: no such session or number.
        """
        found = self._backend.index.memory(self.id, session, n)
        if found is None:
            self.session(session)
            raise NotFound(f"No memory {session}/{n}", f"`memkv memory ls {session}` lists what there is.")
        return found

    def derived(self, session: str, n: int) -> tuple[int, ...]:
        """The memories that were derived from memory `n`, directly or not: what a forget of it takes along."""
        sources = self._backend.index.sources(self.id, session)
        return tuple(sorted(forget.derived_from(n, sources) - {n}))

    def search(self, text: str, session: str | None = None, limit: int = 20) -> list[Memory]:
        """Memories that contain `text`, whatever the case of its ASCII letters."""
        return self._backend.index.memories(self.id, session, None, text, limit, 0)

    def events(self, session: str, kind: str | None = None) -> list[Event]:
        """The session's log in order.

        Raises:
            NotFound: no such session.
        """
        self.session(session)
        return self._backend.index.events(self.id, session, kind)

    def forget_memory(self, session: str, n: int) -> tuple[int, ...]:
        """Delete memory `n` and all that was derived from it, directly or not; the numbers deleted.

        A lost summary's remaining sources take its place in the context. The session's tokens, fingerprint and KV go
        too, so it is rebuilt from text at its next opening; its head moves by one.

        Raises:
            NotFound: no such session or memory.
            ForgetPending: deleted, but another process or a full disk keeps traces until the next gc.
        """
        return forget.forget_memory(self._backend, self.id, session, n)

    def forget_session(self, name: str) -> None:
        """Delete a session with everything in it. Raises as `forget_memory`."""
        forget.forget_session(self._backend, self.id, name)

    def verify(self) -> list[Problem]:
        """Check all of the tenant's caches, and change nothing."""
        return maintenance.check_blobs(self._backend, None, self.id)

    def export_session(self, name: str, path: str | Path) -> int:
        """Write the session into one file, replacing it; the file's bytes.

        Raises:
            NotFound: no such session.
            DamagedBlob: its blob was damaged and is in quarantine now; a second try exports the text without it.
            InvalidInput, StorageFull: the file cannot be written.
        """
        record = self.session(name)
        blob = None if record.blob is None else self.read_blob(name, record.head)
        return archive.export_session(self._backend, self.id, record, Path(path), blob)

    def import_session(self, path: str | Path, name: str | None = None) -> SessionRecord:
        """Add an exported session, under its own name or `name`. Nothing is written unless all of it checks out.

        Raises:
            DamagedBlob: the file is damaged or no export.
            InvalidInput: a name that cannot be used, or an export of a newer memkv.
            Conflict: the name is taken.
            QuotaExceeded, StorageFull: no room.
            NotFound: no such file.
        """
        return archive.import_session(self._backend, self.id, Path(path), name)
