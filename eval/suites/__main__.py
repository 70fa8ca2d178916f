"""`python -m eval.suites`: RULER or LongBench, for any memory system; exit status 1 if a row failed.

A system that says itself that it cannot be as small as its budget has not failed; its rows are listed as such.
"""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from eval.running.cell import DOES_NOT_FIT
from eval.running.provenance import describe_part
from eval.suites import longbench, ruler
from eval.suites.run import contender, failures, run, table, write_rows
from eval.suites.sample import Sample
from memkv import HybridModel
from memkv.errors import ConfigError, InvalidInput, MemkvError

INTERRUPTED = 130  # what shells expect of a process ended by Ctrl-C


@dataclass(frozen=True)
class Options:
    """Run samples of a public suite through memory systems; rows go to a file, a table to the terminal.

    A context is read once, remembered by each system, and the question is answered greedily.
    """

    suite: Literal["ruler", "longbench"]
    """ruler is made on the spot by lm-eval; longbench reads downloaded files (--longbench DIR)."""
    systems: tuple[str, ...] = ("full", "int4", "snapkv:0.25")
    """Memory systems as in eval.systems, with the share of the full cache that they may take: snapkv+int4:0.25."""
    tasks: tuple[str, ...] = ()
    """ruler: niah_single_1, vt, ... (default: all that need no download); longbench: data sets (default: all)."""
    lengths: tuple[int, ...] = (1024, 2048)
    """ruler: tokens of a sample, the answer included."""
    samples: int = 10
    """Samples of each task, and of each length."""
    seed: int = 0
    """Of the samples, and of systems that sample."""
    model: str = "smollm2-135m"
    """Embedded model, a local folder, or a hub id."""
    limit: int | None = None
    """longbench: cut contexts to this many tokens in all (default: the model's positions)."""
    longbench: Path | None = None
    """Folder of LongBench's .jsonl files."""
    essays: Path | None = None
    """ruler: folder of .txt files to hide needles in, instead of the hub's essays."""
    nltk_data: Path | None = None
    """ruler: folder of NLTK data that holds tokenizers/punkt_tab, for tasks with essays."""
    out: Path | None = None
    """File of the rows (default: build/suites/SUITE-TIME.jsonl)."""


def make_samples(options: Options, model: HybridModel) -> list[Sample]:
    """The samples of the chosen suite.

    Raises:
        MemkvError: see `ruler.samples` and `longbench.samples`.
    """
    if options.samples < 1:
        raise InvalidInput(f"{options.samples} samples are none", "Give at least one: --samples 1.")
    if options.suite == "ruler":
        source = ruler.Source(options.essays, options.nltk_data)
        tasks = options.tasks or ruler.OFFLINE
        return ruler.samples(tasks, options.lengths, options.samples, model, options.seed, source)
    if options.longbench is None:
        raise ConfigError("LongBench's files are not in memkv", longbench.WHERE)
    return longbench.samples(options.longbench, options.tasks, options.samples, model, options.limit)


def play(options: Options, out: Console, err: Console) -> int:
    """Run and show; returns the exit status.

    Raises:
        MemkvError: nothing could be run; the errors of single rows are rows.
    """
    contenders = [contender(name) for name in options.systems]
    model = HybridModel.from_pretrained(options.model, notify=lambda said: err.print(said, markup=False))
    samples = make_samples(options, model)
    path = options.out or Path("build", "suites", f"{options.suite}-{datetime.now():%Y%m%d-%H%M%S}.jsonl")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=err, transient=True) as bar:
        task = bar.add_task(options.suite, total=len(samples) * len(contenders))
        origin = {**describe_part(1, "eval.suites"), "model": dataclasses.asdict(model.fingerprint)}
        rows = write_rows(path, run(model, samples, contenders, options.seed), lambda row: bar.advance(task), origin)
    out.print(table(rows))
    for line in failures(rows):
        out.print(line, markup=False)
    cut = [row.cut_tokens for row in rows if row.cut_tokens]
    if cut:
        out.print(
            f"{len(cut)} of {len(rows)} rows had the middle of their context cut out, {max(cut):,} tokens at most."
        )
    out.print(f"{len(rows)} rows in {path}", markup=False)
    return 1 if any(row.failure is not None and row.failure.error != DOES_NOT_FIT for row in rows) else 0


def main() -> int:
    """Parse, run, and turn memkv's errors into one line each."""
    options = tyro.cli(Options, prog="python -m eval.suites", config=(tyro.conf.OmitArgPrefixes,))
    # Into a file or a pipe a table goes at its full width.
    out = Console(highlight=False, width=None if sys.stdout.isatty() else 200)
    err = Console(stderr=True, highlight=False)
    try:
        return play(options, out, err)
    except MemkvError as error:
        err.print(f"{type(error).__name__}: {error}", markup=False)
        return 1
    except KeyboardInterrupt:
        err.print("Interrupted; the rows that were done are in the file.")
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
