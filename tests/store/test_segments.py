"""Segments: caches and vectors of stretches of a session, which come and go with the messages they were made from."""

from __future__ import annotations

import pytest

from memkv.errors import DamagedBlob, NotFound, QuotaExceeded
from memkv.store import MemoryStore, Notes, TenantStore
from memkv.store.blob_source import whole

MADE_FOR = {"weights": "w"}
CACHE = b"kv" * 5000


def remember(tenant: TenantStore, helpers, text: str = "hello", cache: bytes = CACHE) -> None:
    """A session `s` of three turns; of the first two a segment was made."""
    for said in (text, "second", "third"):
        helpers.turn(tenant, "s", said, blob=None)
    tenant.keep_segment("s", 1, 2, 2, [cache[:7], cache[7:]], MADE_FOR)
    tenant.keep_vectors("minilm", [("s", 1, b"v" * 16)])


def test_what_was_made_is_found_and_counted(store, ada, helpers):
    remember(ada, helpers)
    assert bytes(ada.take_segment("s", 1, whole)) == CACHE
    assert list(ada.vectors("minilm")) == [("s", 1, b"v" * 16)] and list(ada.vectors("other")) == []
    [made] = ada.segments()
    assert (made.address, made.fingerprint, made.embedder) == ("s/1-2", MADE_FOR, "minilm")
    assert (ada.usage().blobs, ada.usage().vectors) == (10_000, 16)
    assert store.verify() == [] and store.gc().found_nothing


@pytest.mark.parametrize(("last", "vectors"), [(2, [b"v" * 16]), (3, [])])
def test_another_cache_takes_the_place_of_the_first_and_leaves_the_vector_if_the_text_is_the_same(
    store, ada, helpers, last, vectors
):
    remember(ada, helpers)
    ada.keep_segment("s", 1, last, last, [b"newer"], {"weights": "other"})
    assert bytes(ada.take_segment("s", 1, whole)) == b"newer" and ada.segments()[0].last == last
    assert [vector for _, _, vector in ada.vectors("minilm")] == vectors
    assert [segment.last for segment in ada.unembedded("minilm", 16)] == [last] * (not vectors)
    assert len(store._backend.blobs.stored()) == 1 and store.verify() == []


def test_notes_stay_with_the_messages_and_lie_in_the_digest(store, ada, helpers):
    remember(ada, helpers)
    assert ada.noted() == []
    notes = Notes(("hello always", "second"), (("other", 1, 2, 0),))
    before = ada.usage().text
    ada.keep_segment("s", 1, 2, 2, [b"newer"], MADE_FOR, notes)
    assert ada.usage().text > before + len("hello always" + "second")
    ada.keep_segment("s", 1, 2, 2, [b"newest"], MADE_FOR)
    assert [segment.notes for segment in ada.noted()] == [notes] == [ada.segment("s", 1).notes]
    assert store.verify() == []
    with store._backend.index.transaction():
        store._backend.index.file.write("UPDATE segments SET notes = '[[\"hello never\"], []]'")
    assert [problem.kind for problem in store.verify()] == ["segment"]


@pytest.mark.parametrize(("n", "left"), [(1, 0), (2, 0), (3, 1)])
def test_a_segment_goes_with_any_of_its_messages(store, ada, helpers, n, left):
    remember(ada, helpers)
    ada.forget_memory("s", n)
    assert len(ada.segments()) == len(list(ada.vectors("minilm"))) == len(store._backend.blobs.stored()) == left
    assert store.verify() == []


def test_nothing_of_it_is_left_in_any_file(folder, ada, helpers):
    remember(ada, helpers, "CANARY-IN-THE-TEXT", b"CANARY-IN-THE-CACHE" * 100)
    ada.keep_vectors("minilm", [("s", 1, b"CANARY-IN-VECTOR")])
    assert helpers.files_with(folder, b"CANARY-IN-VECTOR")
    ada.forget_memory("s", 1)
    for needle in (b"CANARY-IN-THE-TEXT", b"CANARY-IN-THE-CACHE", b"CANARY-IN-VECTOR"):
        assert helpers.files_with(folder, needle) == []


def test_forgetting_the_session_or_the_tenant_takes_them_along(store, ada, helpers):
    remember(ada, helpers)
    ada.forget_session("s")
    assert ada.segments() == [] and not store._backend.blobs.stored()
    remember(ada, helpers)
    store.forget_tenant("ada")
    assert not store._backend.blobs.stored() and store.verify() == []


def test_another_tenant_sees_none_of_it(store, ada, helpers):
    remember(ada, helpers)
    bob = store.tenant("bob")
    helpers.turn(bob, "s", "mine", blob=None)
    assert bob.segments() == list(bob.vectors("minilm")) == [] and bob.usage().vectors == 0
    with pytest.raises(NotFound):
        bob.take_segment("s", 1, whole)


def test_equal_caches_of_two_tenants_have_different_names(store, ada, helpers):
    remember(ada, helpers)
    remember(store.tenant("bob"), helpers)
    assert len(store._backend.blobs.stored()) == 2


def test_a_flipped_bit_is_noticed_and_the_text_stays(store, ada, helpers):
    remember(ada, helpers)
    [name] = store._backend.blobs.stored()
    file = store._backend.blobs.path(name)
    data = bytearray(file.read_bytes())
    data[99] ^= 1
    file.write_bytes(data)
    assert [problem.kind for problem in store.verify()] == ["damaged_blob"]
    with pytest.raises(DamagedBlob, match="again from the text"):
        ada.take_segment("s", 1, whole)
    assert ada.memory("s", 1).text == "hello" and ada.events("s", "quarantined")[-1].data["segment"] == 1
    with pytest.raises(NotFound, match="again from the text"):
        ada.take_segment("s", 1, whole)
    store.gc()
    assert store.verify() == []
    ada.keep_segment("s", 1, 2, 2, [b"made again"], MADE_FOR)
    assert bytes(ada.take_segment("s", 1, whole)) == b"made again"


def test_a_lost_file_is_let_go_by_gc(store, ada, helpers):
    remember(ada, helpers)
    [name] = store._backend.blobs.stored()
    store._backend.blobs.path(name).unlink()
    assert [problem.kind for problem in store.verify()] == ["missing_blob"]
    assert store.gc().missing_blobs == 1 and store.verify() == []


def test_a_flipped_bit_in_a_vector_is_noticed(store, ada, helpers):
    remember(ada, helpers)
    with store._backend.index.transaction():
        store._backend.index.file.write("UPDATE segments SET vector = x'00'")
    assert [problem.kind for problem in store.verify()] == ["segment"]


def test_nothing_is_kept_beyond_the_quota_or_of_messages_that_are_gone(store, ada, helpers):
    remember(ada, helpers)
    ada.forget_memory("s", 1)
    ada.set_limits(quota_bytes=ada.usage().total + 1000, ttl_seconds=None)
    with pytest.raises(QuotaExceeded):
        ada.keep_segment("s", 2, 3, 2, [b"x" * 2000], MADE_FOR)
    with pytest.raises(NotFound):
        ada.keep_segment("s", 1, 2, 2, [b"x"], MADE_FOR)
    with pytest.raises(NotFound):
        ada.keep_vectors("minilm", [("s", 1, b"v")])
    assert ada.segments() == [] and not store._backend.blobs.stored()
    ada.keep_segment("s", 2, 3, 2, [b"x"], MADE_FOR)
    with pytest.raises(QuotaExceeded):
        ada.keep_vectors("minilm", [("s", 2, b"v" * 2000)])


def test_a_store_from_before_there_were_any_is_brought_up(folder, store, ada, helpers):
    record = helpers.turn(ada, "s", blob=None)
    with store._backend.index.transaction():
        store._backend.index.file.write("DROP TRIGGER forget_segments")
        store._backend.index.file.write("DROP TRIGGER segments_gone")
        store._backend.index.file.write("DROP TABLE segments")
        store._backend.index.file.write("ALTER TABLE tenants DROP COLUMN segment_changes")
        store._backend.index.file.write("DELETE FROM migrations WHERE number >= 2")
    with MemoryStore.open(folder) as again:
        assert again.tenant("ada").session("s") == record
        again.tenant("ada").keep_segment("s", 1, 1, 1, [b"kv"], MADE_FOR)
        assert again.verify() == []


def test_every_change_is_counted_for_its_tenant_alone(store, ada, helpers):
    helpers.turn(ada, "s", blob=None)
    bob, counts = store.tenant("bob"), [ada.segment_changes()]

    def changed() -> bool:
        counts.append(ada.segment_changes())
        return counts[-1] != counts[-2]

    ada.keep_segment("s", 1, 1, 1, None, None)
    assert changed() and not changed()
    ada.keep_vectors("minilm", [("s", 1, b"v")])
    assert changed()
    ada.keep_notes(ada.segments()[0], Notes(("No calls.",)))
    assert changed() and ada.segments()[0].notes.kept == ("No calls.",) and list(ada.vectors("minilm"))
    ada.forget_memory("s", 1)
    assert changed()
    helpers.turn(ada, "t", blob=None)
    ada.keep_segment("t", 1, 1, 1, None, None)
    assert changed()
    ada.forget_session("t")
    assert changed() and bob.segment_changes() == 0


def test_notes_of_a_segment_that_is_gone_are_refused(ada, helpers):
    helpers.turn(ada, "s", blob=None)
    ada.keep_segment("s", 1, 1, 1, None, None)
    [segment] = ada.segments()
    ada.forget_memory("s", 1)
    with pytest.raises(NotFound, match="forgotten meanwhile") as raised:
        ada.keep_notes(segment, Notes(("No calls.",)))
    assert "s/1-1" in str(raised.value)
