from __future__ import annotations

import math
import resource
from dataclasses import replace
from pathlib import Path

import pytest

from eval.rows import Answer, Failure, Row, Times
from eval.running.row_file import RowFile, read_rows, read_times, row_of, times_of, to_line
from memkv.errors import ConfigError, StorageFull

FULL = Row(
    id="s/recency/0.5/0",
    scenario="s",
    pair="p",
    system="recency",
    budget=0.5,
    seed=0,
    budget_bytes=100,
    full_bytes=200,
    active_bytes=90,
    at_rest={"text": 12},
    context_tokens=3.5,
    said={"r0": "right"},
    ledger={"r0": 0.25},
    answers=(Answer("p0", "r0", "value", (-0.1, -2.0000000000000004), True, 0.87, None),),
)
FAILED = Row(
    id="s/bm25/0.5/0", scenario="s", pair="p", system="bm25", budget=0.5, seed=0, failure=Failure("E", "m", "n")
)


def write(path: Path, *rows: Row) -> None:
    with RowFile(path, row_of) as file:
        for row in rows:
            file.append(row)


def test_rows_come_back_as_they_were(tmp_path: Path):
    write(tmp_path / "rows.jsonl", FULL, FAILED)
    assert read_rows(tmp_path / "rows.jsonl") == [FULL, FAILED]


def test_times_come_back_as_they_were(tmp_path: Path):
    times = Times("s/recency/0.5/0", 0.1, 0.2, 0.3)
    with RowFile(tmp_path / "times.jsonl", times_of) as file:
        file.append(times)
    assert read_times(tmp_path / "times.jsonl") == [times]


@pytest.mark.parametrize("cut", [1, 7, 100])
def test_a_line_cut_short_by_a_kill_is_dropped_and_can_be_written_again(tmp_path: Path, cut: int):
    path = tmp_path / "rows.jsonl"
    write(path, FULL, FAILED)
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    assert read_rows(path) == [FULL]
    write(path, FAILED)
    assert path.read_bytes() == whole


def test_a_file_of_one_torn_line_is_empty(tmp_path: Path):
    path = tmp_path / "rows.jsonl"
    path.write_text(to_line(FULL)[:40], encoding="utf-8")
    write(path, FAILED)
    assert read_rows(path) == [FAILED]


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        "{}",
        '"row"',
        "\x00" * 20,
        to_line(FULL).replace('"seed"', '"sead"'),
        to_line(FULL)[:-1] + ',"x":1}',
    ],
)
def test_a_damaged_line_is_named_with_what_to_do(tmp_path: Path, line: str):
    path = tmp_path / "rows.jsonl"
    path.write_text(f"{to_line(FAILED)}\n{line}\n{to_line(FULL)}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"rows\.jsonl:2 is damaged.*Delete that line"):
        RowFile(path, row_of)


def test_the_later_line_of_an_id_counts(tmp_path: Path):
    path = tmp_path / "rows.jsonl"
    again = replace(FULL, id=FAILED.id, system="bm25")
    write(path, FAILED, FULL, again)
    assert read_rows(path) == [FULL, again]


def test_finish_orders_by_id_whatever_the_order_of_writing(tmp_path: Path):
    files = [tmp_path / "a", tmp_path / "b"]
    for path, rows in zip(files, ([FULL, FAILED], [FAILED, FAILED, FULL]), strict=True):
        with RowFile(path, row_of) as file:
            for row in rows:
                file.append(row)
            file.finish()
    assert files[0].read_bytes() == files[1].read_bytes()
    assert [row.id for row in read_rows(files[0])] == sorted([FULL.id, FAILED.id])


def test_a_number_that_is_none_is_not_written(tmp_path: Path):
    path = tmp_path / "rows.jsonl"
    with RowFile(path, row_of) as file, pytest.raises(ValueError, match="JSON"):
        file.append(replace(FULL, context_tokens=math.nan))
    assert path.read_bytes() == b""


def test_a_full_disk_is_named_and_costs_no_earlier_row(tmp_path: Path):
    path = tmp_path / "rows.jsonl"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with RowFile(path, row_of) as file:
        file.append(FULL)
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 20, before[1]))
        try:
            with pytest.raises(StorageFull, match="Cannot write.*the same command again"):
                file.append(FAILED)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert read_rows(path) == [FULL]
    write(path, FAILED)
    assert read_rows(path) == [FULL, FAILED]


def test_a_folder_without_rows_is_named(tmp_path: Path):
    with pytest.raises(ConfigError, match="Cannot read"):
        read_rows(tmp_path / "rows.jsonl")
