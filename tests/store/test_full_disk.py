"""A disk that is really full: a small tmpfs where the system lets us mount one, and a file size limit everywhere."""

from __future__ import annotations

import multiprocessing
import os
import resource
import shutil
import subprocess
from pathlib import Path

import pytest

from memkv.errors import StorageFull
from memkv.store import MemoryStore, NewMemory

SIZE = 8 << 20


@pytest.fixture
def small_disk(tmp_path):
    mount = tmp_path / "disk"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "memkv-test", str(mount)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("no right to mount a tmpfs here: the disk-full tests need root; the file size limit is tested")
    yield mount
    subprocess.run(["umount", "-l", str(mount)], check=True)


def fill(disk: Path) -> None:
    """Leave no free byte."""
    with (disk / "filler").open("ab", buffering=0) as file:
        for size in (1 << 16, 1 << 12):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                pass
    assert shutil.disk_usage(disk).free == 0


def test_a_blob_that_does_not_fit_loses_nothing(small_disk, helpers):
    with MemoryStore.open(small_disk / "store") as store:
        ada = store.tenant("ada")
        before = helpers.turn(ada, "s", blob=helpers.blob(1, 2 << 20))
        with pytest.raises(StorageFull, match="memkv memory gc"):
            helpers.turn(ada, "s", "second", blob=helpers.blob(2, 6 << 20))
        assert ada.session("s") == before and bytes(ada.read_blob("s")) == helpers.blob(1, 2 << 20)
        assert store.verify() == []  # no temp file either
        helpers.turn(ada, "s", "second", blob=helpers.blob(3, 1 << 20))


def test_text_that_does_not_fit_loses_nothing(small_disk, helpers):
    with MemoryStore.open(small_disk / "store") as store:
        ada = store.tenant("ada")
        before = helpers.turn(ada, "s", blob=b"kv")
        fill(small_disk)
        with pytest.raises(StorageFull):
            for _ in range(100):  # the log may have some room left in its last page
                before = helpers.turn(ada, "s", "x" * 50_000, blob=None)
        assert ada.session("s") == before
        (small_disk / "filler").unlink()
        assert store.verify() == []
        helpers.turn(ada, "s", "goes on")


@pytest.mark.parametrize("what", ["memory", "session", "tenant"])
def test_forgetting_works_on_a_full_disk(small_disk, helpers, what):
    folder, secret = small_disk / "store", "the secret"
    with MemoryStore.open(folder) as store:
        ada = store.tenant("ada")
        ada.create_session("s")
        texts = [NewMemory(secret), *(NewMemory("y" * 900) for _ in range(300))]
        ada.commit("s", 0, memories=texts, context=[1], tokens=b"", blob=[secret.encode() + bytes(1000)])
    with MemoryStore.open(folder) as store:
        fill(small_disk)
        assert (folder / "reserve").stat().st_size == 1 << 20
        if what == "memory":
            store.tenant("ada").forget_memory("s", 1)
        elif what == "session":
            store.tenant("ada").forget_session("s")
        else:
            store.forget_tenant("ada")
        assert helpers.files_with(folder, secret.encode()) == []
        (small_disk / "filler").unlink()
        store.gc()
        assert store.verify() == [] and store.gc().found_nothing
        assert (folder / "reserve").stat().st_blocks * 512 >= 1 << 20  # taken back, and not as a hole


def test_an_existing_store_opens_on_a_full_disk(small_disk, helpers):
    folder = small_disk / "store"
    with MemoryStore.open(folder) as store:
        helpers.turn(store.tenant("ada"), "s", "still here")
    fill(small_disk)
    with MemoryStore.open(folder) as store:
        assert store.tenant("ada").memory("s", 1).text == "still here"
        assert bytes(store.tenant("ada").read_blob("s")) == b"kv"


def test_a_new_store_on_a_full_disk_says_so(small_disk):
    fill(small_disk)
    with pytest.raises(StorageFull):
        MemoryStore.open(small_disk / "store")


def test_a_file_size_limit_is_a_full_disk(folder, helpers):
    with MemoryStore.open(folder) as store:
        before = helpers.turn(store.tenant("ada"), "s", blob=b"kv")
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        assert pool.apply(limited, (folder,)) == ["StorageFull", "StorageFull"]
    with MemoryStore.open(folder) as store:
        assert store.tenant("ada").session("s") == before
        assert store.verify() == []


def limited(folder):
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    raised = []
    with MemoryStore.open(folder) as store:
        ada = store.tenant("ada")
        for change in ({"blob": [os.urandom(2 << 20)]}, {"memories": [NewMemory("x" * (3 << 20))]}):
            try:
                ada.commit("s", 1, context=[1], tokens=b"", **change)
            except StorageFull as error:
                raised.append(type(error).__name__)
    return raised
