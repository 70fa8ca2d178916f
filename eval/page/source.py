"""Reads the folder of a run for the report, and says where it is from. Files may be gzipped (`rows.jsonl.gz`)."""

from __future__ import annotations

import contextlib
import gzip
import os
import shlex
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from blake3 import blake3

from eval.figures.analysis import Analysis, analyse
from eval.page.lines import Line, lines_of
from eval.running.provenance import ROOT, commit, versions
from eval.running.row_file import ROWS, TIMES, read_rows, read_times
from eval.running.run_folder import RUN, SCENARIOS, read_run
from eval.scenarios import Scenario, read_scenarios
from memkv.errors import ConfigError


@dataclass(frozen=True)
class Source:
    """A run as the report needs it.

    Attributes:
        folder: as commands in the report name it.
        run: the content of `run.json`.
        made_from: splits and seeds of the scenarios, as they say themselves: a sealed seed and a user's own file are
            not what the configuration says.
        hashes: BLAKE3 of each file as it was written (before gzip).
    """

    folder: str
    run: dict[str, Any]
    made_from: str
    analysis: Analysis
    lines: list[Line]
    hashes: dict[str, str]


def read_source(folder: Path) -> Source:
    """Read and analyse a run, finished or not.

    Raises:
        ConfigError: the folder holds no run, or a file in it is missing or damaged.
        InvalidInput: rows and scenarios do not belong together.
    """
    run = read_run(folder) if folder.is_dir() else None
    if run is None:
        raise ConfigError(f"{folder} holds no run ({RUN} is missing)", "Name the folder that eval.run wrote.")
    with (
        unpacked(folder / ROWS) as rows_file,
        unpacked(folder / TIMES) as times_file,
        unpacked(folder / SCENARIOS) as scenarios_file,
    ):
        files = (rows_file, times_file, scenarios_file)
        scenarios = list(read_scenarios(scenarios_file))
        analysis = analyse(read_rows(rows_file), read_times(times_file), scenarios)
        hashes = {file.name: blake3(file.read_bytes()).hexdigest() for file in files}
    return Source(shown(folder), run, made_from(scenarios), analysis, lines_of(analysis), hashes)


def made_from(scenarios: Sequence[Scenario]) -> str:
    """Splits and seeds: `split test, seed 0`."""
    splits, seeds = sorted({s.split for s in scenarios}), sorted({s.seed for s in scenarios})
    more = f" and {len(seeds) - 3} more" if len(seeds) > 3 else ""
    return f"split {', '.join(splits)}, seed {', '.join(seeds[:3])}{more}"


@contextlib.contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """`path` itself, or a temporary copy of what `path`.gz holds.

    Raises:
        ConfigError: neither can be read.
    """
    packed = path.with_name(path.name + ".gz")
    if path.is_file() or not packed.is_file():
        yield path
        return
    try:
        data = gzip.decompress(packed.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigError(f"Cannot read {packed}: {error}", "Take the file from the repository again.") from error
    with TemporaryDirectory() as scratch:
        plain = Path(scratch) / path.name
        plain.write_bytes(data)
        yield plain


def shown(folder: Path) -> str:
    """The folder relative to the repository, where it is inside; else its name alone: a report is given to others."""
    inside = os.path.relpath(folder.resolve(), ROOT)
    return folder.resolve().name if inside.startswith("..") else inside


def report_command(source: Source) -> str:
    """What makes the report again."""
    return f"python -m eval.report {shlex.quote(source.folder)}"


def provenance(source: Source) -> list[tuple[str, str]]:
    """Model, scenarios, sittings, files: name and value, in the order of the page."""
    run, config = source.run, source.run["config"]
    model = run.get("model") or {}
    scenarios = run["scenarios"]
    facts = [
        ("model", f"{config.get('model')}, {config.get('dtype')} on {config.get('device')}"),
        ("model fingerprint", ", ".join(f"{name} {value}" for name, value in model.items()) or "not known yet"),
        ("scenarios", f"{scenarios.get('count')}, {source.made_from}"),
        ("scenarios, BLAKE3", str(scenarios.get("blake3"))),
    ]
    facts += [(f"{name}, BLAKE3", value) for name, value in source.hashes.items() if name != SCENARIOS]
    for number, part in enumerate(run["parts"], 1):
        facts += sitting(part, f"sitting {number}" if len(run["parts"]) > 1 else "run")
    totals = run.get("totals")
    facts.append(("rows", "the run has not ended" if totals is None else rows_text(totals)))
    facts.append(("report made by", f"{report_command(source)} at commit {commit_text(commit())}"))
    facts.append(("report made with", ", ".join(f"{name} {number}" for name, number in versions().items())))
    return facts


def sitting(part: dict[str, Any], name: str) -> list[tuple[str, str]]:
    """One sitting of a run."""
    machine = part.get("machine", {})
    speed = (
        ""
        if part.get("rows_per_minute") is None
        else f"; {part.get('rows')} rows, {part['rows_per_minute']:g} a minute"
    )
    found = ", ".join(f"{package} {number}" for package, number in part.get("versions", {}).items())
    return [
        (f"{name}: command", str(part.get("command"))),
        (f"{name}: commit", commit_text(part.get("commit", {}))),
        (f"{name}: time", f"{part.get('started')} to {part.get('ended', 'an interruption')}{speed}"),
        (
            f"{name}: machine",
            f"{machine.get('cpu')}, {machine.get('cores')} cores, {machine.get('memory')}, "
            f"{machine.get('system')}; {part.get('workers')} workers",
        ),
        (f"{name}: versions", f"Python {part.get('python')}, {found}"),
    ]


def commit_text(found: dict[str, Any]) -> str:
    """The commit, and whether files differed from it."""
    if not found.get("id"):
        return "not known (no git checkout)"
    return f"{found['id']}{' with changed files' if found.get('dirty') else ''}"


def rows_text(totals: dict[str, Any]) -> str:
    """What the run came to."""
    state = "complete" if totals.get("complete") else "not complete: the same command goes on"
    parts = [f"{totals.get('rows')} ({state})", f"{totals.get('failed')} failed"]
    parts.append(f"{totals.get('do_not_fit')} do not fit")
    if totals.get("sharing_ratio"):
        read, unshared = totals["prefilled"], totals["unshared"]
        ratio = totals["sharing_ratio"]
        parts.append(f"shared prefills read {read:,} tokens instead of {unshared:,} ({ratio:.1f} times fewer)")
    return ", ".join(parts)
