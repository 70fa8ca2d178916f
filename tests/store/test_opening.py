"""Where a store is, who may read it, and what is not a store."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import stat
import subprocess
import sys

import pytest

from memkv.errors import ConfigError, IncompatibleStore, MemkvError, NotFound
from memkv.store import MemoryStore
from memkv.store.migrations import MIGRATIONS


def test_a_store_opens_by_path_url_environment_and_home(tmp_path, monkeypatch, helpers):
    with MemoryStore.open(tmp_path / "a b") as store:
        helpers.turn(store.tenant("ada"), "s")
    with MemoryStore.open(f"file://{tmp_path}/a%20b") as store:
        assert store.tenant("ada", create=False).exists("s")
    monkeypatch.setenv("MEMKV_STORE_URL", str(tmp_path / "a b"))
    with MemoryStore.open() as store:
        assert store.tenant("ada", create=False).exists("s")
    monkeypatch.delenv("MEMKV_STORE_URL")
    monkeypatch.setenv("MEMKV_HOME", str(tmp_path / "home"))
    MemoryStore.open().close()
    assert (tmp_path / "home" / "store" / "index.sqlite").exists()


@pytest.mark.parametrize(
    "url", ["s3://bucket/x", "postgres://host/db", "file://host/x", "file://relative", "sqlite://x"]
)
def test_an_unknown_scheme_names_the_known_ones(url):
    with pytest.raises(ConfigError, match="file:///"):
        MemoryStore.open(url)


def test_only_the_owner_can_read_it(folder, helpers):
    before = os.umask(0)
    try:
        with MemoryStore.open(folder) as store:
            helpers.turn(store.tenant("ada"), "s")
            store.tenant("ada").export_session("s", folder.parent / "x")
            found = [folder, folder.parent / "x", *folder.rglob("*")]
            assert any(path.name.endswith("-wal") for path in found)
            modes = {path: stat.S_IMODE(path.stat().st_mode) for path in found}
    finally:
        os.umask(before)
    assert all(mode == (0o700 if path.is_dir() else 0o600) for path, mode in modes.items()), modes


def test_foreign_folders_and_files_are_left_alone(tmp_path):
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").write_text("x")
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "letters", tmp_path / "file", "/proc/memkv"):
        with pytest.raises(IncompatibleStore, match="--store"):
            MemoryStore.open(path)
    assert os.listdir(tmp_path / "letters") == ["dear.txt"]


def test_a_database_of_another_program(folder):
    folder.mkdir()
    connection = sqlite3.connect(folder / "index.sqlite")
    connection.execute("CREATE TABLE theirs (x)")
    connection.commit()
    connection.close()
    with pytest.raises(IncompatibleStore, match="another program"):
        MemoryStore.open(folder)


def test_a_newer_store_says_upgrade(folder):
    with MemoryStore.open(folder) as store, store._backend.index.transaction():
        newer = (len(MIGRATIONS) + 1, "from the future", 0.0)
        store._backend.index.file.write("INSERT INTO migrations VALUES (?, ?, ?)", newer)
    with pytest.raises(IncompatibleStore, match="Upgrade"):
        MemoryStore.open(folder)


def test_a_store_whose_making_was_killed_is_made_again(folder, helpers):
    folder.mkdir()
    (folder / "blobs").mkdir()
    (folder / "index.sqlite").touch()
    with MemoryStore.open(folder) as store:
        helpers.turn(store.tenant("ada"), "s")
        assert store.verify() == []


def test_eight_processes_make_one_store_at_once(folder):
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        keys = pool.map(open_and_key, [folder] * 8)
    assert len(set(keys)) == 1


def open_and_key(folder):
    with MemoryStore.open(folder) as store:
        return store.tenant("ada").limits.key


def test_an_unknown_tenant_names_the_nearest(store, helpers):
    store.tenant("editorial")
    with pytest.raises(NotFound, match="'editorial'"):
        store.tenant("editorail", create=False)


def test_the_store_needs_no_torch():
    code = "import sys, memkv.store; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=os.getcwd()).returncode == 0


def test_every_error_has_a_next_step(folder):
    with pytest.raises(MemkvError) as caught:
        MemoryStore.open("ftp://x")
    assert caught.value.next_step
