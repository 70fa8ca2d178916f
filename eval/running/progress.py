"""How far a run is: a bar in a terminal, else one line a minute; both on standard error."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

LINE_EVERY_S = 60.0


class Meter:
    """Counts rows and scenarios as they are finished, and says how long the rest takes.

    Args:
        rows: rows to be run in this sitting.
        scenarios: scenarios that they belong to.
        kept: rows that are there already.
        console: where to.
        clock: seconds; tests give their own.
    """

    def __init__(
        self,
        rows: int,
        scenarios: int,
        kept: int,
        console: Console,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.rows, self.scenarios, self.kept = rows, scenarios, kept
        self.done = self.done_scenarios = 0
        self._console, self._clock = console, clock
        self._start = self._ready = self._last_line = clock()
        columns = (TextColumn("rows"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
        self._bar = Progress(*columns, console=console, disable=not console.is_terminal, redirect_stdout=False)
        self._task = self._bar.add_task("", total=kept + rows, completed=kept)

    def __enter__(self) -> Meter:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    @property
    def seconds(self) -> float:
        """Since the start of this sitting."""
        return self._clock() - self._start

    def ready(self) -> None:
        """A worker has loaded the model. The pace is counted from the first one, as loading is not repeated."""
        if self._ready == self._start:
            self._ready = self._clock()

    def row(self, count: int = 1) -> None:
        """`count` more rows are there."""
        self.done += count
        self._bar.update(self._task, completed=self.kept + self.done, description=self.pace())
        if not self._console.is_terminal and self._clock() - self._last_line >= LINE_EVERY_S:
            self._last_line = self._clock()
            self.say(f"{self.kept + self.done} of {self.kept + self.rows} rows, {self.pace()}")

    def scenario(self) -> None:
        """One more scenario is done; after the first one an estimate of the whole is due."""
        self.done_scenarios += 1
        if self.done_scenarios == 1 and self.done < self.rows:
            self.say(f"First of {self.scenarios} scenarios done: about {duration(self.left())} to go")

    def left(self) -> float:
        """Seconds that the rest takes at the pace so far."""
        return (self.rows - self.done) * (self._clock() - self._ready) / max(1, self.done)

    def pace(self) -> str:
        """`84 rows a minute, 7 min left`."""
        a_minute = 60 * self.done / max(self._clock() - self._ready, 1e-9)
        return f"{a_minute:.0f} rows a minute, {duration(self.left())} left"

    def say(self, text: str) -> None:
        """One line, above the bar."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


def duration(seconds: float) -> str:
    """`40 s`, `7 min`, `2 h 05 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02} min"
