"""The embedded `Index`: the questions and changes of the store, in SQL."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import astuple
from pathlib import Path
from typing import Any

from memkv.errors import DamagedStore, NotFound
from memkv.store.file_lock import FileLock
from memkv.store.names import from_json, to_json
from memkv.store.records import (
    BlobRef,
    BlobUse,
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
from memkv.store.row_checks import check_rows, digest
from memkv.store.sqlite_file import RECOVER, SqliteFile

SESSION_ID = "(SELECT id FROM sessions WHERE tenant = ? AND name = ?)"
SEGMENTS = "FROM sessions s JOIN segments g ON g.session = s.id"
SEGMENT = "s.name, g.first, g.last, g.created, g.blob, g.blob_length, g.fingerprint, g.embedder, g.notes"
KEPT = ("first", "last", "created", "blob", "blob_length", "fingerprint", "embedder", "vector", "notes")
MEMORY = "s.name, m.n, m.kind, m.role, m.text, m.created, m.sources, m.data"


class SqliteIndex:
    """Everything but the blobs, in one SQLite file."""

    def __init__(self, path: Path, lock: FileLock) -> None:
        """Open or make the file."""
        self.file = SqliteFile(path, lock)

    def transaction(self) -> AbstractContextManager[None]:
        """See `Index`."""
        return self.file.transaction()

    def close(self) -> None:
        """See `Index`."""
        self.file.close()

    def tenants(self) -> list[Tenant]:
        """See `Index`."""
        rows = self.file.rows("SELECT id, key, created, quota_bytes, ttl_seconds FROM tenants ORDER BY id")
        return [Tenant(*row) for row in rows]

    def tenant(self, tenant_id: str) -> Tenant | None:
        """See `Index`."""
        sql = "SELECT id, key, created, quota_bytes, ttl_seconds FROM tenants WHERE id = ?"
        row = self.file.row(sql, (tenant_id,))
        return None if row is None else Tenant(*row)

    def save_tenant(self, tenant: Tenant) -> None:
        """See `Index`."""
        self.file.write(
            "INSERT INTO tenants (id, key, created, quota_bytes, ttl_seconds) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT(id) DO UPDATE"
            " SET quota_bytes = excluded.quota_bytes, ttl_seconds = excluded.ttl_seconds",
            (tenant.id, tenant.key, tenant.created, tenant.quota_bytes, tenant.ttl_seconds),
        )

    def delete_tenant(self, tenant_id: str) -> None:
        """See `Index`."""
        self._note_deletion()
        self.file.write("DELETE FROM tenants WHERE id = ?", (tenant_id,))

    def usage(self, tenant_id: str) -> Usage:
        """See `Index`."""
        row = self.file.row(
            "SELECT total(text_bytes), total(record_bytes), total(length(tokens)), total(blob_length)"
            " FROM sessions WHERE tenant = ?",
            (tenant_id,),
        )
        made = self.file.row(
            "SELECT total(g.blob_length), total(length(g.vector)), total(octet_length(g.notes))"
            f" {SEGMENTS} WHERE s.tenant = ?",
            (tenant_id,),
        )
        text, records, tokens, blobs = (int(count) for count in row or (0, 0, 0, 0))
        caches, vectors, notes = (int(count) for count in made or (0, 0, 0))
        return Usage(text + notes, records, tokens, blobs + caches, vectors)

    def sessions(self, tenant_id: str) -> list[SessionInfo]:
        """See `Index`."""
        rows = self.file.rows(
            "SELECT name, head, (SELECT count(*) FROM memories WHERE session = s.id), json_array_length(context),"
            " settings, text_bytes, record_bytes, length(tokens), coalesce(blob_length, 0), created, updated"
            " FROM sessions s WHERE tenant = ? ORDER BY updated DESC, name",
            (tenant_id,),
        )
        return [SessionInfo(*(*row[:4], from_json(row[4]), *row[5:])) for row in rows]

    def session(self, tenant_id: str, name: str) -> SessionRecord | None:
        """See `Index`."""
        row = self.file.row(
            "SELECT head, next_n, next_seq, context, settings, fingerprint, blob, blob_length, created, updated, tokens"
            " FROM sessions WHERE tenant = ? AND name = ?",
            (tenant_id, name),
        )
        if row is None:
            return None
        head, next_n, next_seq, context, settings, fingerprint, blob, length, created, updated, tokens = row
        return SessionRecord(
            name=name, head=head, next_n=next_n, next_seq=next_seq, context=tuple(from_json(context)),
            settings=from_json(settings), fingerprint=None if fingerprint is None else from_json(fingerprint),
            blob=None if blob is None else BlobRef(blob, length), created=created, updated=updated, tokens=tokens,
        )  # fmt: skip

    def save_session(self, tenant_id: str, record: SessionRecord) -> None:
        """See `Index`."""
        columns: dict[str, Any] = {
            "tenant": tenant_id, "name": record.name, "head": record.head, "next_n": record.next_n,
            "next_seq": record.next_seq, "context": to_json(list(record.context), "The context"),
            "settings": to_json(record.settings, "The settings"),
            "fingerprint": None if record.fingerprint is None else to_json(record.fingerprint, "The fingerprint"),
            "blob": record.blob and record.blob.id, "blob_length": record.blob and record.blob.length,
            "created": record.created, "updated": record.updated, "tokens": record.tokens,
        }  # fmt: skip
        columns["digest"] = digest(*columns.values())
        changes = ", ".join(f"{name} = excluded.{name}" for name in columns)
        self.file.write(
            f"INSERT INTO sessions ({', '.join(columns)}) VALUES ({', '.join(':' + name for name in columns)})"
            f" ON CONFLICT(tenant, name) DO UPDATE SET {changes}",
            columns,
        )

    def delete_session(self, tenant_id: str, name: str) -> None:
        """See `Index`."""
        self._note_deletion()
        self.file.write("DELETE FROM sessions WHERE tenant = ? AND name = ?", (tenant_id, name))

    def add_memories(self, tenant_id: str, session: str, memories: Sequence[Memory]) -> None:
        """See `Index`."""
        rows, text, records = [], 0, 0
        for memory in memories:
            sources = to_json(list(memory.sources), "The sources") if memory.sources else None
            data = to_json(memory.data, "The data of a memory") if memory.data else None
            row = (memory.n, memory.kind, memory.role, memory.created, sources, data, memory.text)
            rows.append((tenant_id, session, *row, digest(*row)))
            text += len(memory.text.encode())
            records += len((data or "").encode())
        insert = "INSERT INTO memories (session, n, kind, role, created, sources, data, text, digest)"
        self.file.write_many(f"{insert} VALUES ({SESSION_ID}, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
        self._add_bytes(tenant_id, session, text, records)

    def delete_memories(self, tenant_id: str, session: str, numbers: Iterable[int]) -> None:
        """See `Index`."""
        self._note_deletion()
        where = f"session = {SESSION_ID} AND n IN (SELECT value FROM json_each(?))"
        bindings = (tenant_id, session, to_json(sorted(numbers), "Numbers"))
        sizes = f"SELECT total(octet_length(text)), total(octet_length(data)) FROM memories WHERE {where}"
        text, records = self.file.rows(sizes, bindings)[0]
        self.file.write(f"DELETE FROM memories WHERE {where}", bindings)
        self._add_bytes(tenant_id, session, -int(text), -int(records))

    def add_events(self, tenant_id: str, session: str, events: Sequence[Event]) -> None:
        """See `Index`."""
        rows, records = [], 0
        for event in events:
            data = to_json(event.data, "The data of an event")
            row = (event.seq, event.kind, event.created, data)
            rows.append((tenant_id, session, *row, digest(*row)))
            records += len(data.encode())
        insert = "INSERT INTO events (session, seq, kind, created, data, digest)"
        self.file.write_many(f"{insert} VALUES ({SESSION_ID}, ?, ?, ?, ?, ?)", rows)
        self._add_bytes(tenant_id, session, 0, records)

    def memories(
        self, tenant_id: str, session: str | None, kind: str | None, containing: str | None, limit: int, offset: int
    ) -> list[Memory]:
        """See `Index`."""
        where, bindings = ["s.tenant = ?"], [tenant_id]
        for condition, value in (("s.name = ?", session), ("m.kind = ?", kind)):
            if value is not None:
                where.append(condition)
                bindings.append(value)
        if containing is not None:
            where.append("m.text LIKE ? ESCAPE '\\'")
            escaped = containing.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
            bindings.append(f"%{escaped}%")
        sql = f"SELECT {MEMORY} FROM sessions s JOIN memories m ON m.session = s.id WHERE {' AND '.join(where)}"
        rows = self.file.rows(f"{sql} ORDER BY s.name, m.n LIMIT ? OFFSET ?", (*bindings, limit, offset))
        return [to_memory(row) for row in rows]

    def memory(self, tenant_id: str, session: str, n: int) -> Memory | None:
        """See `Index`."""
        sql = f"SELECT {MEMORY} FROM sessions s JOIN memories m ON m.session = s.id"
        row = self.file.row(f"{sql} WHERE s.tenant = ? AND s.name = ? AND m.n = ?", (tenant_id, session, n))
        return None if row is None else to_memory(row)

    def sources(self, tenant_id: str, session: str) -> dict[int, tuple[int, ...]]:
        """See `Index`."""
        rows = self.file.rows(f"SELECT n, sources FROM memories WHERE session = {SESSION_ID}", (tenant_id, session))
        return {n: tuple(from_json(sources)) if sources else () for n, sources in rows}

    def events(self, tenant_id: str, session: str, kind: str | None) -> list[Event]:
        """See `Index`."""
        rows = self.file.rows(
            f"SELECT seq, kind, created, data FROM events WHERE session = {SESSION_ID}"
            " AND (?3 IS NULL OR kind = ?3) ORDER BY seq",
            (tenant_id, session, kind),
        )
        return [Event(session, seq, kind, created, from_json(data)) for seq, kind, created, data in rows]

    def save_segment(self, tenant_id: str, segment: StoredSegment, messages: int | None = None) -> None:
        """See `Index`."""
        if messages is not None:
            said = self.stretch(tenant_id, segment.session, segment.first, segment.last)
            if not said or len(said) != messages:
                raise NotFound(f"Some of {segment.address} is gone", "It was forgotten meanwhile.")
        blob = segment.blob
        made_for = None if segment.fingerprint is None else to_json(segment.fingerprint, "The fingerprint")
        cache = {"blob": blob and blob.id, "blob_length": blob and blob.length, "fingerprint": made_for}
        notes = notes_json(segment.notes)
        row = {"first": segment.first, "last": segment.last, "created": segment.created, "notes": notes}
        before = self.segment(tenant_id, segment.session, segment.first)
        other = {} if before is None or before.last == segment.last else {"embedder": None, "vector": None}
        self._save_segment(tenant_id, segment.session, segment.first, {**row, **cache, **other})

    def save_notes(self, tenant_id: str, segment: StoredSegment, notes: Notes) -> None:
        """See `Index`."""
        known = self.segment(tenant_id, segment.session, segment.first)
        if known is None or known.last != segment.last:
            raise NotFound(f"No segment {segment.address}", "It was forgotten meanwhile.")
        self._save_segment(tenant_id, segment.session, segment.first, {"notes": notes_json(notes)})

    def save_vectors(self, tenant_id: str, embedder: str, vectors: Iterable[tuple[str, int, bytes]]) -> None:
        """See `Index`."""
        for session, first, vector in vectors:
            if self.segment(tenant_id, session, first) is None:
                raise NotFound(f"No segment {session}/{first}", "It was forgotten meanwhile.")
            self._save_segment(tenant_id, session, first, {"embedder": embedder, "vector": vector})

    def _save_segment(self, tenant_id: str, session: str, first: int, changes: Mapping[str, Any]) -> None:
        """Insert a segment, or change some of its columns."""
        sql = f"SELECT {', '.join('g.' + name for name in KEPT)} {SEGMENTS} WHERE s.tenant = ? AND s.name = ?"
        row = self.file.row(f"{sql} AND g.first = ?", (tenant_id, session, first)) or (None,) * len(KEPT)
        columns = {**dict(zip(KEPT, row, strict=True)), **changes}
        self.file.write(
            f"INSERT OR REPLACE INTO segments (session, {', '.join(KEPT)}, digest)"
            f" VALUES ({SESSION_ID}, {', '.join('?' * len(KEPT))}, ?)",
            (tenant_id, session, *columns.values(), digest(*columns.values())),
        )

    def segment(self, tenant_id: str, session: str, first: int) -> StoredSegment | None:
        """See `Index`."""
        sql = f"SELECT {SEGMENT} {SEGMENTS} WHERE s.tenant = ? AND s.name = ? AND g.first = ?"
        row = self.file.row(sql, (tenant_id, session, first))
        return None if row is None else to_segment(row)

    def segments(self, tenant_id: str, session: str | None) -> list[StoredSegment]:
        """See `Index`."""
        sql = (
            f"SELECT {SEGMENT} {SEGMENTS} WHERE s.tenant = ?1 AND (?2 IS NULL OR s.name = ?2) ORDER BY s.name, g.first"
        )
        return [to_segment(row) for row in self.file.rows(sql, (tenant_id, session))]

    def noted(self, tenant_id: str) -> list[StoredSegment]:
        """See `Index`."""
        where = "s.tenant = ? AND g.notes IS NOT NULL"
        sql = f"SELECT {SEGMENT} {SEGMENTS} WHERE {where} ORDER BY g.created, s.name, g.first"
        return [to_segment(row) for row in self.file.rows(sql, (tenant_id,))]

    def segments_after(self, tenant_id: str, moment: float) -> list[StoredSegment]:
        """See `Index`."""
        said = "(SELECT m.created FROM memories m WHERE m.session = s.id AND m.n = g.first)"
        sql = f"SELECT {SEGMENT} {SEGMENTS} WHERE s.tenant = ? AND {said} > ? ORDER BY {said}, s.name, g.first"
        return [to_segment(row) for row in self.file.rows(sql, (tenant_id, moment))]

    def segment_changes(self, tenant_id: str) -> int:
        """See `Index`."""
        row = self.file.row("SELECT segment_changes FROM tenants WHERE id = ?", (tenant_id,))
        return 0 if row is None else int(row[0])

    def unembedded(self, tenant_id: str, embedder: str, vector_bytes: int) -> list[StoredSegment]:
        """See `Index`."""
        sql = (
            f"SELECT {SEGMENT} {SEGMENTS} WHERE s.tenant = ?"
            " AND (g.embedder IS NOT ? OR coalesce(length(g.vector), 0) = 0 OR length(g.vector) % ? != 0)"
            " ORDER BY s.name, g.first"
        )
        return [to_segment(row) for row in self.file.rows(sql, (tenant_id, embedder, vector_bytes))]

    def unsegmented(self, tenant_id: str) -> list[str]:
        """See `Index`."""
        rows = self.file.rows(
            "SELECT s.name FROM sessions s WHERE s.tenant = ?"
            " AND EXISTS (SELECT 1 FROM memories m WHERE m.session = s.id AND m.kind = 'message'"
            " AND NOT EXISTS (SELECT 1 FROM segments g WHERE g.session = s.id AND m.n BETWEEN g.first AND g.last))"
            " ORDER BY s.updated DESC, s.name",
            (tenant_id,),
        )
        return [name for (name,) in rows]

    def stretch(self, tenant_id: str, session: str, first: int, last: int) -> list[Memory]:
        """See `Index`."""
        rows = self.file.rows(
            f"SELECT {MEMORY} FROM sessions s JOIN memories m ON m.session = s.id"
            " WHERE s.tenant = ? AND s.name = ? AND m.n BETWEEN ? AND ? AND m.kind = 'message' ORDER BY m.n",
            (tenant_id, session, first, last),
        )
        return [to_memory(row) for row in rows]

    def vectors(self, tenant_id: str, embedder: str) -> Iterator[tuple[str, int, bytes]]:
        """See `Index`."""
        yield from self.file.stream(
            f"SELECT s.name, g.first, g.vector {SEGMENTS} WHERE s.tenant = ? AND g.embedder = ?"
            " ORDER BY s.name, g.first",
            (tenant_id, embedder),
        )

    def blobs(self) -> list[BlobUse]:
        """See `Index`."""
        rows = self.file.rows(
            "SELECT tenant, name, NULL, blob, blob_length FROM sessions WHERE blob IS NOT NULL"
            f" UNION ALL SELECT s.tenant, s.name, g.first, g.blob, g.blob_length {SEGMENTS} WHERE g.blob IS NOT NULL"
        )
        return [BlobUse(tenant, name, first, BlobRef(blob, length)) for tenant, name, first, blob, length in rows]

    def uses_blob(self, blob_id: str) -> bool:
        """See `Index`."""
        sql = "SELECT 1 FROM sessions WHERE blob = ?1 UNION ALL SELECT 1 FROM segments WHERE blob = ?1"
        return self.file.row(sql, (blob_id,)) is not None

    def check(self) -> list[Problem]:
        """See `Index`."""
        try:
            found = [Problem("index", str(self.file.path), line, RECOVER) for line in self.file.integrity()]
            return found or check_rows(self.file)
        except DamagedStore as error:
            return [Problem("index", str(self.file.path), error.message, RECOVER)]

    def needs_scrub(self) -> bool:
        """See `Index`."""
        return self._deletions() > 0

    def scrub(self) -> None:
        """See `Index`."""
        seen = self._deletions()
        self.file.scrub()
        with self.transaction():  # unless someone deleted more in the meantime
            self.file.write("UPDATE counters SET value = 0 WHERE name = 'scrub' AND value = ?", (seen,))

    def checkpoint(self) -> None:
        """See `Index`."""
        self.file.checkpoint()

    def _deletions(self) -> int:
        return int(self.file.rows("SELECT value FROM counters WHERE name = 'scrub'")[0][0])

    def _note_deletion(self) -> None:
        self.file.write("UPDATE counters SET value = value + 1 WHERE name = 'scrub'")

    def _add_bytes(self, tenant_id: str, session: str, text: int, records: int) -> None:
        self.file.write(
            "UPDATE sessions SET text_bytes = text_bytes + ?, record_bytes = record_bytes + ?"
            " WHERE tenant = ? AND name = ?",
            (text, records, tenant_id, session),
        )


def to_memory(row: tuple[Any, ...]) -> Memory:
    """A row of the columns `MEMORY`."""
    name, n, kind, role, text, created, sources, data = row
    numbers = tuple(from_json(sources)) if sources else ()
    return Memory(name, n, kind, role, text, created, numbers, from_json(data) if data else {})


def to_segment(row: tuple[Any, ...]) -> StoredSegment:
    """A row of the columns `SEGMENT`."""
    name, first, last, created, blob, length, fingerprint, embedder, notes = row
    ref = None if blob is None else BlobRef(blob, length)
    made_for = None if fingerprint is None else from_json(fingerprint)
    return StoredSegment(name, first, last, created, ref, made_for, embedder, to_notes(notes))


def notes_json(notes: Notes) -> str | None:
    """Notes as they are stored; None for none."""
    return to_json([notes.kept, notes.over], "The notes") if any(astuple(notes)) else None


def to_notes(stored: str | None) -> Notes:
    """Notes as they are stored; None where there are none."""
    kept, over = from_json(stored) if stored else ((), ())
    return Notes(tuple(kept), tuple((session, first, last, index) for session, first, last, index in over))
