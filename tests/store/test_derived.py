"""Caches and vectors of single memories: they come and go with the text that they were made from."""

from __future__ import annotations

import pytest

from memkv.errors import DamagedBlob, NotFound, QuotaExceeded
from memkv.store import MemoryStore, TenantStore
from memkv.store.blob_source import whole

MADE_FOR = {"weights": "w"}


def remember(tenant: TenantStore, helpers, text: str = "hello", cache: bytes = b"kv" * 5000) -> None:
    """A session `s` of one turn, from whose memory a cache and a vector were made."""
    helpers.turn(tenant, "s", text, blob=None)
    tenant.keep_cache("s", 1, [cache[:7], cache[7:]], MADE_FOR)
    tenant.keep_vectors("minilm", [("s", 1, b"v" * 16)])


def test_what_was_made_is_found_and_counted(store, ada, helpers):
    before = ada.usage()
    remember(ada, helpers)
    assert bytes(ada.take_cache("s", 1, whole)) == b"kv" * 5000
    assert list(ada.vectors("minilm")) == [("s", 1, b"v" * 16)] and list(ada.vectors("other")) == []
    [made] = ada.made_from("message")
    assert (made.n, made.fingerprint, made.embedder) == (1, MADE_FOR, "minilm")
    assert (ada.usage().blobs - before.blobs, ada.usage().vectors - before.vectors) == (10_000, 16)
    assert store.verify() == [] and store.gc().found_nothing


def test_a_memory_of_which_nothing_was_made_is_listed_too(ada, helpers):
    helpers.turn(ada, "s")
    [made] = ada.made_from("message")
    assert (made.n, made.blob, made.embedder) == (1, None, None)
    with pytest.raises(NotFound, match="again from the text"):
        ada.take_cache("s", 1, whole)


def test_another_cache_takes_the_place_of_the_first_and_leaves_the_vector(store, ada, helpers):
    remember(ada, helpers)
    ada.keep_cache("s", 1, [b"newer"], {"weights": "other"})
    assert bytes(ada.take_cache("s", 1, whole)) == b"newer"
    assert [vector for _, _, vector in ada.vectors("minilm")] == [b"v" * 16]
    assert len(store._backend.blobs.stored()) == 1 and store.verify() == []


def test_forgetting_the_memory_takes_all_of_it_along(folder, store, ada, helpers):
    canary = b"CANARY-IN-THE-CACHE" * 100
    remember(ada, helpers, "CANARY-IN-THE-TEXT", canary)
    ada.keep_vectors("minilm", [("s", 1, b"CANARY-IN-VECTOR")])
    ada.forget_memory("s", 1)
    assert not store._backend.blobs.stored() and list(ada.vectors("minilm")) == []
    for needle in (b"CANARY-IN-THE-TEXT", b"CANARY-IN-THE-CACHE", b"CANARY-IN-VECTOR"):
        assert helpers.files_with(folder, needle) == []


def test_forgetting_the_session_or_the_tenant_does_too(store, ada, helpers):
    remember(ada, helpers)
    ada.forget_session("s")
    remember(ada, helpers)
    store.forget_tenant("ada")
    assert not store._backend.blobs.stored() and store.verify() == []


def test_another_tenant_sees_none_of_it(store, ada, helpers):
    remember(ada, helpers)
    bob = store.tenant("bob")
    helpers.turn(bob, "s", "mine", blob=None)
    assert list(bob.vectors("minilm")) == [] and bob.usage().vectors == 0
    with pytest.raises(NotFound):
        bob.take_cache("s", 1, whole)


def test_equal_caches_of_two_tenants_have_different_names(store, ada, helpers):
    remember(ada, helpers)
    remember(store.tenant("bob"), helpers)
    assert len(store._backend.blobs.stored()) == 2


def test_a_flipped_bit_is_noticed_and_the_text_stays(folder, store, ada, helpers):
    remember(ada, helpers)
    [name] = store._backend.blobs.stored()
    file = store._backend.blobs.path(name)
    data = bytearray(file.read_bytes())
    data[99] ^= 1
    file.write_bytes(data)
    assert [problem.kind for problem in store.verify()] == ["damaged_blob"]
    with pytest.raises(DamagedBlob, match="again from the text"):
        ada.take_cache("s", 1, whole)
    assert ada.memory("s", 1).text == "hello" and ada.events("s", "quarantined")[-1].data["memory"] == 1
    store.gc()
    assert store.verify() == []
    ada.keep_cache("s", 1, [b"made again"], MADE_FOR)
    assert bytes(ada.take_cache("s", 1, whole)) == b"made again"


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
    assert [problem.kind for problem in store.verify()] == ["derived"]


def test_nothing_is_kept_beyond_the_quota_or_of_a_memory_that_is_gone(store, ada, helpers):
    helpers.turn(ada, "s", blob=None)
    ada.set_limits(quota_bytes=ada.usage().total + 1000, ttl_seconds=None)
    with pytest.raises(QuotaExceeded):
        ada.keep_cache("s", 1, [b"x" * 2000], MADE_FOR)
    with pytest.raises(QuotaExceeded):
        ada.keep_vectors("minilm", [("s", 1, b"v" * 2000)])
    with pytest.raises(NotFound):
        ada.keep_cache("s", 9, [b"x"], MADE_FOR)
    with pytest.raises(NotFound):
        ada.keep_vectors("minilm", [("s", 1, b"v"), ("s", 9, b"v")])
    assert not store._backend.blobs.stored() and list(ada.vectors("minilm")) == []


def test_a_store_from_before_there_were_any_is_brought_up(folder, store, ada, helpers):
    record = helpers.turn(ada, "s", blob=None)
    with store._backend.index.transaction():
        store._backend.index.file.write("DROP TABLE segments")
        store._backend.index.file.write("DELETE FROM migrations WHERE number = 2")
    with MemoryStore.open(folder) as again:
        assert again.tenant("ada").session("s") == record
        again.tenant("ada").keep_vectors("minilm", [("s", 1, b"v")])
        assert again.verify() == []
