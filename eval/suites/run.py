"""Run samples of a public suite through memory systems: one row for each (sample, system, budget)."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.table import Table

from eval.rows import Failure
from eval.running.cell import DOES_NOT_FIT
from eval.running.row_file import replace_text
from eval.suites.asking import ask
from eval.suites.sample import Sample, to_scenario
from eval.systems import system
from eval.systems.base import Case, Limits, System
from memkv.config import format_bytes
from memkv.errors import BudgetExceeded, ConfigError, MemkvError
from memkv.model import HybridModel

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Contender:
    """A system at a budget.

    Attributes:
        name: as on the command line.
        share: of the full context's measured live cache; None sets no limit.
    """

    name: str
    system: System
    share: float | None


@dataclass(frozen=True)
class SuiteRow:
    """One sample with one system. Nothing in it comes from a clock: the same run writes the same rows.

    Attributes:
        id: sample and system, unique in a run.
        length: tokens asked for; None where the suite has lengths of its own.
        budget: share of the full context's bytes; `budget_bytes` are the bytes.
        score: 0 to 1; None for a failed row, which is counted, never scored.
        answer: what was written; `references` are the right answers.
        cut_tokens: taken out of the context's middle beforehand, for every system alike.
        full_bytes: measured live cache of the whole context.
        active_bytes: measured live cache before the question is read.
        at_rest: bytes kept between sessions, by kind.
        context_tokens: tokens before the question.
        prefilled, generated: tokens read and written, building the memory and answering together.
    """

    id: str
    suite: str
    task: str
    length: int | None
    sample: str
    system: str
    budget: float | None
    references: tuple[str, ...]
    cut_tokens: int = 0
    score: float | None = None
    answer: str | None = None
    full_bytes: int = 0
    budget_bytes: int | None = None
    active_bytes: int | None = None
    at_rest: dict[str, int] = field(default_factory=dict)
    context_tokens: int = 0
    prefilled: int = 0
    generated: int = 0
    failure: Failure | None = None


def contender(text: str) -> Contender:
    """`full`, `int4`, `snapkv:0.25`, `recency:0.5`: a system, and the share of the full cache that it may take.

    Raises:
        ConfigError: unknown system, a share that is none, or one for a system that takes none.
    """
    name, colon, share = text.rpartition(":") if ":" in text else (text, "", "")
    found = system(name)
    if not colon:
        return Contender(text, found, None)
    if not found.budgeted:
        raise ConfigError(f"{name} takes no budget", f"Write {name}.")
    try:
        value = float(share)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise ConfigError(f"{share!r} is not a share within 0 and 1", f"Write for example {name}:0.25.")
    return Contender(text, found, value)


def run(
    model: HybridModel, samples: Sequence[Sample], contenders: Sequence[Contender], seed: int = 0
) -> Iterator[SuiteRow]:
    """Rows as they are done. The context is read once for all contenders; an error is a row of its own."""
    for sample in samples:
        case = Case(model, to_scenario(sample))
        for one in contenders:
            yield cell(case, sample, one, seed)


def cell(case: Case, sample: Sample, one: Contender, seed: int) -> SuiteRow:
    """One row, failed or not."""
    row = SuiteRow(
        id=f"{sample.id}/{one.name}",
        suite=sample.suite,
        task=sample.task,
        length=sample.length,
        sample=sample.id,
        system=one.name,
        budget=one.share,
        references=sample.references,
        cut_tokens=sample.cut_tokens,
    )
    try:
        return measured(row, case, sample, one, seed)
    except MemkvError as error:
        return dataclasses.replace(row, failure=Failure(type(error).__name__, error.message, error.next_step))
    except Exception as error:  # a system's own bug: this row fails by name, the others go on
        log.exception("%s", row.id)
        failure = Failure(type(error).__name__, str(error) or "no message", "The traceback is on standard error.")
        return dataclasses.replace(row, failure=failure)


def measured(row: SuiteRow, case: Case, sample: Sample, one: Contender, seed: int) -> SuiteRow:
    """Remember, ask, score.

    Raises:
        MemkvError: whatever kept the system from answering; `BudgetExceeded` if its live cache is over a budget that
            it claimed to keep.
    """
    full = case.full.size().payload
    budget = None if one.share is None else int(one.share * full)
    try:
        memory = one.system.remember(case, Limits(budget, seed))
    except BudgetExceeded as error:
        smallest = f"It needs {error.smallest:,} bytes, the full context takes {full:,}. {error.next_step}".strip()
        return dataclasses.replace(row, full_bytes=full, failure=Failure(DOES_NOT_FIT, error.message, smallest))
    asked = ask(case.model, memory, sample)
    if budget is not None and asked.active_bytes > budget:
        raise BudgetExceeded(
            f"{row.id}: {asked.active_bytes} bytes of live cache, the budget is {budget}",
            "Correct the system, or give it a larger share.",
            smallest=asked.active_bytes,
        )
    return dataclasses.replace(
        row,
        score=sample.score(asked.text),
        answer=asked.text,
        full_bytes=full,
        budget_bytes=budget,
        active_bytes=asked.active_bytes,
        at_rest=dict(memory.at_rest),
        context_tokens=asked.context_tokens,
        prefilled=memory.spent.prefilled + asked.prefilled,
        generated=memory.spent.generated + asked.generated,
    )


def write_rows(
    path: Path, rows: Iterator[SuiteRow], done: Callable[[SuiteRow], None], origin: Mapping[str, Any] | None = None
) -> list[SuiteRow]:
    """Write each row as it comes, so that an interrupted run keeps what it has; `done` is told of each.

    `origin` (command, commit, versions, model) goes into a file beside the rows, with `.run.json` at its end.

    Raises:
        ConfigError: the file is there already, or cannot be written.
    """
    kept = []
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("x", encoding="utf-8")
    except FileExistsError as error:
        raise ConfigError(f"{path} is there already", "Name another file with --out, or delete it.") from error
    except OSError as error:
        raise ConfigError(f"Cannot write {path}: {error}", "Name another file with --out.") from error
    if origin is not None:
        replace_text(path.with_suffix(".run.json"), json.dumps(origin, indent=1, ensure_ascii=False) + "\n")
    with file:
        for row in rows:
            file.write(json.dumps(dataclasses.asdict(row), ensure_ascii=False) + "\n")
            file.flush()
            kept.append(row)
            done(row)
    return kept


def table(rows: Sequence[SuiteRow]) -> Table:
    """Mean scores and bytes by task, length and system, in the order in which they were run."""
    shown = Table(title="means over samples; live cache before the question is read; failed rows are not scored")
    for heading in ("task", "length", "system", "score %", "scored", "failed", "live cache", "of full", "at rest"):
        shown.add_column(heading, justify="left" if heading in ("task", "system") else "right")
    groups: dict[tuple[str, int | None, str], list[SuiteRow]] = {}
    for row in rows:
        groups.setdefault((row.task, row.length, row.system), []).append(row)
    for (task, length, name), group in sorted(groups.items(), key=lambda item: order(rows, item[0])):
        good = [row for row in group if row.score is not None]
        numbers = ["", "", "", ""]
        if good:
            active = fmean(row.active_bytes or 0 for row in good)
            numbers = [
                f"{100 * fmean(row.score or 0.0 for row in good):.1f}",
                format_bytes(active),
                f"{active / fmean(row.full_bytes for row in good):.3f}",
                format_bytes(fmean(sum(row.at_rest.values()) for row in good)),
            ]
        failed = len(group) - len(good)
        shown.add_row(
            task, f"{length:,}" if length else "", name, numbers[0], f"{len(good)}", f"{failed}", *numbers[1:]
        )
    return shown


def order(rows: Sequence[SuiteRow], key: tuple[str, int | None, str]) -> tuple[int, int, int]:
    """Where a group stands: tasks and systems as they first came, lengths rising."""
    tasks = list(dict.fromkeys(row.task for row in rows))
    systems = list(dict.fromkeys(row.system for row in rows))
    return tasks.index(key[0]), key[1] or 0, systems.index(key[2])


def failures(rows: Sequence[SuiteRow]) -> list[str]:
    """One line for each kind of failure and system: how many, the first one's id, and what to do."""
    failed = [(row, row.failure) for row in rows if row.failure is not None]
    counts = Counter((row.system, failure.error) for row, failure in failed)
    lines = []
    for (name, error), count in counts.items():
        row, failure = next((r, f) for r, f in failed if (r.system, f.error) == (name, error))
        lines.append(f"{count} x {error} with {name}, first in {row.id}: {failure.message}. {failure.next_step}")
    return lines
