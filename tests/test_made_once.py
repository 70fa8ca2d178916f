"""Folders that are made once: whole or not at all, and every byte as it was written."""

import json
from pathlib import Path

import pytest

from memkv import made_once
from memkv.errors import ModelUnavailable, StorageFull


@pytest.fixture
def small_folder(tmp_path):
    (tmp_path / "weights").write_bytes(bytes(range(256)))
    entry = {"bytes": 256, "blake3": made_once.hash_file(tmp_path / "weights")}
    (tmp_path / made_once.MANIFEST).write_text(json.dumps({"weights": entry}))
    assert made_once.find_damage(tmp_path) is None
    return tmp_path


def test_one_flipped_bit_is_damage(small_folder):
    (small_folder / "weights").write_bytes(bytes([1, *range(1, 256)]))
    assert made_once.find_damage(small_folder) == "weights was altered"


def test_a_missing_file_is_damage(small_folder):
    (small_folder / "weights").unlink()
    assert made_once.find_damage(small_folder) == "no weights"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"weights": 3}', '{"weights": {"bytes": "x", "blake3": ""}}'])
def test_a_manifest_that_cannot_be_read_is_damage(small_folder, text):
    (small_folder / made_once.MANIFEST).write_text(text)
    assert "unreadable manifest.json" in str(made_once.find_damage(small_folder))


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("MEMKV_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def write(folder: Path) -> None:
    (folder / "weights").write_bytes(b"some")


def test_it_is_made_once_for_each_key_and_again_when_damaged(home):
    said: list[str] = []
    one = made_once.made_once("tiny", "a", write, said.append, "no time")
    assert (one / "weights").read_bytes() == b"some" and len(said) == 2
    assert made_once.made_once("tiny", "a", write, said.append, "no time") == one and len(said) == 2
    assert made_once.made_once("tiny", "b", write, said.append, "no time") != one
    (one / "weights").write_bytes(b"same")
    assert made_once.made_once("tiny", "a", write, said.append, "no time") == one
    assert (one / "weights").read_bytes() == b"some"
    assert "damaged (weights was altered)" in said[4]


def test_of_one_that_could_not_be_made_nothing_is_left(home):
    def half(folder: Path) -> None:
        write(folder)
        raise ModelUnavailable("no such base", "Install it.")

    def full(folder: Path) -> None:
        write(folder)
        raise OSError(28, "No space left on device")

    for make, error in ((half, ModelUnavailable), (full, StorageFull)):
        with pytest.raises(error):
            made_once.made_once("tiny", "a", make, lambda _: None, "no time")
        assert [path.name for path in (home / "models").iterdir()] == ["tiny.lock"]
