"""Damage on disk: the text survives or the error has a name; never a wrong answer, never a crash."""

from __future__ import annotations

import os
import random
import shutil

import pytest

from memkv.errors import Conflict, DamagedBlob, MemkvError, NotFound
from memkv.store import MemoryStore


def blob_file(folder, record):
    return folder / "blobs" / record.blob.id[:2] / record.blob.id


def flip(path, place, bit=0x20):
    data = bytearray(path.read_bytes())
    data[place] ^= bit
    path.write_bytes(data)


def expect_quarantine(store, ada, name="s"):
    with pytest.raises(DamagedBlob, match="The text is safe"):
        ada.read_blob(name)
    record = ada.session(name)
    assert record.blob is None and [m.text for m in ada.memories(name)] == ["hello"]
    event = ada.events(name, "quarantined")[-1]
    assert set(event.data) == {"blob", "reason"}
    with pytest.raises(NotFound):
        ada.read_blob(name)
    store.gc()
    assert store.verify() == []
    assert ada.commit(name, record.head, context=[1], tokens=b"", blob=[b"rebuilt"]).head == record.head + 1


@pytest.mark.parametrize("place", [0, 1, 31, 4095, 65_536, 1_048_575, 1_048_576, 2_999_999])
def test_one_flipped_bit_anywhere(folder, store, ada, helpers, place):
    record = helpers.turn(ada, "s", blob=helpers.blob(size=3_000_000))
    flip(blob_file(folder, record), place)
    assert [p.kind for p in store.verify()] == ["damaged_blob"]
    expect_quarantine(store, ada)


@pytest.mark.parametrize("size", [0, 1, 99_999, 100_001, 1 << 42])
def test_another_length_is_refused_before_reading(folder, store, ada, helpers, size):
    record = helpers.turn(ada, "s", blob=helpers.blob(size=100_000))
    os.truncate(blob_file(folder, record), size)
    expect_quarantine(store, ada)


def test_a_deleted_blob(folder, store, ada, helpers):
    blob_file(folder, helpers.turn(ada, "s")).unlink()
    assert [p.kind for p in store.verify()] == ["missing_blob"]
    expect_quarantine(store, ada)


def test_a_folder_or_a_link_in_its_place(folder, store, ada, helpers):
    path = blob_file(folder, helpers.turn(ada, "s", blob=b"x" * 10))
    (folder / "elsewhere").write_bytes(b"x" * 10)
    path.unlink()
    path.symlink_to(folder / "elsewhere")
    with pytest.raises(DamagedBlob):
        ada.read_blob("s")
    path = blob_file(folder, helpers.turn(ada, "s", blob=b"x" * 10))
    path.unlink()
    path.mkdir()
    with pytest.raises(DamagedBlob):
        ada.read_blob("s")


def test_two_swapped_blobs(folder, store, ada, helpers):
    one, two = (blob_file(folder, helpers.turn(ada, name, blob=name.encode() * 500)) for name in ("one", "two"))
    content = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(content)
    assert [p.kind for p in store.verify()] == ["damaged_blob"] * 2
    for name in ("one", "two"):
        with pytest.raises(DamagedBlob):
            ada.read_blob(name)
    store.gc()
    assert store.verify() == [] and [m.text for m in ada.memories()] == ["hello"] * 2


def test_a_blob_of_another_tenant_under_the_right_name(folder, store, ada, helpers):
    mine, theirs = (helpers.turn(store.tenant(name), "s", blob=b"same bytes") for name in ("ada", "bob"))
    with store._backend.index.transaction():  # ada's row now names bob's blob, which has equal content
        store._backend.index.file.write("UPDATE sessions SET blob = ? WHERE tenant = 'ada'", (theirs.blob.id,))
    assert mine.blob.id != theirs.blob.id
    with pytest.raises(DamagedBlob):
        ada.read_blob("s")


def test_damage_found_inside_a_sound_blob_is_quarantined_by_the_caller(folder, store, ada, helpers):
    helpers.turn(ada, "s", blob=b"right checksum, wrong tensors")
    ada.quarantine("s", "layer 3 has another shape")
    assert ada.session("s").blob is None and len(list((folder / "quarantine").iterdir())) == 1
    assert ada.events("s", "quarantined")[0].data["reason"] == "layer 3 has another shape"
    assert [p.kind for p in store.verify()] == ["quarantined"]
    assert store.gc().quarantined == 1 and store.verify() == []


def test_a_session_that_moved_is_a_conflict_not_damage(ada, helpers):
    helpers.turn(ada, "s")
    with pytest.raises(Conflict):
        ada.read_blob("s", head=0)


def test_any_damage_to_the_index_is_named_or_found_by_verify(folder, tmp_path, helpers):
    """120 single flips all over the file: each reads as written, or raises a named error and shows in `verify`."""
    with MemoryStore.open(folder) as opened:
        for n in range(12):
            helpers.turn(opened.tenant("ada"), f"s{n}", "text " * 200 + str(n), blob=b"kv%d" % n)
        truth = contents(opened)
    chance, index, named = random.Random(3), folder / "index.sqlite", 0
    intact = index.read_bytes()
    places = [*range(0, 100, 3), *(chance.randrange(len(intact)) for _ in range(90))]
    for place in places:
        copy = tmp_path / "copy"
        shutil.copytree(folder, copy)
        flip(copy / "index.sqlite", place, 1 << chance.randrange(8))
        try:
            with MemoryStore.open(copy) as opened:
                problems = opened.verify()
                assert contents(opened) == truth or problems, f"byte {place}: changed and unnoticed"
        except MemkvError as error:
            assert error.next_step
            named += 1
        shutil.rmtree(copy)
    assert named > 5


def contents(opened):
    tenant = opened.tenant("ada")
    names = sorted(session.name for session in tenant.sessions())
    return [(tenant.session(n), tenant.memories(n), tenant.events(n), bytes(tenant.read_blob(n))) for n in names]


@pytest.mark.parametrize(
    "content", [b"no database, but long enough for one" * 100, b"SQLite format 3\0" + b"\xff" * 9000]
)
def test_an_index_that_is_no_database(folder, content):
    MemoryStore.open(folder).close()
    (folder / "index.sqlite").write_bytes(content)
    with pytest.raises(MemkvError, match="index.sqlite"):
        MemoryStore.open(folder)


def test_a_truncated_index(folder, helpers):
    with MemoryStore.open(folder) as opened:
        helpers.turn(opened.tenant("ada"), "s", "x" * 50_000)
    os.truncate(folder / "index.sqlite", 40_000)
    with pytest.raises(MemkvError, match="index.sqlite"), MemoryStore.open(folder) as opened:
        assert opened.verify()
        opened.tenant("ada").memories("s")
        opened.tenant("ada").commit("s", 1, context=[], tokens=b"x" * 100_000)
