"""A blob store and an index working together: the rules that hold whatever the two are made of."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from memkv.config import format_bytes
from memkv.errors import NotFound, QuotaExceeded, StoreBusy
from memkv.store.protocols import BlobStore, Index
from memkv.store.records import BlobRef, BlobUse, SessionRecord, Tenant


@dataclass(frozen=True)
class Collected:
    """What `Backend.collect` deleted."""

    orphan_blobs: int = 0
    quarantined: int = 0
    temp_files: int = 0
    freed_bytes: int = 0


@dataclass(frozen=True)
class Backend:
    """The pair behind one store. `unused` are blobs of past heads that could not be deleted at once."""

    index: Index
    blobs: BlobStore
    unused: set[str] = field(default_factory=set)

    def tenant(self, tenant_id: str) -> Tenant:
        """The tenant.

        Raises:
            NotFound: there is none of that id, with the nearest ids.
        """
        found = self.index.tenant(tenant_id)
        if found is None:
            known = [tenant.id for tenant in self.index.tenants()]
            raise NotFound(f"No tenant {tenant_id!r}", nearest(tenant_id, known, "memkv memory ls --tenants"))
        return found

    def session(self, tenant_id: str, name: str) -> SessionRecord:
        """The session at its present head.

        Raises:
            NotFound: there is none of that name, with the nearest names.
        """
        found = self.index.session(tenant_id, name)
        if found is None:
            known = [session.name for session in self.index.sessions(tenant_id)]
            command = "memkv memory ls" if tenant_id == "default" else f"memkv memory ls --tenant {tenant_id}"
            raise NotFound(f"No session {name!r}", nearest(name, known, command))
        return found

    @contextmanager
    def growing(self, tenant_id: str) -> Iterator[Tenant]:
        """A transaction that may grow what the tenant stores, but not beyond its quota.

        Raises:
            QuotaExceeded: it would; the transaction is undone.
        """
        with self.index.transaction():
            tenant = self.tenant(tenant_id)
            if tenant.quota_bytes is None:  # the sums go through all sessions
                yield tenant
                return
            used = self.index.usage(tenant_id).total
            yield tenant
            needed = self.index.usage(tenant_id).total
            if needed > max(used, tenant.quota_bytes):
                raise over_quota(tenant, used, needed)

    def discard(self, *refs: BlobRef | None) -> None:
        """Delete blobs that nothing refers to any more, unless writers are at work: then next time, or by gc.

        A writer about to commit may have written the very same bytes, so the check and the deletion are made alone.
        """
        self.unused.update(ref.id for ref in refs if ref is not None)
        if not self.unused:
            return
        try:
            with self.blobs.alone(timeout=0):
                for blob_id in tuple(self.unused):
                    if not self.index.uses_blob(blob_id):
                        self.blobs.drop(blob_id)
                    self.unused.discard(blob_id)
        except StoreBusy:
            return  # they stay in `unused`

    def collect(self, timeout: float) -> Collected:
        """Delete every blob and file that nothing refers to.

        Raises:
            StoreBusy: writers were at work for all of `timeout` seconds.
        """
        with self.blobs.alone(timeout):
            used = {use.ref.id for use in self.index.blobs()}
            orphans = [blob_id for blob_id in self.blobs.stored() if blob_id not in used]
            quarantined, temps = self.blobs.quarantined(), self.blobs.leftovers()
            freed = sum(self.blobs.delete(blob_id) for blob_id in orphans)
            self.blobs.remove([*quarantined, *temps])
            self.blobs.sync_deletions()
            self.unused.clear()
        freed += sum(quarantined.values()) + sum(temps.values())
        return Collected(len(orphans), len(quarantined), len(temps), freed)


def drop_cache(backend: Backend, use: BlobUse) -> None:
    """A segment goes on without its cache, inside a transaction; gone already is fine."""
    segment = None if use.first is None else backend.index.segment(use.tenant, use.session, use.first)
    if segment is not None:
        backend.index.save_segment(use.tenant, replace(segment, blob=None, fingerprint=None))


def nearest(name: str, known: Sequence[str], command: str) -> str:
    """The next step after a name that was not found."""
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    meant = f"Did you mean {' or '.join(repr(other) for other in close)}? " if close else ""
    return f"{meant}`{command}` lists what there is."


def over_quota(tenant: Tenant, used: int, needed: int) -> QuotaExceeded:
    """The error for a change that would bring the tenant from `used` to `needed` bytes."""
    limit = tenant.quota_bytes or 0
    return QuotaExceeded(
        f"Tenant {tenant.id!r} uses {format_bytes(used)} of {format_bytes(limit)}; this needs {format_bytes(needed)}",
        "Forget sessions with `memkv memory forget`, use a smaller codec, or raise the quota.",
        used=used, needed=needed, limit=limit,
    )  # fmt: skip
