from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from run_parts import tiny_scenario

from eval.scenarios import read_scenarios, to_line
from memkv.errors import ConfigError


def change(*path: str | int, to: Any) -> Callable[[Any], None]:
    """Sets one value deep inside a scenario."""

    def apply(data: Any) -> None:
        for key in path[:-1]:
            data = data[key]
        data[path[-1]] = to

    return apply


def read(path: Path, damage: Callable[[Any], None]) -> None:
    data = json.loads(to_line(tiny_scenario(0)))
    damage(data)
    path.write_text(to_line(tiny_scenario(1)) + "\n\n" + json.dumps(data), encoding="utf-8")
    list(read_scenarios(path))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    read(path, lambda data: None)
    assert list(read_scenarios(path)) == [tiny_scenario(1), tiny_scenario(0)]


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (change("policy", to="none"), "unknown field 'policy'"),
        (change("rules", 0, "statement", "slot", to="x"), r"rules\[0\].statement: unknown field 'slot'"),
        (lambda data: data["probes"][0].pop("question"), r"probes\[0\]: the field 'question' is missing"),
        (change("probes", 0, "answer", to="1"), r"probes\[0\].answer is '1', not a int"),
        (change("rules", 0, "status", to="valid"), r"rules\[0\].status is 'valid'"),
        (change("rules", 0, "planted_at", to=[0]), r"planted_at is \[0\], not a list of 2"),
        (change("id", to="own-01"), "the id 'own-01' was used before"),
        (change("probes", to=[]), "needs messages and probes"),
        (change("meetings", to=[]), "needs messages and probes"),
        (change("rounds", to=[4, 2]), "`rounds` must rise"),
        (change("rounds", to=[2, 3]), "the number of messages, 4"),
        (change("asked_on", to="20 March"), "'20 March' is no ISO date"),
        (change("meetings", 1, "date", to="2026-02-30"), "'2026-02-30' is no ISO date"),
        (change("rules", 1, "id", to="r0"), "two entries share a rule id"),
        (change("probes", 1, "id", to="p0"), "two entries share a probe id"),
        (change("rules", 0, "planted_at", to=[0, 2]), r"rule 'r0' is planted in message \[0, 2\]"),
        (change("rules", 0, "statement", "about", to=[]), "rule 'r0' needs groups of words"),
        (change("rules", 0, "statement", "about", to=[["ink"], []]), "rule 'r0' needs groups of words"),
        (change("rules", 0, "statement", "others", to=["red"]), "rule 'r0' needs a `value` that is none of `others`"),
        (change("probes", 0, "rule", to="r9"), "probe 'p0' asks about the unknown rule 'r9'"),
        (change("probes", 0, "answer", to=4), "probe 'p0' needs at least two options, and an answer among them"),
        (change("probes", 0, "options", to=["Red.", "Red.", "Blue."]), "probe 'p0' has an empty option, or the same"),
        (change("probes", 0, "options", to=["Red.", " "]), "probe 'p0' has an empty option"),
        (change("probes", 0, "stale", to=0), "probe 'p0' has no other option 0"),
        (change("probes", 1, "options", to=["Yes.", "No."]), "probe 'p1' needs the options of an existence probe"),
        (change("probes", 3, "max_tokens", to=0), "probe 'p3' needs a check and max_tokens"),
    ],
)
def test_what_cannot_be_run_is_named_with_its_line(tmp_path: Path, damage: Callable[[Any], None], says: str) -> None:
    with pytest.raises(ConfigError, match=rf"own\.jsonl:3.*{says}"):
        read(tmp_path / "own.jsonl", damage)


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"", "holds no scenario"), (b"{", "own.jsonl:1"), (b"[]", "not an object"), (b"\xff", "Cannot read")],
)
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "own.jsonl"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=says):
        list(read_scenarios(path))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        list(read_scenarios(tmp_path / "nowhere.jsonl"))
