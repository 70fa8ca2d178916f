"""What the command lines share: consoles, progress bars, errors as one line, JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from memkv.config import format_bytes
from memkv.errors import MemkvError

if TYPE_CHECKING:
    from memkv.cache_size import CacheSize

Advance = Callable[[int, int], None]


def out() -> Console:
    """Results go to standard output."""
    return Console(highlight=False, soft_wrap=True)


def err() -> Console:
    """Notices, errors and progress go to standard error."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def emit(data: Any) -> None:
    """One JSON document on one line of standard output."""
    sys.stdout.write(json.dumps(data, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def report(error: MemkvError) -> None:
    """An error as people read it: what happened, then what to do."""
    console = err()
    console.print(f"[bold red]{type(error).__name__}[/]: ", end="")
    console.print(str(error), markup=False)


def error_data(error: MemkvError) -> dict[str, str]:
    """An error as plain data."""
    return {"error": type(error).__name__, "message": error.message, "next_step": error.next_step}


@contextmanager
def progress(what: str) -> Iterator[Advance]:
    """A progress bar on standard error while the block runs, if that is a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    # Not redirecting: a reply that is streamed to standard output must not go through the bar, line by line.
    bar = Progress(
        *columns,
        console=err(),
        transient=True,
        disable=not sys.stderr.isatty(),
        redirect_stdout=False,
        redirect_stderr=False,
    )
    task = bar.add_task(what, total=None)

    def advance(done: int, total: int) -> None:
        # Shown only while there is something to wait for, and gone before anything else is printed.
        bar.update(task, completed=done, total=total)
        if done < total:
            bar.start()
        else:
            bar.stop()

    try:
        yield advance
    finally:
        bar.stop()


def size_line(size: CacheSize) -> str:
    """`5.8 MiB (attention 5.6 MiB, conv 200 KiB)`."""
    if len(size.by_kind) <= 1:
        return format_bytes(size.payload)
    parts = ", ".join(f"{kind} {format_bytes(count)}" for kind, count in sorted(size.by_kind.items()))
    return f"{format_bytes(size.payload)} ({parts})"
