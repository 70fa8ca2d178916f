"""What the store hands out and takes in: plain frozen records, no behaviour."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Buffer = bytes | bytearray | memoryview  # contiguous


# In the data of a memory that was brought back from another session: where from (that session, first and last memory),
# or, in one that was imported, that it was. Notes of such a place are kept with their text, as they may be made anew,
# and with the kind of item that they are in a context.
OF, BROUGHT, KIND = "of", "brought", "kind"
NotePlace = tuple[str, int, int, int]  # session, first and last number of the stretch, index among its notes


@dataclass(frozen=True, slots=True)
class BlobRef:
    """A blob by its id (keyed blake3 of its bytes, hex) and its length in bytes."""

    id: str
    length: int


@dataclass(frozen=True, slots=True)
class Tenant:
    """Whose memory it is. `key` is 32 random bytes that no other tenant shares; it keys every blob id."""

    id: str
    key: bytes = field(repr=False)
    created: float
    quota_bytes: int | None = None
    ttl_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class NewMemory:
    """A text to commit. `sources` are the numbers of the memories it was derived from, in the same session."""

    text: str
    kind: str = "message"
    role: str = ""
    sources: tuple[int, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NewEvent:
    """Something that happened. `data` names memories by number and NEVER holds user text: events outlive a forget."""

    kind: str
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Memory:
    """A stored text, the truth everything else is derived from. `n` counts from 1 in its session, never reused."""

    session: str
    n: int
    kind: str
    role: str
    text: str
    created: float
    sources: tuple[int, ...]
    data: Mapping[str, Any]

    @property
    def address(self) -> str:
        """`SESSION/N`, as the command line takes it."""
        return f"{self.session}/{self.n}"


@dataclass(frozen=True, slots=True)
class Event:
    """One entry of a session's append-only log; `seq` counts from 1."""

    session: str
    seq: int
    kind: str
    created: float
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """A session at one head.

    `head` is 0 at creation and grows by one with each commit. `context` are the numbers of the memories that are in
    the model's context, in order. `tokens` are the token ids of that context (int32, little endian; opaque here).
    `blob` is the stored KV of exactly these tokens, or None.
    """

    name: str
    head: int
    next_n: int
    next_seq: int
    context: tuple[int, ...]
    settings: Mapping[str, Any]
    fingerprint: Mapping[str, str] | None
    blob: BlobRef | None
    created: float
    updated: float
    tokens: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Notes:
    """What a stretch lays down.

    Attributes:
        kept: rules, in the user's words.
        over: places of earlier notes that it changes or takes back. Numbers and no text, so that what is forgotten
            there leaves no trace here.
    """

    kept: tuple[str, ...] = ()
    over: tuple[NotePlace, ...] = ()


@dataclass(frozen=True, slots=True)
class StoredSegment:
    """A stretch of a session, from memory `first` to memory `last`, and what was made from its text.

    `fingerprint` says which model the cache `blob` belongs to, `embedder` which model its vectors come from. What is
    None was not made, or was taken out of use.
    """

    session: str
    first: int
    last: int
    created: float
    blob: BlobRef | None = None
    fingerprint: Mapping[str, str] | None = None
    embedder: str | None = None
    notes: Notes = Notes()

    @property
    def address(self) -> str:
        """`SESSION/FIRST-LAST`."""
        return f"{self.session}/{self.first}-{self.last}"


@dataclass(frozen=True, slots=True)
class BlobUse:
    """Who refers to a blob: a session, or its segment that begins with memory `first`."""

    tenant: str
    session: str
    first: int | None
    ref: BlobRef

    @property
    def where(self) -> str:
        """For messages."""
        segment = "" if self.first is None else f", segment {self.first}"
        return f"tenant {self.tenant}, session {self.session}{segment}"


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """One line of a listing of sessions; sizes in bytes."""

    name: str
    head: int
    memories: int
    in_context: int
    settings: Mapping[str, Any]
    text_bytes: int
    record_bytes: int
    token_bytes: int
    blob_bytes: int
    created: float
    updated: float


@dataclass(frozen=True, slots=True)
class Usage:
    """Bytes a tenant uses: memory texts and notes, JSON records (events and data), token ids, KV blobs, vectors."""

    text: int
    records: int
    tokens: int
    blobs: int
    vectors: int

    @property
    def total(self) -> int:
        """The bytes that count against the quota."""
        return self.text + self.records + self.tokens + self.blobs + self.vectors


@dataclass(frozen=True, slots=True)
class Problem:
    """Something `verify` found. `kind` is a short fixed word, `where` a tenant, session or file."""

    kind: str
    where: str
    detail: str
    next_step: str


@dataclass(frozen=True, slots=True)
class GcReport:
    """What one `gc` removed. `skipped` says why blobs were left alone, if they were."""

    expired_sessions: tuple[str, ...] = ()
    missing_blobs: int = 0
    orphan_blobs: int = 0
    quarantined: int = 0
    temp_files: int = 0
    freed_bytes: int = 0
    scrubbed: bool = False
    skipped: str | None = None

    @property
    def found_nothing(self) -> bool:
        """Whether there was nothing to collect."""
        return self == GcReport()
