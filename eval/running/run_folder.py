"""The folder of a run: rows, times, scenarios, `run.json` and the log. One process writes; any number may read."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from eval.rows import Row, Times
from eval.running.cell import DOES_NOT_FIT, Finished
from eval.running.plan import Config, SystemPlan
from eval.running.provenance import describe_part, differences, now, text_hash
from eval.running.row_file import ROWS, TIMES, RowFile, replace_text, row_of, times_of
from eval.scenarios import Scenario, to_line
from memkv.errors import ConfigError, StoreBusy

RUN = "run.json"
SCENARIOS = "scenarios.jsonl"
LOG = "run.log"

OTHER_FOLDER = "Name another --out, or remove the folder to start anew."


@dataclass
class RunFolder:
    """What is kept of a run, while it is run.

    Attributes:
        run: the content of `run.json`: config, scenarios, model, parts (one a sitting) and, at the end, totals.
        new: rows of this sitting.
    """

    path: Path
    rows: RowFile[Row]
    times: RowFile[Times]
    run: dict[str, Any]
    new: int = 0

    def done(self, retry_failed: bool) -> frozenset[str]:
        """Ids of rows that need not be run; with `retry_failed` the failed ones need."""
        rows = self.rows.records.values()
        return frozenset(row.id for row in rows if row.failure is None or not retry_failed)

    def keep(self, finished: Finished) -> None:
        """Write one row. Times go first: a row that is there has its times."""
        if finished.trace:
            self.log(f"{finished.row.id}\n{finished.trace}")
        elif finished.row.failure is not None:
            self.log(f"{finished.row.id}: {finished.row.failure.error}: {finished.row.failure.message}")
        self.times.append(finished.times)
        self.rows.append(finished.row)
        self.new += 1

    def log(self, text: str) -> None:
        """Add to the log."""
        with (self.path / LOG).open("a", encoding="utf-8") as file:
            file.write(f"{now()} {text.rstrip()}\n")

    def know_model(self, fingerprint: dict[str, str]) -> None:
        """Note the model.

        Raises:
            ConfigError: the rows that are there came from another one.
        """
        known = self.run.get("model")
        if known is not None and known != fingerprint:
            changed = "; ".join(differences(known, fingerprint, "model"))
            raise ConfigError(f"The rows in {self.path} were made by another model ({changed})", OTHER_FOLDER)
        self.run["model"] = fingerprint
        self.save()

    def save(self) -> None:
        """Write `run.json`."""
        replace_text(self.path / RUN, json.dumps(self.run, indent=1, ensure_ascii=False) + "\n")

    def finish(self, seconds: float, planned: frozenset[str]) -> None:
        """Write what the sitting came to; once every planned row is there, rows and times in order of their ids."""
        part = self.run["parts"][-1]
        part.update(ended=now(), rows=self.new, rows_per_minute=round(60 * self.new / max(seconds, 1e-9), 2))
        if not self.new and len(self.run["parts"]) > 1:  # nothing was left to do: no row is from this sitting
            self.run["parts"].pop()
        rows = list(self.rows.records.values())
        prefilled, unshared = sum(row.prefilled for row in rows), sum(row.unshared for row in rows)
        self.run["totals"] = {
            "rows": len(rows),
            "complete": planned <= set(self.rows.records),
            "do_not_fit": sum(row.failure is not None and row.failure.error == DOES_NOT_FIT for row in rows),
            "failed": len(failures(rows)),
            "prefilled": prefilled,
            "unshared": unshared,
            "sharing_ratio": round(unshared / prefilled, 3) if prefilled else None,
        }
        if self.run["totals"]["complete"]:
            self.times.finish()
            self.rows.finish()
        self.save()


def failures(rows: Sequence[Row]) -> list[Row]:
    """Rows that failed and should not have."""
    return [row for row in rows if row.failure is not None and row.failure.error != DOES_NOT_FIT]


@contextlib.contextmanager
def open_folder(path: Path, config: Config, scenarios: Sequence[Scenario], workers: int) -> Iterator[RunFolder]:
    """Begin a run in `path`, or go on with the one that was begun there.

    Raises:
        ConfigError: it was begun with another configuration or other scenarios, or has rows of systems that are no
            longer asked for; or it holds something else.
        StoreBusy: another process is writing there.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"Cannot write to {path}: {error}", "Name another --out.") from error
    try:
        lock = FileLock(path / ".lock", timeout=0)
        lock.acquire()
    except Timeout as error:
        raise StoreBusy(f"Another run is writing to {path}", "Wait for it, or name another --out.") from error
    try:
        text = "".join(to_line(scenario) + "\n" for scenario in scenarios)
        run = read_run(path) or begin(path, config, text)
        check_same(path, run, config, text)
        run["config"] = plain(config)
        # Written by an earlier sitting, unless that was killed between the two files.
        if not (path / SCENARIOS).is_file():
            replace_text(path / SCENARIOS, text)
        run.pop("totals", None)
        run["parts"].append(describe_part(workers))
        with RowFile(path / ROWS, row_of) as rows, RowFile(path / TIMES, times_of) as times:
            folder = RunFolder(path, rows, times, run)
            folder.save()
            yield folder
    finally:
        lock.release()


def read_run(path: Path) -> dict[str, Any] | None:
    """The `run.json` of a folder; None for a folder in which no run was begun.

    Raises:
        ConfigError: it is damaged, or there are rows without it.
    """
    file = path / RUN
    if not file.is_file():
        if (path / ROWS).exists():
            raise ConfigError(f"{path} holds rows, but no {RUN} that says where they are from", OTHER_FOLDER)
        return None
    try:
        run: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(run["config"], dict) and isinstance(run["parts"], list) and isinstance(run["scenarios"], dict):
            return run
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ConfigError(f"{file} is damaged: {error!r}", OTHER_FOLDER) from error
    raise ConfigError(f"{file} does not describe a run", OTHER_FOLDER)


def begin(path: Path, config: Config, scenarios: str) -> dict[str, Any]:
    """What `run.json` says of a new run; the scenarios are written beside it."""
    replace_text(path / SCENARIOS, scenarios)
    return {"config": plain(config), "scenarios": describe_scenarios(scenarios), "model": None, "parts": []}


def check_same(path: Path, run: dict[str, Any], config: Config, scenarios: str) -> None:
    """Refuse to mix rows of two runs; one run may gain systems, budgets and seeds, and lose none.

    Raises:
        ConfigError: it says what differs.
    """
    before = {"config": run["config"], "scenarios": run["scenarios"]}
    after = {"config": plain(config), "scenarios": describe_scenarios(scenarios)}
    known, asked = before["config"]["systems"], after["config"]["systems"]
    after["config"]["systems"] = {
        name: known[name] if extends(plan, known[name]) else plan for name, plan in asked.items() if name in known
    }
    changed = differences(before, after)
    if changed:
        raise ConfigError(f"{path} was begun as another run: {'; '.join(changed)}", OTHER_FOLDER)


def extends(now: dict[str, Any], before: dict[str, Any]) -> bool:
    """Whether one system's plan asks for all rows that it asked for before."""
    if now["budgets"] is None or before["budgets"] is None:
        return bool(now["budgets"] == before["budgets"] and now["seeds"] >= before["seeds"])
    return set(now["budgets"]) >= set(before["budgets"]) and now["seeds"] >= before["seeds"]


def plain(config: Config) -> dict[str, Any]:
    """The configuration as JSON gives it back; systems by name, so that a difference names the system."""
    data = {**dataclasses.asdict(config), "systems": {system.name: plain_system(system) for system in config.systems}}
    return dict(json.loads(json.dumps(data)))


def plain_system(system: SystemPlan) -> dict[str, Any]:
    """One system's budgets and seeds."""
    return {"budgets": system.budgets, "seeds": system.seeds}


def describe_scenarios(text: str) -> dict[str, Any]:
    """Which scenarios: how many, and a hash of them all."""
    return {"file": SCENARIOS, "count": text.count("\n"), "blake3": text_hash(text)}
