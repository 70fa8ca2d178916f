"""`MemoryStore`: opening a store by URL, and what concerns all of its tenants."""

from __future__ import annotations

import os
import secrets
import time
from pathlib import Path
from types import TracebackType
from urllib.parse import unquote, urlsplit

from memkv.config import memkv_home
from memkv.errors import ConfigError, IncompatibleStore, StorageFull
from memkv.store import forget, maintenance
from memkv.store.backend import Backend
from memkv.store.blob_files import FileBlobs, storage_errors, sync_folder
from memkv.store.names import check_name
from memkv.store.records import GcReport, Problem, Tenant
from memkv.store.sqlite_index import SqliteIndex
from memkv.store.tenant import TenantStore

INDEX = "index.sqlite"
OWN_NAMES = {INDEX, f"{INDEX}-wal", f"{INDEX}-shm", f"{INDEX}-journal", "blobs", "quarantine", "lock", "reserve"}


class MemoryStore:
    """All tenants' sessions, memories and KV blobs. One process may open many; do not carry one across a fork."""

    def __init__(self, backend: Backend) -> None:
        """Use `MemoryStore.open` unless you bring a backend of your own."""
        self._backend = backend

    @classmethod
    def open(cls, url: str | Path | None = None) -> MemoryStore:
        """Open the store at `url`, making it if there is none: a folder, as a path or `file:///path`.

        Without `url`: `MEMKV_STORE_URL`, or `store` in the home folder of memkv.

        Raises:
            ConfigError: a URL scheme that no backend handles.
            IncompatibleStore: the folder is no store, or belongs to a newer memkv.
            DamagedStore, StorageFull, StoreBusy: it cannot be opened now.
        """
        folder = folder_of(url or os.environ.get("MEMKV_STORE_URL") or memkv_home() / "store")
        try:
            with storage_errors():
                prepare(folder)
                blobs = FileBlobs(folder)
                try:
                    index = SqliteIndex(folder / INDEX, blobs.lock)
                except StorageFull:  # even reading needs a little room, for SQLite's shared memory file
                    blobs.release_reserve()
                    index = SqliteIndex(folder / INDEX, blobs.lock)
        except OSError as error:
            raise IncompatibleStore(
                f"{folder} cannot hold a store: {error.strerror}", "Name a folder that you can write to with --store."
            ) from error
        return cls(Backend(index, blobs))

    def close(self) -> None:
        """Release the store; the last process to do so folds the write-ahead log in."""
        self._backend.index.close()

    def __enter__(self) -> MemoryStore:
        """The store itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close it."""
        self.close()

    def tenant(self, tenant_id: str, create: bool = True) -> TenantStore:
        """One tenant's part of the store; made with a fresh secret key if it is new and `create` is set.

        Raises:
            InvalidInput: an id that cannot be used.
            NotFound: no such tenant and `create` is False.
        """
        check_name(tenant_id, "tenant")
        if create and self._backend.index.tenant(tenant_id) is None:
            with self._backend.index.transaction():
                if self._backend.index.tenant(tenant_id) is None:  # else another process was faster
                    self._backend.index.save_tenant(Tenant(tenant_id, secrets.token_bytes(32), time.time()))
        return TenantStore(self._backend, self._backend.tenant(tenant_id).id)

    def tenants(self) -> list[Tenant]:
        """All tenants by id."""
        return self._backend.index.tenants()

    def forget_tenant(self, tenant_id: str) -> None:
        """Delete the tenant, its key and all its sessions.

        Raises:
            NotFound: no such tenant.
            ForgetPending: deleted, but traces are left until the next gc.
        """
        forget.forget_tenant(self._backend, tenant_id)

    def verify(self, progress: maintenance.Progress | None = None) -> list[Problem]:
        """Check everything and change nothing. `progress(done, total)` counts bytes of blobs."""
        return maintenance.verify(self._backend, progress)

    def gc(self, timeout: float = 10.0) -> GcReport:
        """Remove expired sessions, blobs and files that nothing refers to, and traces of deleted text.

        Waits up to `timeout` seconds for writers, then leaves the blobs and says so in the report.

        Raises:
            ForgetPending: another process keeps deleted text alive.
        """
        return maintenance.gc(self._backend, timeout)


def folder_of(url: str | Path) -> Path:
    """The folder that a store URL means."""
    text = str(url)
    if "://" not in text:
        return Path(text).expanduser().absolute()
    parts = urlsplit(text)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
        raise ConfigError(
            f"No store backend for {parts.scheme}://{parts.netloc}", "Known: a plain path, and file:///absolute/path."
        )
    return Path(unquote(parts.path))


def prepare(folder: Path) -> None:
    """Make the folder, or make sure that it is a store or empty."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    names = {entry.name for entry in folder.iterdir()}
    if INDEX in names:
        return
    foreign = sorted(names - OWN_NAMES)
    if foreign:
        raise IncompatibleStore(
            f"{folder} is not a memkv store: it holds {foreign[0]!r}", "Name an empty folder with --store."
        )
    folder.chmod(0o700)  # KV is as private as the text it came from
    sync_folder(folder.parent)
