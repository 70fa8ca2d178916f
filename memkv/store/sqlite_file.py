"""The SQLite file under the index: opening, one transaction, errors by name, and leaving no trace of deleted text."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw

from memkv.errors import (
    DamagedStore,
    ForgetPending,
    IncompatibleStore,
    InvalidInput,
    MemkvError,
    StorageFull,
    StoreBusy,
)
from memkv.store.file_lock import FileLock
from memkv.store.migrations import MIGRATIONS, applied_steps, migrate

BUSY_SECONDS = 10.0
# Our statements are fixed and checked by tests, so that an SQL error means a damaged schema.
DAMAGE = (
    apsw.IOError,
    apsw.CorruptError,
    apsw.CantOpenError,
    apsw.ReadOnlyError,
    apsw.SQLError,
    apsw.MismatchError,
    apsw.ConstraintError,
)
NO_ROOM = (apsw.SQLITE_IOERR_WRITE, apsw.SQLITE_IOERR_SHMSIZE, apsw.SQLITE_IOERR_TRUNCATE)
RECOVER = "Copy the whole store folder away, then `memkv memory export` the sessions that can still be read."
LATER = "Close the other processes that use this store, then run `memkv memory gc`."


class SqliteFile:
    """One connection, usable from several threads (one at a time), never across a fork."""

    def __init__(self, path: Path, lock: FileLock, busy_seconds: float = BUSY_SECONDS) -> None:
        """Open or make the file; `lock` keeps two processes from setting it up at once."""
        self.path = path
        self.busy_seconds = busy_seconds
        self._turn = threading.RLock()
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))  # SQLite would let the umask decide
        with self._named_errors():
            self._db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
            try:
                self._set_up(lock)
            except BaseException:
                self._db.close()
                raise

    def _set_up(self, lock: FileLock) -> None:
        self._db.set_busy_timeout(int(self.busy_seconds * 1000))
        self._db.pragma("temp_store", "memory")  # a sort or a VACUUM must not write text to /tmp
        if applied_steps(self._db) < len(MIGRATIONS):
            with lock.exclusive(self.busy_seconds):
                self._db.pragma("journal_mode", "wal")
                with self.transaction():
                    migrate(self._db)
        self._db.pragma("journal_mode", "wal")
        self._db.pragma("synchronous", "full")
        self._db.pragma("foreign_keys", "on")
        self._db.pragma("secure_delete", "on")

    def close(self) -> None:
        """Close the connection; the last one folds the write-ahead log in and deletes it."""
        with self._turn, self._named_errors():
            self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """`BEGIN IMMEDIATE` ... `COMMIT`, or everything undone."""
        with self._turn, self._named_errors():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # SQLite has already rolled back after some errors
                    self._db.execute("ROLLBACK")
                raise

    def rows(self, sql: str, bindings: tuple[Any, ...] | dict[str, Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of one statement."""
        with self._turn, self._named_errors():
            return self._db.execute(sql, bindings).fetchall()

    def stream(self, sql: str, bindings: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
        """The rows of one statement, one at a time: for walks over everything that must not fill the memory."""
        with self._turn, self._named_errors():
            yield from self._db.execute(sql, bindings)

    def row(self, sql: str, bindings: tuple[Any, ...] | dict[str, Any] = ()) -> tuple[Any, ...] | None:
        """The first row."""
        found = self.rows(sql, bindings)
        return found[0] if found else None

    def write(self, sql: str, bindings: tuple[Any, ...] | dict[str, Any] = ()) -> None:
        """One statement inside a `transaction`."""
        with self._named_errors():
            self._db.execute(sql, bindings)

    def write_many(self, sql: str, bindings: list[tuple[Any, ...]]) -> None:
        """One statement for each row, inside a `transaction`."""
        with self._named_errors():
            self._db.executemany(sql, bindings)

    def checkpoint(self) -> bool:
        """Fold the whole write-ahead log into the file and cut it to nothing; False while readers are in the way."""
        with self._turn, self._named_errors():
            try:
                self._db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
            except apsw.BusyError:
                return False
        return True

    def scrub(self) -> None:
        """Rewrite the file, then cut the log.

        `secure_delete` zeroes a deleted row, but not the older copies that balancing a B-tree leaves in the unused
        part of other pages; only VACUUM drops those.

        Raises:
            ForgetPending: a reader keeps the log alive, or there is no room to rewrite the file.
        """
        size = self.path.stat().st_size
        try:
            with self._turn, self._named_errors():
                self._db.execute("VACUUM")
        except (StorageFull, StoreBusy) as error:
            self.checkpoint()
            raise ForgetPending(
                f"Deleted, but unused parts of {self.path.name} may hold old copies ({error.message})",
                f"Make {2 * size} bytes of room and run `memkv memory gc`.",
            ) from error
        if not self.checkpoint():
            raise ForgetPending(
                f"Deleted, but {self.path.name}-wal holds the text until another process stops reading", LATER
            )

    def integrity(self) -> list[str]:
        """What SQLite itself finds wrong with the file."""
        found = [str(row[0]) for row in self.rows("PRAGMA integrity_check")]
        return [] if found == ["ok"] else found

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except MemkvError:
            raise
        except apsw.NotADBError as error:
            raise IncompatibleStore(
                f"{self.path} is not a memkv store, or its first page is damaged",
                "Name another folder with --store, or put back a copy.",
            ) from error
        except apsw.FullError as error:
            raise StorageFull("No room on the disk for the index", "Free some space; nothing was lost.") from error
        except (apsw.BusyError, apsw.LockedError) as error:
            waited = f"{self.busy_seconds:g} s"
            raise StoreBusy(f"Another process kept {self.path.name} for {waited}", "Try again.") from error
        except UnicodeDecodeError as error:
            raise DamagedStore(f"{self.path} holds a text that is not UTF-8", RECOVER) from error
        except apsw.TooBigError as error:
            raise InvalidInput(f"Too large for one record: {error}", "Split the text.") from error
        except DAMAGE as error:
            if getattr(error, "extendedresult", 0) in NO_ROOM:  # apsw sets it, its type stubs do not know
                raise StorageFull(f"Cannot write the index: {error}", "Free some space; nothing was lost.") from error
            raise DamagedStore(f"{self.path} cannot be read as written: {error}", RECOVER) from error
