"""Append-only JSON Lines of rows and times: what was written stays, whatever happens to the process.

A line is complete when it ends with a line feed. One that a kill cut short is dropped on opening, and what it would
have held is run again. A later line replaces an earlier one with the same id (a failed row that was retried).
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, TypeVar

from eval.rows import Answer, Failure, Row, Times
from memkv.errors import ConfigError, StorageFull

ROWS = "rows.jsonl"
TIMES = "times.jsonl"

Record = TypeVar("Record", Row, Times)


def row_of(data: Mapping[str, Any]) -> Row:
    """A row from its JSON object.

    Raises:
        TypeError, KeyError: a field is unknown or missing.
    """
    answers = tuple(Answer(**{**answer, "scores": tuple(answer["scores"])}) for answer in data["answers"])
    failure = None if data["failure"] is None else Failure(**data["failure"])
    return Row(**{**data, "answers": answers, "failure": failure})


def times_of(data: Mapping[str, Any]) -> Times:
    """Times from their JSON object.

    Raises:
        TypeError: a field is unknown or missing.
    """
    return Times(**data)


def to_line(record: Row | Times) -> str:
    """One line of JSON, without its line feed; the same record always gives the same bytes.

    Raises:
        ValueError: a number that is not finite.
    """
    return json.dumps(dataclasses.asdict(record), ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def read_rows(path: str | Path) -> list[Row]:
    """Rows of a finished or half-finished run in the file's order, the last of each id. Raises as `read_lines` does."""
    return list(read_lines(path, row_of).values())


def read_times(path: str | Path) -> list[Times]:
    """Times of a run, as `read_rows`."""
    return list(read_lines(path, times_of).values())


def read_lines(path: str | Path, build: Callable[[Mapping[str, Any]], Record]) -> dict[str, Record]:
    """Records by id; an unfinished last line is passed over.

    Raises:
        ConfigError: the file cannot be read, or a finished line in it holds no such record.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"Cannot read {path}: {error}", "Name the folder of a run.") from error
    records: dict[str, Record] = {}
    for number, line in enumerate(data[: finished(data)].split(b"\n")[:-1], 1):
        try:
            record = build(json.loads(line))
        except (ValueError, TypeError, KeyError) as error:
            raise ConfigError(
                f"{path}:{number} is damaged ({type(error).__name__}: {error})",
                "Delete that line and run the same command again: what it held is run again.",
            ) from error
        records.pop(record.id, None)
        records[record.id] = record
    return records


def finished(data: bytes) -> int:
    """How many bytes of a file belong to lines that end with a line feed."""
    return data.rfind(b"\n") + 1


class RowFile(Generic[Record]):
    """One file of records that a single process writes.

    Args:
        path: made if absent; cut back to its last finished line.
        build: a record from its JSON object.

    Attributes:
        records: everything in the file by id.

    Raises:
        ConfigError: see `read_lines`.
    """

    def __init__(self, path: Path, build: Callable[[Mapping[str, Any]], Record]) -> None:
        self.path = path
        path.touch()
        self.records: dict[str, Record] = read_lines(path, build)
        self._file = path.open("r+b", buffering=0)
        self._file.truncate(finished(path.read_bytes()))
        self._file.seek(0, os.SEEK_END)

    def append(self, record: Record) -> None:
        """Write one record; when this returns it is on the disk.

        Raises:
            StorageFull: it cannot be written; what was written before is untouched.
        """
        line = to_line(record).encode() + b"\n"
        try:
            if self._file.write(line) != len(line):
                raise OSError("only part of the line was written")
            os.fsync(self._file.fileno())
        except OSError as error:
            raise no_room(self.path, error) from error
        self.records[record.id] = record

    def finish(self) -> None:
        """Write the file again in the order of ids, one line an id, and replace the old one in one step."""
        self.close()
        ordered = [self.records[key] for key in sorted(self.records)]
        replace_text(self.path, "".join(to_line(record) + "\n" for record in ordered))

    def close(self) -> None:
        """Close the file as it is."""
        self._file.close()

    def __enter__(self) -> RowFile[Record]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def replace_text(path: Path, text: str) -> None:
    """Write a whole file so that at every moment the old or the new one is there.

    Raises:
        StorageFull: it cannot be written; the old one is untouched.
    """
    scratch = path.with_name(path.name + ".new")
    try:
        with scratch.open("w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(scratch, path)
    except OSError as error:
        raise no_room(path, error) from error


def no_room(path: Path, error: OSError) -> StorageFull:
    """The error for a file that cannot be written."""
    return StorageFull(f"Cannot write {path}: {error}", "Free some space and give the same command again.")
