"""gc removes what nothing refers to, never what something does, and then finds nothing more."""

from __future__ import annotations

import os

import pytest

from memkv.errors import DamagedBlob, StoreBusy
from memkv.store import GcReport, MemoryStore, NewMemory


def litter(folder):
    (folder / "blobs" / "tmp" / "left").write_bytes(b"x" * 10)
    (folder / "blobs" / "or").mkdir()
    (folder / "blobs" / "or" / "orphan").write_bytes(b"x" * 20)
    (folder / "quarantine" / "bad.1").write_bytes(b"x" * 30)


def test_litter_is_found_by_verify_and_removed_by_gc(folder, store, ada, helpers):
    helpers.turn(ada, "s", blob=b"stays")
    litter(folder)
    assert sorted(p.kind for p in store.verify()) == ["orphan_blob", "quarantined", "temp_file"]
    assert store.gc() == GcReport(orphan_blobs=1, quarantined=1, temp_files=1, freed_bytes=60)
    assert store.verify() == [] and store.gc().found_nothing and bytes(ada.read_blob("s")) == b"stays"


def test_what_does_not_belong_there_goes_too(folder, store, ada, helpers):
    (folder / "blobs" / "stray").write_bytes(b"x")
    (folder / "blobs" / "zz").mkdir()
    (folder / "blobs" / "zz" / "orphan").write_bytes(b"x" * 20)
    record = helpers.turn(ada, "s", blob=b"x" * 4096)
    path = folder / "blobs" / record.blob.id[:2] / record.blob.id
    path.unlink()
    path.mkdir()
    with pytest.raises(DamagedBlob):
        ada.read_blob("s")
    report = store.gc()
    assert report.temp_files == 2 and report.quarantined == 1
    assert store.verify() == [] and store.gc().found_nothing


def test_a_lost_blob_is_let_go(folder, store, ada, helpers):
    record = helpers.turn(ada, "s")
    (folder / "blobs" / record.blob.id[:2] / record.blob.id).unlink()
    assert store.gc().missing_blobs == 1 and ada.session("s").blob is None
    assert store.verify() == [] and store.gc().found_nothing and ada.events("s", "quarantined")


def test_sessions_expire_for_their_own_tenant_only(folder, store, ada, helpers):
    bob = store.tenant("bob")
    for tenant in (ada, bob):
        helpers.turn(tenant, "old", f"old words of {tenant.id}")
        helpers.turn(tenant, "new", "new")
    ada.set_limits(quota_bytes=None, ttl_seconds=3600)
    with store._backend.index.transaction():
        store._backend.index.file.write("UPDATE sessions SET updated = updated - 4000 WHERE name = 'old'")
    report = store.gc()
    assert report.expired_sessions == ("ada/old",) and report.scrubbed
    assert [s.name for s in ada.sessions()] == ["new"] and bob.exists("old")
    assert helpers.files_with(folder, b"old words of ada") == [] and store.gc().found_nothing


def test_gc_waits_for_a_writer_and_leaves_its_blob(folder, store, ada, helpers):
    helpers.turn(ada, "s")
    with MemoryStore.open(folder) as other:
        blobs = other._backend.blobs
        with blobs.writing():
            blobs.put(ada.limits.key, [b"its commit is on the way"])
            litter(folder)
            report = store.gc(timeout=0.05)
            assert "busy" in report.skipped and report.orphan_blobs == 0
            with pytest.raises(StoreBusy), blobs.alone(0.05):
                pass
            assert len(helpers.files_with(folder, b"its commit is on the way")) == 1
    assert store.gc().orphan_blobs == 2


def test_a_past_blob_that_could_not_go_goes_with_the_next_commit(folder, store, ada, helpers):
    helpers.turn(ada, "s", blob=b"KV of head 1")
    with store._backend.blobs.writing():  # another writer at work
        helpers.turn(ada, "s", blob=b"KV of head 2")
        assert helpers.files_with(folder, b"KV of head 1")
    helpers.turn(ada, "s", blob=b"KV of head 3")
    assert not helpers.files_with(folder, b"KV of head 1") and not helpers.files_with(folder, b"KV of head 2")


def test_ten_thousand_memories_in_pages(ada):
    for name in ("b", "a"):
        ada.create_session(name)
        texts = [NewMemory(f"{name} {n}", kind="rule" if n % 10 == 0 else "message") for n in range(1, 5001)]
        ada.commit(name, 0, memories=texts, context=[5000, 1], tokens=b"")
    everything = ada.memories()
    assert [m.address for m in everything] == [f"{s}/{n}" for s in "ab" for n in range(1, 5001)]
    assert list(ada.iter_memories()) == everything
    assert ada.memories("b", limit=7, offset=4996) == everything[9996:]
    assert [m.n for m in ada.memories("a", kind="rule", limit=3, offset=1)] == [20, 30, 40]
    assert ada.sessions()[0].memories == 5000 and ada.memories(limit=5, offset=10_000) == []


def test_verify_reports_progress_and_leaves_no_descriptor_open(store, ada, helpers):
    for n in range(5):
        helpers.turn(ada, f"s{n}", blob=helpers.blob(n))
    seen, before = [], len(os.listdir("/proc/self/fd"))
    assert store.verify(lambda done, total: seen.append((done, total))) == []
    assert seen == [(n * 100_000, 500_000) for n in range(1, 6)] and len(os.listdir("/proc/self/fd")) == before
