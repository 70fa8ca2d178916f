"""After a forget no file of the store holds the text, whatever was going on around it."""

from __future__ import annotations

import multiprocessing
import random

import pytest

from memkv.errors import ForgetPending, NotFound
from memkv.store import MemoryStore, NewMemory
from memkv.store.forget import context_without, derived_from

SECRET = "the émigré's address is 5 Elm Row"


def say(tenant, name, *memories, context, blob=b"", tokens=b""):
    head = tenant.session(name).head
    return tenant.commit(name, head, memories=memories, context=context, tokens=tokens, blob=[blob or b"kv"])


def test_a_forgotten_memory_leaves_no_trace(folder, store, ada, helpers):
    secret = SECRET.encode()
    ada.create_session("s")
    say(ada, "s", NewMemory("before"), NewMemory(SECRET), context=[1, 2], blob=b"kv of " + secret, tokens=b"t" + secret)
    say(ada, "s", NewMemory(f"sum: {SECRET}", "summary", sources=(1, 2)), context=[3], blob=b"kv2 of " + secret)
    helpers.turn(ada, "other", "stays")
    assert helpers.files_with(folder, secret)
    assert ada.forget_memory("s", 2) == (2, 3)
    assert helpers.files_with(folder, secret) == []
    record = ada.session("s")
    assert record.context == (1,) and record.head == 3 and record.next_n == 4
    assert record.blob is None and record.tokens == b"" and record.fingerprint is None
    assert [m.text for m in ada.memories()] == ["stays", "before"]
    forgot = ada.events("s", "forgot")[0]
    assert forgot.data == {"memory": 2, "derived": [3]}
    assert say(ada, "s", NewMemory("next"), context=[1, 4]).next_n == 5  # numbers are never used again
    assert store.verify() == [] and store.gc().found_nothing
    with pytest.raises(NotFound):
        ada.forget_memory("s", 2)


def test_a_forgotten_session_and_tenant_leave_no_trace(folder, store, ada, helpers):
    for name in ("one", "two"):
        helpers.turn(ada, name, SECRET + name, blob=SECRET.encode() + name.encode())
    key = ada.limits.key
    ada.forget_session("one")
    assert helpers.files_with(folder, (SECRET + "one").encode()) == []
    assert ada.memory("two", 1).text == SECRET + "two"
    helpers.turn(store.tenant("bob"), "s", "bob's")
    store.forget_tenant("ada")
    assert helpers.files_with(folder, SECRET.encode()) == [] and helpers.files_with(folder, key) == []
    assert [t.id for t in store.tenants()] == ["bob"] and store.verify() == []
    assert store.tenant("bob").memory("s", 1).text == "bob's"


@pytest.mark.parametrize("seed", [1, 6, 11])
def test_no_page_keeps_an_old_copy(folder, store, ada, helpers, seed):
    """`secure_delete` alone leaves 3 of these 1,001 texts in the unused part of rebalanced pages, with each seed."""
    chance = random.Random(seed)
    marks = {n: f"MARK{chance.getrandbits(64):016x}END" for n in range(1, 1201)}
    ada.create_session("s")
    texts = [NewMemory(mark + "x" * chance.randrange(900)) for mark in marks.values()]
    say(ada, "s", *texts, context=[])
    order = list(marks)
    chance.shuffle(order)
    with store._backend.index.transaction():  # many deletions with one scrub at the end, which is the hard case
        for n in order[:1000]:
            store._backend.index.delete_memories("ada", "s", [n])
    ada.forget_memory("s", order[1000])
    held = b"".join(p.read_bytes() for p in folder.rglob("*") if p.is_file())
    assert [n for n in order[:1001] if marks[n].encode() in held] == []
    assert all(marks[n].encode() in held for n in order[1001:])  # the search itself works
    assert store.verify() == []


def test_an_idle_second_process_does_not_keep_the_text(folder, ada, helpers):
    helpers.turn(ada, "s", SECRET, blob=SECRET.encode())
    with MemoryStore.open(folder) as other:
        assert other.tenant("ada").memory("s", 1).text == SECRET
        ada.forget_session("s")
        assert helpers.files_with(folder, SECRET.encode()) == []
        assert not other.tenant("ada").exists("s")


def test_a_reader_in_the_way_is_named_and_gc_finishes(folder, store, ada, helpers):
    helpers.turn(ada, "s", SECRET)
    store._backend.index.file._db.set_busy_timeout(200)
    with MemoryStore.open(folder) as other:
        reading = other._backend.index.file.stream("SELECT n FROM memories UNION ALL SELECT seq FROM events")
        next(reading)  # an open read transaction
        with pytest.raises(ForgetPending, match="memkv memory gc"):
            ada.forget_session("s")
        assert not ada.exists("s")  # deleted all the same
        assert helpers.files_with(folder, SECRET.encode())
        with pytest.raises(ForgetPending):
            store.gc()
        reading.close()
    assert store.gc().scrubbed
    assert helpers.files_with(folder, SECRET.encode()) == [] and store.gc().found_nothing


def test_kv_of_the_text_goes_from_quarantine_and_leftovers_too(folder, store, ada, helpers):
    helpers.turn(ada, "s", "x", blob=SECRET.encode())
    ada.quarantine("s", "test")
    (folder / "blobs" / "tmp" / "killed-writer").write_bytes(SECRET.encode())
    orphan = folder / "blobs" / "ab"
    orphan.mkdir(exist_ok=True)
    (orphan / ("ab" * 32)).write_bytes(SECRET.encode())
    assert len(helpers.files_with(folder, SECRET.encode())) == 3
    ada.forget_memory("s", 1)
    assert helpers.files_with(folder, SECRET.encode()) == []


def test_a_forget_that_was_killed_is_finished_by_gc(folder, store, ada, helpers):
    helpers.turn(ada, "s", SECRET, blob=SECRET.encode())
    with store._backend.index.transaction():  # what is durable when the process dies right after the COMMIT
        store._backend.index.delete_session("ada", "s")
    assert helpers.files_with(folder, SECRET.encode())
    report = store.gc()
    assert report.scrubbed and report.orphan_blobs == 1 and store.gc().found_nothing
    assert helpers.files_with(folder, SECRET.encode()) == []


def test_forgetting_while_another_process_writes(folder, store, ada, helpers):
    helpers.turn(ada, "s", SECRET, blob=SECRET.encode())
    context = multiprocessing.get_context("spawn")
    started, stop = context.Event(), context.Event()
    writer = context.Process(target=keep_writing, args=(folder, started, stop))
    writer.start()
    assert started.wait(30)
    ada.forget_session("s")
    held = helpers.files_with(folder, SECRET.encode())
    stop.set()
    writer.join(30)
    assert held == [] and writer.exitcode == 0
    store.gc()
    assert store.verify() == [] and ada.session("busy").head > 0


def keep_writing(folder, started, stop):
    with MemoryStore.open(folder) as opened:
        tenant = opened.tenant("ada")
        record = tenant.create_session("busy")
        while not stop.is_set():
            head, memories, context = record.head, [NewMemory("z")], [record.next_n]
            record = tenant.commit("busy", head, memories=memories, context=context, tokens=b"", blob=[b"b" * 99])
            started.set()


def test_what_is_derived_and_what_takes_its_place():
    sources = {1: (), 2: (), 3: (), 4: (1, 2), 5: (4, 3), 6: (), 7: (2,)}
    assert derived_from(1, sources) == {1, 4, 5}
    assert context_without([5, 6, 7], {1, 4, 5}, sources) == (2, 3, 6, 7)
    assert context_without([5, 3], {1, 4, 5}, sources) == (2, 3)  # 3 keeps its own place
    assert context_without([6, 1], {1, 4, 5}, sources) == (6,)


@pytest.mark.parametrize("whole_session", [False, True])
def test_what_was_brought_back_into_other_sessions_goes_too(folder, store, ada, helpers, whole_session):
    helpers.turn(ada, "old", "SECRET-PLAN")
    record = helpers.turn(ada, "new", "hello")
    ada.commit(
        "new",
        record.head,
        memories=[
            NewMemory("", kind="recalled", data={"of": {"session": "old", "first": 1, "last": 1}}),
            NewMemory("SECRET-PLAN in short", kind="summary", sources=(2,)),
            NewMemory("goodbye", role="user"),
        ],
        context=(1, 2, 3, 4),
        tokens=b"",
        fingerprint={"weights": "w"},
        blob=[b"SECRET-PLAN as cache"],
    )
    helpers.turn(ada, "third", "untouched")
    if whole_session:
        ada.forget_session("old")
    else:
        assert ada.forget_memory("old", 1) == (1,)
    after = ada.session("new")
    assert after.context == (1, 4) and after.blob is None and [m.n for m in ada.memories("new")] == [1, 4]
    assert ada.events("new", "forgot")[-1].data == {"derived": [2, 3]}
    assert ada.session("third").blob is not None
    assert helpers.files_with(folder, b"SECRET-PLAN") == [] and store.verify() == []
