"""`python -m eval.report FOLDER`: the report of a run from its folder alone: report.html, REPORT.md and a table."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from eval.page.html import html
from eval.page.lines import Line, percent, seconds, share, size, with_interval
from eval.page.markdown import markdown
from eval.page.source import Source, read_source
from eval.running.row_file import replace_text
from memkv.errors import MemkvError

PAGE, SUMMARY = "report.html", "REPORT.md"
WIDTH = 110
FIGURES = (
    "rules\nsurviving", "text\nsays", "makes up\n/ denies", "active", "at rest", "first\ntoken", "failed /\nno fit",
)  # fmt: skip
STYLES = {"text": "yellow", "retrieval": "green", "cache": "cyan", "reference": "default"}


@dataclass(frozen=True)
class Options:
    """Make the report of a run again.

    Attributes:
        folder: what eval.run wrote.
    """

    folder: Annotated[Path, tyro.conf.Positional]


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the report and print its table."""
    options = tyro.cli(Options, prog="python -m eval.report", args=arguments)
    try:
        show(options.folder)
    except MemkvError as error:
        Console(stderr=True).print(f"{type(error).__name__}: {error}", markup=False, highlight=False, soft_wrap=True)
        sys.exit(1)


def show(folder: Path) -> None:
    """Print the table, write the report, say where. Raises as `write` does."""
    source = read_source(folder)
    terminal().print(table_of(source))
    print(f"Report: {write_from(source, folder)}")


def terminal() -> Console:
    """Standard output; a file or a pipe, which has no width of its own, gets all columns."""
    return Console(width=None if sys.stdout.isatty() else WIDTH)


def write(folder: Path) -> Path:
    """Write `report.html` and `REPORT.md` into the folder of a run, finished or not. Returns the page.

    Raises:
        ConfigError: the folder holds no run, or a file in it is missing or damaged.
        InvalidInput: rows and scenarios do not belong together.
        StorageFull: the report cannot be written.
    """
    return write_from(read_source(folder), folder)


def write_from(source: Source, folder: Path) -> Path:
    """As `write`, of a run that was read."""
    replace_text(folder / SUMMARY, markdown(source))
    replace_text(folder / PAGE, html(source))
    return folder / PAGE


def table_of(source: Source) -> Table:
    """The table for a terminal, at most WIDTH columns; narrower ones fold cells.

    Budgets from the tightest on, the best system first in each.
    """
    counts = source.analysis.counts
    table = Table(
        title=f"Rules surviving, {counts.scenarios} scenarios, {counts.probes:,} probes",
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    for name in ("system", "budget"):
        table.add_column(name, overflow="fold")
    for name in FIGURES:
        table.add_column(name, justify="right", overflow="fold")
    before: float | None = -1.0
    for line in source.lines:
        if line.row.budget != before and before != -1.0:
            table.add_section()
        before = line.row.budget
        table.add_row(*cells(line), style=STYLES[line.family])
    table.caption = caption(source)
    table.caption_justify = "left"
    return table


def cells(line: Line) -> list[str]:
    """One line of the table."""
    row, known = line.row, line.known
    return [
        clipped(row.system),
        share(row.budget),
        with_interval(row.survival),
        percent(row.text_survival.value),
        f"{percent(known.confabulation.value)} / {percent(known.false_denial_lost.value)}",
        size(row.cost.active_bytes),
        size(row.cost.at_rest),
        seconds(row.cost.first_token),
        f"{line.broken} / {line.unfit}" if row.failed else "0",
    ]


def clipped(name: str, most: int = 20) -> str:
    """A name that leaves room for the figures."""
    return name if len(name) <= most else f"{name[: most - 1]}…"


def caption(source: Source) -> str:
    """What the columns are, and what a reader has to know."""
    columns = (
        "surviving: probes on binding rules right [95% interval]; makes up: yes to rules that never were; denies: "
        "no to lost ones; no fit: cannot be as small as its budget"
    )
    return "\n".join([columns, *source.analysis.notes])


if __name__ == "__main__":
    main()
