"""One session as one file: complete on the way out, distrusted on the way in."""

from __future__ import annotations

import json
import os
import stat

import pytest
from blake3 import blake3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memkv.errors import Conflict, DamagedBlob, InvalidInput, MemkvError, NotFound, QuotaExceeded, StorageFull
from memkv.store import NewEvent, NewMemory
from memkv.store.archive import HEADER, MAGIC, VERSION


@pytest.fixture
def export(ada, helpers, tmp_path):
    ada.create_session("editorial", {"model": "tiny"})
    ada.commit(
        "editorial",
        0,
        memories=[NewMemory("Grüße", role="user", data={"a": [1, 2.5]}), NewMemory("r", "rule", sources=(1,))],
        events=[NewEvent("compaction", {"before": 9, "after": 3})],
        context=[2, 1],
        tokens=b"\7\0\0\0",
        fingerprint={"weights": "w"},
        blob=[helpers.blob(size=50_000)],
    )
    ada.forget_memory("editorial", 2)
    helpers.turn(ada, "editorial", "third", blob=helpers.blob(size=50_000))
    path = tmp_path / "editorial.memkv"
    assert ada.export_session("editorial", path) == path.stat().st_size
    return path


def rebuild(path, change=None, manifest=None, version=VERSION):
    """The same export with a changed manifest and a right checksum."""
    data = path.read_bytes()
    length = HEADER.unpack(data[: HEADER.size])[2]
    if manifest is None:
        tree = json.loads(data[HEADER.size : HEADER.size + length])
        change(tree)
        manifest = json.dumps(tree).encode()
    body = HEADER.pack(MAGIC, version, len(manifest)) + manifest + data[HEADER.size + length : -32]
    path.write_bytes(body + blake3(body).digest())
    return path


def test_everything_arrives_in_another_tenant(store, ada, export):
    bob = store.tenant("bob")
    got, had = bob.import_session(export, "copy"), ada.session("editorial")
    assert (got.name, got.head, got.next_n, got.context) == ("copy", had.head, had.next_n, had.context)
    assert (got.tokens, got.fingerprint, got.settings) == (had.tokens, had.fingerprint, had.settings)
    assert bytes(bob.read_blob("copy")) == bytes(ada.read_blob("editorial"))
    assert [(m.n, m.text, m.data) for m in bob.memories()] == [(m.n, m.text, m.data) for m in ada.memories()]
    assert [(e.seq, e.data) for e in bob.events("copy")] == [(e.seq, e.data) for e in ada.events("editorial")]
    assert bob.usage() == ada.usage() and store.verify() == []
    assert stat.S_IMODE(os.stat(export).st_mode) == 0o600
    assert set(os.listdir(export.parent)) == {export.name, "store"}  # no temp file stays


def test_a_session_without_kv_travels_too(store, ada, helpers, tmp_path):
    helpers.turn(ada, "s", blob=None)
    ada.export_session("s", tmp_path / "x")
    assert store.tenant("bob").import_session(tmp_path / "x").blob is None


def test_a_taken_name_is_a_conflict_that_names_the_way_out(ada, export):
    with pytest.raises(Conflict, match="--name"):
        ada.import_session(export)


def test_every_cut_and_flip_is_noticed_and_nothing_is_written(folder, store, export):
    data, bob = export.read_bytes(), store.tenant("bob")
    places = [*range(0, 700, 3), *range(700, len(data), 1999), len(data) - 1, len(data) - 33]
    for place in places:
        for damaged in (data[:place], data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :]):
            export.write_bytes(damaged)
            with pytest.raises((DamagedBlob, InvalidInput)):
                bob.import_session(export, "x")
    export.write_bytes(data + b"more")
    with pytest.raises(DamagedBlob):
        bob.import_session(export, "x")
    assert bob.sessions() == [] and store.verify() == []


def poke(*keys, value):
    def change(tree):
        for key in keys[:-1]:
            tree = tree[key]
        tree[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        poke("session", "name", value="a/b"),
        poke("session", "name", value="a\0b"),
        poke("session", "name", value=7),
        poke("session", "head", value=-1),
        poke("session", "head", value=True),
        poke("session", "head", value=2**70),
        poke("session", "next_n", value=1),
        poke("session", "created", value="now"),
        poke("session", "created", value=1e300),
        poke("session", "extra", value=1),
        poke("session", "settings", value=[]),
        poke("context", value=[1, 1]),
        poke("context", value=[99]),
        poke("context", value=["1"]),
        poke("memories", 0, "text", value="\ud800"),
        poke("memories", 0, "text", value=None),
        poke("memories", 0, "n", value=0),
        poke("memories", 0, "n", value=3),
        poke("memories", 0, "sources", value=[1]),
        poke("memories", 1, "sources", value=[2]),
        poke("memories", 0, "data", value=None),
        poke("events", 0, "seq", value=2),
        poke("events", 0, "data", value="text"),
        poke("tokens", value="***"),
        poke("fingerprint", value={"weights": 1}),
        poke("blob_length", value=1),
        poke("blob_length", value=2**62),
        lambda tree: tree.pop("events"),
        lambda tree: tree.update(memories={}),
    ],
)
def test_a_hostile_manifest_with_a_right_checksum(store, export, change):
    bob = store.tenant("bob")
    with pytest.raises((DamagedBlob, InvalidInput)):
        bob.import_session(rebuild(export, change))
    assert bob.sessions() == [] and store.verify() == []


@pytest.mark.parametrize(
    "manifest",
    [b"", b"[]", b"junk", b"\xff\xfe", b'{"a":1,"a":2}', b'{"a":NaN}', b"[" * 100_000, b'{"a":' + b"9" * 9999 + b"}"],
)
def test_a_manifest_that_is_no_manifest(store, export, manifest):
    with pytest.raises(DamagedBlob, match="nothing was imported"):
        store.tenant("bob").import_session(rebuild(export, manifest=manifest))


def test_giant_lengths_are_refused_before_anything_is_allocated(store, export):
    bob, data = store.tenant("bob"), export.read_bytes()
    rest = data[HEADER.size :]
    for length in (2**63, 2**64 - 1, len(rest) - 31):
        export.write_bytes(HEADER.pack(MAGIC, VERSION, length) + rest)
        with pytest.raises(DamagedBlob, match="announces"):
            bob.import_session(export)
    tree = json.loads(rest[: HEADER.unpack(data[: HEADER.size])[2]])
    tree["blob_length"] = 1 << 43
    manifest = json.dumps(tree).encode()
    with export.open("wb") as file:  # a sparse file of 8 TiB whose lengths all agree
        file.write(HEADER.pack(MAGIC, VERSION, len(manifest)) + manifest)
        file.truncate(file.tell() + (1 << 43) + 32)
    with pytest.raises(StorageFull):
        bob.import_session(export)
    assert bob.sessions() == [] and store.verify() == []


def test_a_newer_format_says_upgrade(store, export):
    with pytest.raises(InvalidInput, match="Upgrade"):
        store.tenant("bob").import_session(rebuild(export, poke("context", value=[]), version=2))


def test_a_quota_holds_for_imports(store, export):
    bob = store.tenant("bob")
    for quota in (1000, 50_001):  # too small for the blob; then only for blob and text together
        bob.set_limits(quota_bytes=quota, ttl_seconds=None)
        with pytest.raises(QuotaExceeded):
            bob.import_session(export)
        assert bob.sessions() == [] and store.verify() == []


def test_paths_that_do_not_work(ada, export, tmp_path):
    with pytest.raises(NotFound):
        ada.import_session(tmp_path / "none")
    with pytest.raises(InvalidInput):
        ada.import_session(tmp_path)
    with pytest.raises(InvalidInput):
        ada.export_session("editorial", tmp_path / "no" / "such" / "folder")
    with pytest.raises(NotFound):
        ada.export_session("none", tmp_path / "x")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(junk=st.binary(max_size=300))
def test_junk_is_refused_by_name(store, tmp_path, junk):
    path = tmp_path / "junk"
    path.write_bytes(MAGIC + junk if junk[:1] < b"\x80" else junk)
    with pytest.raises(MemkvError):
        store.tenant("bob").import_session(path)
