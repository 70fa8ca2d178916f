from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from rich.console import Console
from tiny_chat import tiny_chat

from eval.running.cell import DOES_NOT_FIT
from eval.running.provenance import describe_part
from eval.suites.run import Contender, SuiteRow, contender, failures, run, table, write_rows
from eval.suites.sample import Sample, to_scenario
from eval.systems.base import Case, Limits, Memory, constant
from memkv.errors import BudgetExceeded, ConfigError, InvalidInput
from memkv.model import HybridModel


@pytest.fixture(scope="module")
def llama() -> HybridModel:
    return tiny_chat("llama")


def sample(number: int = 0, context: str = "The code is 4711. " * 8) -> Sample:
    return Sample(
        id=f"own/code/{number}",
        suite="own",
        task="code",
        length=None,
        context=context,
        question="What is the code?",
        references=("4711",),
        score=lambda text: float("4711" in text),
        max_tokens=4,
        opening="The code is",
    )


@dataclass(frozen=True)
class Broken:
    """Raises, or keeps everything whatever its budget."""

    error: Exception | None
    name = "broken"
    budgeted = True
    sampled = False

    def remember(self, case: Case, limits: Limits) -> Memory:
        if self.error is not None and case.scenario.id.endswith("/0"):
            raise self.error
        return Memory(messages=constant(case.messages), text=None, at_rest={}, live=case.full.fork())


def test_every_kind_of_system_answers_the_same_samples_with_its_bytes_measured(llama: HybridModel) -> None:
    names = ["full", "none", "int4", "streaming:0.5", "bm25:0.9"]
    rows = list(run(llama, [sample(0), sample(1)], [contender(name) for name in names]))
    assert [row.id for row in rows] == [f"own/code/{number}/{name}" for number in (0, 1) for name in names]
    assert [row.failure for row in rows] == [None] * 10
    by_name = {row.system: row for row in rows}
    full = by_name["full"].full_bytes
    assert by_name["full"].active_bytes == by_name["int4"].active_bytes == full
    assert by_name["int4"].at_rest["kv"] > 0
    assert by_name["none"].active_bytes == by_name["none"].context_tokens == 0
    half = by_name["streaming:0.5"]
    assert half.budget_bytes == full // 2
    assert half.active_bytes is not None and 0 < half.active_bytes <= half.budget_bytes
    assert half.context_tokens == by_name["full"].context_tokens
    assert all(row.score is not None and 0 < row.generated <= 4 for row in rows)


def test_a_stored_cache_answers_as_the_live_one(llama: HybridModel) -> None:
    full, restored = run(llama, [sample()], [contender("full"), contender("exact restore")])
    assert (full.answer, full.active_bytes) == (restored.answer, restored.active_bytes)


def test_two_runs_write_the_same_rows(llama: HybridModel, tmp_path: Path) -> None:
    chosen = [contender(name) for name in ("full", "snapkv:0.5")]
    for name in ("one", "two"):
        write_rows(tmp_path / name, run(llama, [sample()], chosen), lambda row: None)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes() != b""


@pytest.mark.parametrize(
    ("error", "named"),
    [
        (InvalidInput("No such thing", "Do another."), "InvalidInput"),
        (ZeroDivisionError("division by zero"), "ZeroDivisionError"),
        (BudgetExceeded("Too small", "Raise it.", smallest=99), DOES_NOT_FIT),
    ],
)
def test_an_error_is_a_row_with_its_id_and_the_others_are_kept(
    llama: HybridModel, tmp_path: Path, error: Exception, named: str
) -> None:
    chosen = [Contender("broken", Broken(error), None), contender("full")]
    path = tmp_path / "deep" / "rows.jsonl"
    rows = write_rows(path, run(llama, [sample(0), sample(1)], chosen), lambda row: None)
    assert [row.failure is None for row in rows] == [False, True, True, True]
    assert rows[0].failure is not None and rows[0].failure.error == named and rows[0].failure.next_step
    assert rows[0].score is None
    (line,) = failures(rows)
    assert line.startswith(f"1 x {named} with broken, first in own/code/0/broken: ")
    assert [json.loads(line)["id"] for line in path.read_text().splitlines()] == [row.id for row in rows]


def test_a_system_that_takes_more_than_its_budget_is_refused(llama: HybridModel) -> None:
    (row,) = run(llama, [sample()], [Contender("greedy:0.5", Broken(None), 0.5)])
    assert row.score is None and row.failure is not None
    assert row.failure.error == "BudgetExceeded" and row.id in row.failure.message


def test_a_context_beyond_the_models_positions_fails_by_name(llama: HybridModel) -> None:
    long, short = run(llama, [sample(0, "x" * 5000), sample(1)], [contender("full")])
    assert long.failure is not None and long.failure.error == "InvalidInput" and "4096" in long.failure.message
    assert short.failure is None


def test_rows_are_not_written_over(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("kept")
    with pytest.raises(ConfigError, match="there already.*--out"):
        write_rows(path, iter(()), lambda row: None, {"model": "another"})
    assert path.read_text() == "kept" and list(tmp_path.iterdir()) == [path]


def test_rows_say_where_they_are_from(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", iter(()), lambda row: None, describe_part(1, "eval.suites"))
    origin = json.loads((tmp_path / "rows.run.json").read_text())
    assert origin["command"].startswith("python -m eval.suites") and {"commit", "versions", "machine"} <= set(origin)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nope", "no system 'nope'"),
        ("nope:0.5", "no system 'nope'"),
        ("int4:0.5", "takes no budget"),
        ("snapkv:2", "not a share"),
        ("snapkv:", "not a share"),
        ("snapkv:nan", "not a share"),
    ],
)
def test_a_wrong_system_is_refused(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        contender(text)


def test_a_chain_with_a_budget_is_read() -> None:
    chosen = contender("snapkv+int4:0.25")
    assert (chosen.system.name, chosen.share) == ("snapkv+int4", 0.25)


def test_the_conversation_is_one_that_systems_take() -> None:
    scenario = to_scenario(sample())
    assert [turn.role for chunk in scenario.chunks for turn in chunk] == ["user", "assistant"]
    assert scenario.rules == scenario.probes == ()


def test_the_answer_ends_with_its_first_line_where_that_is_all_that_counts(llama: HybridModel) -> None:
    ways = [replace(sample(), max_tokens=64, first_line=first) for first in (False, True)]
    whole, first = (next(run(llama, [way], [contender("full")])).answer for way in ways)
    assert whole is not None and first is not None and whole.startswith(first)
    assert "\n" not in first.strip("\n")


def test_the_table_shows_means_of_what_was_scored_and_counts_what_was_not() -> None:
    base = SuiteRow("a/0/full", "ruler", "vt", 1024, "a/0", "full", None, ("x",), full_bytes=2048, active_bytes=1024)
    rows = [
        replace(base, score=1.0),
        replace(base, id="a/1/full", score=0.5),
        replace(base, id="a/2/full", score=None, active_bytes=None),
    ]
    console = Console(width=160, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(table(rows))
    (line,) = [line for line in console.export_text().splitlines() if " vt " in line]
    assert [cell.strip() for cell in line.split("│")[1:-1]] == [
        "vt", "1,024", "full", "75.0", "2", "1", "1.00 KiB", "0.500", "0 B",
    ]  # fmt: skip
