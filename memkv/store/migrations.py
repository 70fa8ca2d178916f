"""The schema, as numbered steps that are only ever appended to. Each step runs once, all or nothing."""

from __future__ import annotations

import time

import apsw

from memkv.errors import IncompatibleStore

APPLICATION_ID = 0x6D6B7631  # "mkv1", in the header of the SQLite file

MIGRATIONS: tuple[tuple[str, str], ...] = (
    (
        "tenants, sessions, memories, events",
        # Wide columns last: a listing of sessions then never touches the pages that hold `tokens`.
        # `digest` lets `verify` see a flipped bit in a row, which SQLite itself does not.
        # `memories` and `events` have rowids, so that texts are appended and rarely move between pages.
        """
        CREATE TABLE tenants (
            id TEXT PRIMARY KEY, key BLOB NOT NULL, created REAL NOT NULL, quota_bytes INTEGER, ttl_seconds INTEGER
        ) STRICT;
        CREATE TABLE sessions (
            id INTEGER PRIMARY KEY, tenant TEXT NOT NULL REFERENCES tenants(id) ON DELETE CASCADE, name TEXT NOT NULL,
            head INTEGER NOT NULL, next_n INTEGER NOT NULL, next_seq INTEGER NOT NULL,
            text_bytes INTEGER NOT NULL DEFAULT 0, record_bytes INTEGER NOT NULL DEFAULT 0,
            blob TEXT, blob_length INTEGER, created REAL NOT NULL, updated REAL NOT NULL,
            settings TEXT NOT NULL, fingerprint TEXT, context TEXT NOT NULL, digest BLOB NOT NULL, tokens BLOB NOT NULL,
            UNIQUE (tenant, name)
        ) STRICT;
        CREATE INDEX sessions_blob ON sessions(blob) WHERE blob IS NOT NULL;
        CREATE TABLE memories (
            id INTEGER PRIMARY KEY, session INTEGER NOT NULL REFERENCES sessions(id) ON DELETE CASCADE,
            n INTEGER NOT NULL, kind TEXT NOT NULL, role TEXT NOT NULL, created REAL NOT NULL,
            sources TEXT, data TEXT, digest BLOB NOT NULL, text TEXT NOT NULL, UNIQUE (session, n)
        ) STRICT;
        CREATE TABLE events (
            id INTEGER PRIMARY KEY, session INTEGER NOT NULL REFERENCES sessions(id) ON DELETE CASCADE,
            seq INTEGER NOT NULL, kind TEXT NOT NULL, created REAL NOT NULL, data TEXT NOT NULL, digest BLOB NOT NULL,
            UNIQUE (session, seq)
        ) STRICT;
        CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;
        INSERT INTO counters VALUES ('scrub', 0);
        """,
    ),
    (
        "segments",
        # A stretch of messages with what was made from them, gone with any of them. Cache and vector can be made again
        # from the text, so either may be missing.
        """
        CREATE TABLE segments (
            id INTEGER PRIMARY KEY, session INTEGER NOT NULL REFERENCES sessions(id) ON DELETE CASCADE,
            first INTEGER NOT NULL, last INTEGER NOT NULL, created REAL NOT NULL,
            blob TEXT, blob_length INTEGER, fingerprint TEXT, embedder TEXT, digest BLOB NOT NULL, vector BLOB,
            UNIQUE (session, first)
        ) STRICT;
        CREATE INDEX segments_blob ON segments(blob) WHERE blob IS NOT NULL;
        CREATE TRIGGER forget_segments AFTER DELETE ON memories BEGIN
            DELETE FROM segments WHERE session = OLD.session AND OLD.n BETWEEN first AND last;
        END;
        """,
    ),
    (
        "segments go with their messages alone",
        # Summaries and what was brought back have numbers between those of the messages, and are no part of a segment.
        """
        DROP TRIGGER forget_segments;
        CREATE TRIGGER forget_segments AFTER DELETE ON memories WHEN OLD.kind = 'message' BEGIN
            DELETE FROM segments WHERE session = OLD.session AND OLD.n BETWEEN first AND last;
        END;
        """,
    ),
    (
        "notes of segments",
        # What a stretch lays down. Earlier segments have none; they are derived, so they are made again from the text.
        """
        DELETE FROM segments;
        ALTER TABLE segments ADD COLUMN notes TEXT;
        """,
    ),
    (
        "changes of segments",
        # Counted for each tenant, so that a session notices what others made or forgot since it last looked.
        """
        ALTER TABLE tenants ADD COLUMN segment_changes INTEGER NOT NULL DEFAULT 0;
        CREATE TRIGGER segment_made AFTER INSERT ON segments BEGIN
            UPDATE tenants SET segment_changes = segment_changes + 1
            WHERE id = (SELECT tenant FROM sessions WHERE id = NEW.session);
        END;
        CREATE TRIGGER segment_gone AFTER DELETE ON segments BEGIN
            UPDATE tenants SET segment_changes = segment_changes + 1
            WHERE id = (SELECT tenant FROM sessions WHERE id = OLD.session);
        END;
        CREATE TRIGGER segments_gone BEFORE DELETE ON sessions BEGIN
            UPDATE tenants SET segment_changes = segment_changes + 1 WHERE id = OLD.tenant;
        END;
        """,
    ),
)


def applied_steps(connection: apsw.Connection) -> int:
    """How many migrations the file has had; 0 for an empty file.

    Raises:
        IncompatibleStore: a database of another program, or of a newer memkv.
    """
    if connection.pragma("application_id") != APPLICATION_ID:
        if connection.execute("SELECT count(*) FROM sqlite_schema").get:
            raise IncompatibleStore(
                f"{connection.filename} is a database of another program", "Name another folder with --store."
            )
        return 0
    applied = int(connection.execute("SELECT coalesce(max(number), 0) FROM migrations").get)
    if applied > len(MIGRATIONS):
        raise IncompatibleStore(
            f"{connection.filename} has schema {applied}, this memkv knows {len(MIGRATIONS)}",
            "Upgrade memkv: `pip install -U memkv`.",
        )
    return applied


def migrate(connection: apsw.Connection) -> None:
    """Bring the file to the newest schema. Call it inside a transaction."""
    applied = applied_steps(connection)
    if applied == 0:
        connection.pragma("application_id", APPLICATION_ID)
        connection.execute("CREATE TABLE migrations (number INTEGER PRIMARY KEY, name TEXT, applied REAL) STRICT")
    for number, (name, sql) in enumerate(MIGRATIONS[applied:], start=applied + 1):
        connection.execute(sql)
        connection.execute("INSERT INTO migrations VALUES (?, ?, ?)", (number, name, time.time()))
