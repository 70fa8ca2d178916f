"""`verify` looks at everything and changes nothing; `gc` removes what nothing refers to."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

from memkv.errors import DamagedBlob, DamagedStore, NotFound, StorageFull, StoreBusy
from memkv.store.backend import Backend, drop_cache
from memkv.store.forget import delete_session
from memkv.store.records import BlobRef, BlobUse, Event, GcReport, Problem, SessionRecord

Progress = Callable[[int, int], None]  # bytes hashed so far, bytes in all
OPEN_IT = "Open the session: memkv rebuilds its cache from the text, which is safe."
RUN_GC = "`memkv memory gc` removes it."


def verify(backend: Backend, progress: Progress | None = None, timeout: float = 2.0) -> list[Problem]:
    """Check the index, re-hash every blob with its tenant's key, and look for files that nothing refers to."""
    problems = backend.index.check()
    try:
        problems += check_blobs(backend, progress)
        with backend.blobs.alone(timeout):
            used = {use.ref.id for use in backend.index.blobs()}
            found = {blob_id: size for blob_id, size in backend.blobs.stored().items() if blob_id not in used}
            groups = {
                "orphan_blob": found,
                "temp_file": backend.blobs.leftovers(),
                "quarantined": backend.blobs.quarantined(),
            }
        for kind, files in groups.items():
            problems += [Problem(kind, name, f"{size} bytes in no use", RUN_GC) for name, size in files.items()]
    except DamagedStore as error:
        problems.append(Problem("index", "index", error.message, error.next_step))
    except StoreBusy as error:
        problems.append(Problem("busy", "blobs", f"files in no use were not looked for: {error.message}", "Try again."))
    return problems


def check_blobs(backend: Backend, progress: Progress | None, tenant: str | None = None) -> list[Problem]:
    """Every blob that something refers to, of one tenant or of all."""
    problems: list[Problem] = []
    referenced = [use for use in backend.index.blobs() if tenant in (None, use.tenant)]
    keys = {tenant.id: tenant.key for tenant in backend.index.tenants()}
    total, done = sum(use.ref.length for use in referenced), 0
    for use in referenced:
        try:
            if use.tenant in keys:  # else forgotten while we looked
                backend.blobs.check(keys[use.tenant], use.ref)
        except (NotFound, DamagedBlob) as error:
            if still_has(backend, use):  # else a writer replaced it while we looked
                kind = "missing_blob" if isinstance(error, NotFound) else "damaged_blob"
                problems.append(Problem(kind, use.where, error.message, OPEN_IT))
        done += use.ref.length
        if progress is not None:
            progress(done, total)
    return problems


def still_has(backend: Backend, use: BlobUse) -> bool:
    """Whether that session or segment still refers to the blob."""
    holder = (
        backend.index.session(use.tenant, use.session)
        if use.first is None
        else backend.index.segment(use.tenant, use.session, use.first)
    )
    return holder is not None and holder.blob == use.ref


def gc(backend: Backend, timeout: float = 10.0) -> GcReport:
    """Expire sessions, drop references to lost blobs, delete unreferenced files, fold the log in.

    Raises:
        ForgetPending: another process keeps deleted text alive in the log.
    """
    backend.blobs.keep_reserve()
    expired = expire(backend, time.time())
    missing = drop_missing(backend)
    report = GcReport(expired_sessions=expired, missing_blobs=missing)
    try:
        collected = backend.collect(timeout)
        report = dataclasses.replace(report, **dataclasses.asdict(collected))
    except StoreBusy as error:
        report = dataclasses.replace(report, skipped=error.message)
    if backend.index.needs_scrub():
        backend.index.scrub()
        report = dataclasses.replace(report, scrubbed=True)
    else:
        backend.index.checkpoint()
    backend.blobs.keep_reserve()
    return report


def expire(backend: Backend, now: float) -> tuple[str, ...]:
    """Delete sessions that were not touched for their tenant's time to live."""
    expired: list[str] = []
    for tenant in backend.index.tenants():
        if tenant.ttl_seconds is None:
            continue
        for session in backend.index.sessions(tenant.id):
            if session.updated < now - tenant.ttl_seconds:
                try:
                    gone = delete_if_at(backend, tenant.id, session.name, session.head)
                except StorageFull:
                    backend.blobs.release_reserve()
                    gone = delete_if_at(backend, tenant.id, session.name, session.head)
                expired += [f"{tenant.id}/{session.name}"] * gone
    return tuple(expired)


def delete_if_at(backend: Backend, tenant_id: str, name: str, head: int) -> bool:
    """Delete the session unless someone went on with it in the meantime; whether it was deleted."""
    with backend.index.transaction():
        record = backend.index.session(tenant_id, name)
        same = record is not None and record.head == head
        if same:
            delete_session(backend, tenant_id, name)
    return same


def drop_missing(backend: Backend) -> int:
    """What refers to a blob that is gone from the disk stops doing so."""
    stored, lost = backend.blobs.stored(), 0
    for use in backend.index.blobs():
        if use.ref.id not in stored and still_has(backend, use):
            try:
                backend.blobs.check(backend.tenant(use.tenant).key, use.ref)  # written after we listed the folder?
            except DamagedBlob:
                continue  # there, but not sound: for `verify` to tell and for its reader to quarantine
            except NotFound:
                lost += drop_blob(backend, use.tenant, use.ref, "missing")
    return lost


def drop_blob(backend: Backend, tenant_id: str, ref: BlobRef, reason: str) -> int:
    """Whatever of the tenant refers to the blob goes on without; events say why. How many references there were."""
    with backend.index.transaction():
        uses = [use for use in backend.index.blobs() if use.tenant == tenant_id and use.ref == ref]
        for use in uses:
            record = backend.session(tenant_id, use.session)
            data = {"blob": ref.id, "reason": reason} | ({} if use.first is None else {"segment": use.first})
            event = Event(use.session, record.next_seq, "quarantined", time.time(), data)
            after: SessionRecord = dataclasses.replace(record, next_seq=record.next_seq + 1)
            if use.first is None:
                after = dataclasses.replace(after, blob=None)
            else:
                drop_cache(backend, use)
            backend.index.save_session(tenant_id, after)
            backend.index.add_events(tenant_id, use.session, [event])
    return len(uses)
