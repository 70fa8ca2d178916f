"""What SQLite's own integrity check cannot see: flipped bits in a row, numbers that lead nowhere, wrong sums."""

from __future__ import annotations

from blake3 import blake3

from memkv.store.records import Problem
from memkv.store.sqlite_file import RECOVER, SqliteFile

Value = str | bytes | int | float | None


def digest(*columns: Value) -> bytes:
    """16 bytes over the columns of one row, each with its type and length."""
    hasher = blake3()
    for value in columns:
        data = value if isinstance(value, bytes) else repr(value).encode()
        hasher.update(b"%d " % len(data))
        hasher.update(data)
    return hasher.digest(16)


SESSION = "head, next_n, next_seq, context, settings, fingerprint, blob, blob_length, created, updated, tokens"
DIGESTS = {
    "session": f"SELECT tenant, name, 'session record', tenant, name, {SESSION}, digest FROM sessions",
    "memory": "SELECT s.tenant, s.name, 'memory ' || m.n, m.n, m.kind, m.role, m.created, m.sources, m.data, m.text,"
    " m.digest FROM sessions s JOIN memories m ON m.session = s.id",
    "segment": "SELECT s.tenant, s.name, 'segment ' || g.first, g.first, g.last, g.created, g.blob, g.blob_length,"
    " g.fingerprint, g.embedder, g.vector, g.notes, g.digest FROM sessions s JOIN segments g ON g.session = s.id",
    "event": "SELECT s.tenant, s.name, 'event ' || e.seq, e.seq, e.kind, e.created, e.data, e.digest"
    " FROM sessions s JOIN events e ON e.session = s.id",
}

CONTEXT_GAPS = """
    SELECT s.tenant, s.name, j.value FROM sessions s, json_each(s.context) j
    WHERE NOT EXISTS (SELECT 1 FROM memories m WHERE m.session = s.id AND m.n = j.value)"""
SOURCE_GAPS = """
    SELECT s.tenant, s.name, j.value FROM sessions s JOIN memories m ON m.session = s.id, json_each(m.sources) j
    WHERE m.sources IS NOT NULL AND NOT EXISTS (SELECT 1 FROM memories o WHERE o.session = s.id AND o.n = j.value)"""
WRONG_BYTES = """
    SELECT tenant, name, wrong FROM (
        SELECT s.tenant, s.name,
            abs(s.text_bytes - (SELECT total(octet_length(text)) FROM memories WHERE session = s.id))
            + abs(s.record_bytes - (SELECT total(octet_length(data)) FROM memories WHERE session = s.id)
                - (SELECT total(octet_length(data)) FROM events WHERE session = s.id)) AS wrong
        FROM sessions s) WHERE wrong > 0"""
QUESTIONS = (
    ("context", "its context names memory {}, which does not exist", CONTEXT_GAPS),
    ("sources", "a memory was derived from memory {}, which does not exist", SOURCE_GAPS),
    ("accounting", "its texts and records are {:.0f} bytes off their recorded size", WRONG_BYTES),
)


def check_rows(file: SqliteFile) -> list[Problem]:
    """Every row against its digest; then, if the rows are sound, against each other."""
    found = [
        Problem(kind, f"tenant {tenant}, session {name}", f"{label} is not as it was written", RECOVER)
        for kind, sql in DIGESTS.items()
        for tenant, name, label, *columns in file.stream(sql)
        if digest(*columns[:-1]) != columns[-1]
    ]
    return found or [
        Problem(kind, f"tenant {tenant}, session {name}", text.format(value), RECOVER)
        for kind, text, sql in QUESTIONS
        for tenant, name, value in file.stream(sql)
    ]
