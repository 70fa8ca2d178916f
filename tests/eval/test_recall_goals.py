"""What recall was to reach, against rows whose figures are known beforehand."""

from __future__ import annotations

from pathlib import Path

import pytest
from synthetic_rows import forgot, knows, row, scenario

from eval.figures.goals import Goal, as_table, read_run
from eval.recall_goals import beside_retrieval, main, spliced
from eval.rows import Row
from eval.running.row_file import RowFile, row_of
from eval.scenarios import Scenario, write_scenarios
from memkv.errors import ConfigError

RULES = (("f/a", "active"), ("f/b", "superseded"), ("f/c", "active"))


@pytest.fixture(scope="module")
def conversations() -> list[Scenario]:
    return [scenario(f"s{n}", f"p{n // 2}", RULES) for n in range(8)]


def run(folder: Path, made: list[Row], found: list[Scenario]) -> Path:
    write_scenarios(folder / "scenarios.jsonl", found)
    with RowFile(folder / "rows.jsonl", row_of) as rows:
        for each in made:
            rows.append(each)
    return folder


def rows_of(found: list[Scenario]) -> list[Row]:
    """A splice without repair knows nothing of every fourth pair; with 8 tokens it knows all, and retrieval nothing."""
    return [
        each
        for number, told in enumerate(found)
        for each in (
            row(told, "recall kv 0", forgot if number % 4 == 0 else knows, 0.25),
            row(told, "recall kv 8", knows, 0.25),
            row(told, "recall kv all", knows, 0.25),
            row(told, "dense", forgot, 0.25),
            row(told, "hybrid", forgot, 0.25),
        )
    ]


def at(found: list[Goal], name: str) -> Goal:
    return next(goal for goal in found if name in goal.name)


def test_a_splice_is_held_against_reading_all_and_recall_against_retrieval(conversations, tmp_path, capsys):
    folder = run(tmp_path, rows_of(conversations), conversations)
    found = spliced(read_run(folder))
    assert at(found, "recall kv 0").found.value == pytest.approx(0.75) and "short" in at(found, "recall kv 0").verdict
    assert at(found, "recall kv 8").verdict == "reached" and len(found) == 2
    ahead = beside_retrieval(read_run(folder), "recall kv 8")
    assert at(ahead, "all questions").found.value == 1.0 and at(ahead, "amended").verdict == "reached"
    main([str(folder), "--plot", str(tmp_path / "curve.svg")])
    assert as_table([*found, *ahead]) in capsys.readouterr().out
    assert (tmp_path / "curve.svg").stat().st_size > 5000


def test_rows_of_recall_and_of_retrieval_must_be_there(conversations, tmp_path):
    folder = run(tmp_path, rows_of(conversations), conversations)
    with pytest.raises(ConfigError, match="no rows of 'recall' beside retrieval"):
        beside_retrieval(read_run(folder), "recall")
    with pytest.raises(SystemExit):
        main([str(folder), "--ours", "recall"])
