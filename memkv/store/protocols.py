"""The two seams of the store: where blobs lie, and where everything else is indexed.

The rules of a commit, a forget, a quota are written once, above these protocols; a backend only keeps its promises:
`Index.transaction` is serializable and durable when it returns, `BlobStore.put` is durable when it returns.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from memkv.store.blob_source import Take, Taken
from memkv.store.records import (
    BlobRef,
    BlobUse,
    Buffer,
    Event,
    Memory,
    Notes,
    Problem,
    SessionInfo,
    SessionRecord,
    StoredSegment,
    Tenant,
    Usage,
)


class BlobStore(Protocol):
    """Immutable byte strings, each named by the keyed hash of its content."""

    def writing(self) -> AbstractContextManager[None]:
        """Held from before `put` until its reference is committed: no blob is deleted by anyone meanwhile."""

    def alone(self, timeout: float) -> AbstractContextManager[None]:
        """Held while blobs are deleted: nobody is `writing`. Raises StoreBusy after `timeout` seconds."""

    def put(self, key: bytes, chunks: Iterable[Buffer]) -> BlobRef:
        """Store the concatenation of `chunks`, durably. Raises StorageFull; what `chunks` raises leaves nothing."""

    def read(self, key: bytes, ref: BlobRef, take: Take[Taken]) -> Taken:
        """What `take` makes of the bytes, once they are verified. Raises NotFound, DamagedBlob, what `take` raises."""

    def check(self, key: bytes, ref: BlobRef) -> None:
        """Verify without keeping the bytes in memory. Raises NotFound, DamagedBlob."""

    def delete(self, blob_id: str) -> int:
        """Remove a blob; the bytes freed, 0 where it was gone. Call it `alone`."""

    def drop(self, blob_id: str) -> None:
        """Remove a blob without waiting for its space; gone already is fine. Call it `alone`."""

    def quarantine(self, blob_id: str) -> None:
        """Take a damaged blob out of use without deleting it; gone already is fine."""

    def stored(self) -> Mapping[str, int]:
        """Id -> bytes of every blob there is."""

    def leftovers(self) -> Mapping[str, int]:
        """Path -> bytes of temporary files that a killed writer left behind. Call it `alone`."""

    def quarantined(self) -> Mapping[str, int]:
        """Path -> bytes of quarantined blobs."""

    def remove(self, paths: Iterable[str]) -> None:
        """Delete leftovers and quarantined blobs. Call it `alone`."""

    def sync_deletions(self) -> None:
        """Make deletions durable: nothing deleted comes back after a power failure."""

    def free_bytes(self) -> int:
        """Room left for new blobs."""

    def release_reserve(self) -> None:
        """Give up the space kept back so that deleting works on a full disk."""

    def keep_reserve(self) -> None:
        """Take that space back if there is room for it."""


class Index(Protocol):
    """Tenants, sessions, memories and events. Writes are made inside `transaction`."""

    def transaction(self) -> AbstractContextManager[None]:
        """All writes inside become durable together at its end, or none do. Raises StoreBusy, StorageFull."""

    def tenants(self) -> list[Tenant]:
        """All tenants by id."""

    def tenant(self, tenant_id: str) -> Tenant | None:
        """One tenant."""

    def save_tenant(self, tenant: Tenant) -> None:
        """Insert, or update the limits."""

    def delete_tenant(self, tenant_id: str) -> None:
        """Delete the tenant with all its sessions, and note that the index needs a scrub."""

    def usage(self, tenant_id: str) -> Usage:
        """Bytes used by all sessions of the tenant."""

    def sessions(self, tenant_id: str) -> list[SessionInfo]:
        """All sessions, the latest first."""

    def session(self, tenant_id: str, name: str) -> SessionRecord | None:
        """One session at its present head."""

    def save_session(self, tenant_id: str, record: SessionRecord) -> None:
        """Insert or update one session's own fields."""

    def delete_session(self, tenant_id: str, name: str) -> None:
        """Delete the session with its memories and events, and note that the index needs a scrub."""

    def add_memories(self, tenant_id: str, session: str, memories: Sequence[Memory]) -> None:
        """Insert memories under their numbers."""

    def delete_memories(self, tenant_id: str, session: str, numbers: Iterable[int]) -> None:
        """Delete memories, and note that the index needs a scrub."""

    def add_events(self, tenant_id: str, session: str, events: Sequence[Event]) -> None:
        """Append events under their numbers."""

    def memories(
        self, tenant_id: str, session: str | None, kind: str | None, containing: str | None, limit: int, offset: int
    ) -> list[Memory]:
        """Memories by session and number; `containing` ignores the case of ASCII letters; limit -1 is no limit."""

    def memory(self, tenant_id: str, session: str, n: int) -> Memory | None:
        """One memory."""

    def sources(self, tenant_id: str, session: str) -> dict[int, tuple[int, ...]]:
        """Number -> numbers it was derived from, for every memory of the session."""

    def events(self, tenant_id: str, session: str, kind: str | None) -> list[Event]:
        """The session's log in order."""

    def save_segment(self, tenant_id: str, segment: StoredSegment, messages: int | None = None) -> None:
        """Insert a segment, or update its cache. Raises NotFound unless `messages` of its messages are there."""

    def save_notes(self, tenant_id: str, segment: StoredSegment, notes: Notes) -> None:
        """Other notes for a segment. Raises NotFound where it is gone."""

    def save_vectors(self, tenant_id: str, embedder: str, vectors: Iterable[tuple[str, int, bytes]]) -> None:
        """(session, first memory, vector) of segments, made by `embedder`. Raises NotFound where one is gone."""

    def segment(self, tenant_id: str, session: str, first: int) -> StoredSegment | None:
        """One segment."""

    def segments(self, tenant_id: str, session: str | None) -> list[StoredSegment]:
        """Segments of one session or of all, by session and number."""

    def unembedded(self, tenant_id: str, embedder: str, vector_bytes: int) -> list[StoredSegment]:
        """Segments without a vector of `embedder`, or with one of another length."""

    def noted(self, tenant_id: str) -> list[StoredSegment]:
        """Segments with notes, the earliest first."""

    def segments_after(self, tenant_id: str, moment: float) -> list[StoredSegment]:
        """Segments that were said after a moment (seconds since 1970), in the order in which they were said."""

    def segment_changes(self, tenant_id: str) -> int:
        """How often a segment of the tenant was made, changed or forgotten."""

    def unsegmented(self, tenant_id: str) -> list[str]:
        """Sessions with messages that are in no segment, those used last first."""

    def stretch(self, tenant_id: str, session: str, first: int, last: int) -> list[Memory]:
        """The messages of a session from number `first` to number `last`."""

    def vectors(self, tenant_id: str, embedder: str) -> Iterator[tuple[str, int, bytes]]:
        """(session, first memory, vector) of every segment that `embedder` has seen, by session and number."""

    def blobs(self) -> list[BlobUse]:
        """Every reference to a blob."""

    def uses_blob(self, blob_id: str) -> bool:
        """Whether anything refers to the blob."""

    def check(self) -> list[Problem]:
        """Damage inside the index itself."""

    def needs_scrub(self) -> bool:
        """Whether something was deleted since the last complete `scrub`."""

    def scrub(self) -> None:
        """Rewrite the index so that no trace of deleted rows is left in any file. Raises ForgetPending."""

    def checkpoint(self) -> None:
        """Fold the write-ahead log into the index; left for later when readers are in the way."""

    def close(self) -> None:
        """Release the index."""
