"""What a commit keeps, what it refuses, and that two writers never mix."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest

from memkv.errors import Conflict, InvalidInput, NotFound, QuotaExceeded
from memkv.store import MemoryStore, NewEvent, NewMemory


def test_a_committed_turn_is_there_in_another_process(folder, store, ada, helpers):
    data = helpers.blob(size=3_000_001)
    ada.create_session("editorial", {"model": "tiny", "codec": "int4"})
    pieces = [memoryview(data)[at : at + 997] for at in range(0, len(data), 997)]  # more buffers than writev takes
    committed = ada.commit(
        "editorial",
        0,
        memories=[NewMemory("Grüße 🌍\0 no anonymous sources", role="user"), NewMemory("rule", "rule", sources=(1,))],
        events=[NewEvent("turn", {"memories": [1, 2]})],
        context=[2, 1],
        tokens=b"\1\0\0\0",
        fingerprint={"weights": "abc"},
        blob=pieces,
    )
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        record, memories, events, blob = pool.apply(read_all, (folder,))
    assert record == committed and record.head == 1 and record.context == (2, 1) and record.next_n == 3
    assert [m.text for m in memories] == ["Grüße 🌍\0 no anonymous sources", "rule"] and memories[1].sources == (1,)
    assert events[0].data == {"memories": [1, 2]} and blob == data
    assert store.verify() == []


def read_all(folder: Path):
    with MemoryStore.open(folder) as opened:
        tenant = opened.tenant("ada", create=False)
        record = tenant.session("editorial")
        return record, tenant.memories("editorial"), tenant.events("editorial"), bytes(tenant.read_blob("editorial"))


def test_the_read_blob_is_writable_aligned_and_private(ada, helpers):
    helpers.turn(ada, "s", blob=b"x" * 5000)
    view = ada.read_blob("s")
    assert not view.readonly
    view[:] = b"y" * 5000
    assert bytes(ada.read_blob("s")) == b"x" * 5000


def test_a_commit_on_an_old_head_is_refused_whole(folder, store, ada, helpers):
    first = helpers.turn(ada, "s", "one", blob=helpers.blob(1))
    with pytest.raises(Conflict, match="head 1, not 0"):
        ada.commit("s", 0, memories=[NewMemory("late")], context=[1], tokens=b"", blob=[helpers.blob(2)])
    assert ada.session("s") == first and len(ada.memories("s")) == 1
    assert store.verify() == []  # the refused blob is gone too


def test_a_refused_commit_does_not_take_an_equal_blob_with_it(ada, helpers):
    helpers.turn(ada, "s", blob=b"same")
    with pytest.raises(Conflict):
        ada.commit("s", 0, context=[1], tokens=b"", blob=[b"same"])
    assert bytes(ada.read_blob("s")) == b"same"


def test_sessions_with_equal_blobs_do_not_lose_them_to_each_other(store, ada, helpers):
    helpers.turn(ada, "one", blob=b"same")
    helpers.turn(ada, "two", blob=b"same")
    helpers.turn(ada, "one", blob=b"other")
    assert bytes(ada.read_blob("two")) == b"same"
    ada.forget_session("one")
    assert bytes(ada.read_blob("two")) == b"same" and store.verify() == []


def test_only_the_newest_blob_stays_on_disk(folder, ada, helpers):
    for seed in range(5):
        helpers.turn(ada, "s", blob=helpers.blob(seed))
    files = [p for p in (folder / "blobs").rglob("*") if p.is_file()]
    assert [p.read_bytes() for p in files] == [helpers.blob(4)]


def test_equal_bytes_have_different_ids_in_two_tenants(store, helpers):
    ids = {helpers.turn(store.tenant(name), "s", blob=b"same").blob.id for name in ("ada", "bob")}
    assert len(ids) == 2


def test_tenants_do_not_see_each_other(store, ada, helpers):
    helpers.turn(ada, "s", "private")
    bob = store.tenant("bob")
    assert bob.sessions() == [] and bob.memories() == [] and bob.search("private") == []
    with pytest.raises(NotFound):
        bob.session("s")


def test_of_two_processes_one_wins_and_the_other_is_told(folder, ada, helpers):
    head = helpers.turn(ada, "s").head
    context = multiprocessing.get_context("spawn")
    barrier, outcomes = context.Barrier(2), context.Queue()
    writers = [context.Process(target=write_once, args=(folder, head, n, barrier, outcomes)) for n in range(2)]
    for writer in writers:
        writer.start()
    found = [outcomes.get(timeout=30) for _ in writers]
    for writer in writers:
        writer.join()
    assert sorted(kind for _, kind in found) == ["Conflict", "won"]
    winner = next(n for n, kind in found if kind == "won")
    assert [m.text for m in ada.memories("s")] == ["hello", f"from {winner}"]
    assert bytes(ada.read_blob("s")) == b"%d" % winner * 1000


def write_once(folder, head, n, barrier, outcomes):
    with MemoryStore.open(folder) as opened:
        tenant = opened.tenant("ada")
        barrier.wait()
        try:
            memories, blob = [NewMemory(f"from {n}")], [b"%d" % n * 1000]
            tenant.commit("s", head, memories=memories, context=[1, 2], tokens=b"", blob=blob)
            outcomes.put((n, "won"))
        except Conflict:
            outcomes.put((n, "Conflict"))


def test_a_quota_counts_everything_and_keeps_nothing_of_what_is_too_much(store, ada, helpers):
    before = helpers.turn(ada, "s", "a" * 1000, blob=helpers.blob(1, 10_000))
    used = ada.usage()
    assert used.text == 1000 and used.blobs == 10_000 and used.tokens == 4000 and used.records > 0
    ada.set_limits(quota_bytes=20_000, ttl_seconds=None)
    with pytest.raises(QuotaExceeded) as caught:
        helpers.turn(ada, "s", "b", blob=helpers.blob(2, 20_000))
    assert caught.value.used == used.total and caught.value.limit == 20_000 < caught.value.needed
    assert ada.session("s") == before and ada.usage() == used and store.verify() == []
    helpers.turn(ada, "s", "b", blob=helpers.blob(3, 10_000))  # fits, since the old blob goes
    ada.set_limits(quota_bytes=10, ttl_seconds=None)
    helpers.turn(ada, "s", "", blob=None)  # shrinking is allowed above a lowered quota


@pytest.mark.parametrize(
    "change",
    [
        {"context": [7]},
        {"context": [1, 1]},
        {"context": [], "memories": [NewMemory("x", sources=(9,))]},
        {"context": [], "memories": [NewMemory("x", sources=(2,))]},  # itself
        {"context": [], "memories": [NewMemory("\ud800")]},
        {"context": [], "memories": [NewMemory("x" * (17 << 20))]},
        {"context": [], "memories": [NewMemory("x", data={"n": float("nan")})]},
        {"context": [], "events": [NewEvent("x", {"o": object()})]},
    ],
)
def test_what_cannot_be_kept_is_refused_by_name(store, ada, helpers, change):
    before = helpers.turn(ada, "s")
    with pytest.raises(InvalidInput):
        ada.commit("s", 1, tokens=b"", blob=[b"new"], **change)
    assert ada.session("s") == before and store.verify() == []


def test_an_unknown_session_names_the_nearest(ada, helpers):
    helpers.turn(ada, "editorial")
    with pytest.raises(NotFound, match="'editorial'.*memkv memory ls --tenant ada"):
        ada.session("editorail")


@pytest.mark.parametrize("name", ["", "a/b", "a\nb", "a\0", "x" * 129, " a", "\ud800", "a\u2028b", "../up"])
def test_bad_names_are_refused(store, ada, name):
    with pytest.raises(InvalidInput):
        ada.create_session(name)
    with pytest.raises(InvalidInput):
        store.tenant(name)


def test_odd_but_valid_names_work(store, helpers):
    for name in (".", "..", "Zeitung Süd", "a'b\"; DROP TABLE sessions;--", "x" * 128, "con", "%", "🙂"):
        helpers.turn(store.tenant(name), name, blob=name.encode())
        assert bytes(store.tenant(name).read_blob(name)) == name.encode()
    assert store.verify() == []


def test_search_takes_wildcards_literally(ada, helpers):
    helpers.turn(ada, "s", "100% sure")
    helpers.turn(ada, "s", "100 times")
    assert [m.n for m in ada.search("100%")] == [1] and [m.n for m in ada.search("TIMES")] == [2]


def test_a_handle_of_a_forgotten_tenant_cannot_write(store, ada, helpers):
    helpers.turn(ada, "s")
    store.forget_tenant("ada")
    with pytest.raises(NotFound):
        ada.create_session("again")
    with pytest.raises(NotFound):
        ada.commit("s", 1, context=[], tokens=b"", blob=[os.urandom(10)])
    assert store.verify() == []
