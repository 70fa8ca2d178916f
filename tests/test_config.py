from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from memkv.chat.chat_command import Chat
from memkv.config import format_bytes, load_yaml, memkv_home, parse_bytes
from memkv.errors import ConfigError, InvalidInput


@dataclass(frozen=True)
class Inner:
    rate: float = 0.1
    steps: int = 1


@dataclass(frozen=True)
class Outer:
    name: str
    inner: Inner = field(default_factory=Inner)
    sizes: tuple[int, ...] = ()
    note: str | None = None


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return path


def test_yaml_becomes_frozen_dataclasses(tmp_path: Path) -> None:
    found = load_yaml(Outer, write(tmp_path, "name: a\ninner: {rate: 1}\nsizes: [1, 2]\nnote: null\n"))
    assert found == Outer("a", Inner(rate=1), (1, 2))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name: a\nnmae: b\n", "unknown key 'nmae'.*Known keys: inner, name"),
        ("name: a\ninner: {step: 1}\n", "inner: unknown key 'step'"),
        ("name: 3\n", "name is 3, which is no str"),
        ("name: a\ninner: {steps: 1.5}\n", "steps is 1.5"),
        ("name: a\ninner: {steps: true}\n", "steps is True"),
        ("name: a\nnote: 4\n", "note is 4"),
        ("inner: {}\n", "name"),
        ("- a\n", "not a mapping"),
        ("name: [\n", "Cannot read"),
        ("name: !!python/object/apply:os.getcwd []\n", "Cannot read"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        load_yaml(Outer, write(tmp_path, text))


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Cannot read"):
        load_yaml(Outer, tmp_path / "nowhere.yaml")


def test_the_published_configuration_loads() -> None:
    found = load_yaml(Chat, Path(__file__).parents[1] / "configs" / "chat.yaml")
    assert parse_bytes(found.context_budget or "") == 24 * 2**20


@pytest.mark.parametrize(
    ("text", "count"), [("16 MiB", 2**24), ("1.5GB", 1_500_000_000), ("1048576", 2**20), ("2kib", 2048), (7, 7)]
)
def test_sizes_in_words(text: str | int, count: int) -> None:
    assert parse_bytes(text) == count


@pytest.mark.parametrize("text", ["", "much", "-1", "0", "1 parsec", "1e400", "0.1", "nan"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_bytes(text)


def test_sizes_are_printed_short() -> None:
    assert [format_bytes(count) for count in (0, 1023, 1536, 47_185_920, 10**13)] == [
        "0 B", "1023 B", "1.50 KiB", "45.0 MiB", "9.09 TiB",
    ]  # fmt: skip


def test_the_home_folder_is_the_users_choice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MEMKV_HOME", str(tmp_path))
    assert memkv_home() == tmp_path
    monkeypatch.delenv("MEMKV_HOME")
    assert memkv_home() == Path.home() / ".memkv"
