"""One cell: a system remembers a conversation, every probe is asked, and one row comes out, whatever happens."""

from __future__ import annotations

import dataclasses
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch

from eval.prose.said import said
from eval.reading import read_probes
from eval.rows import Failure, Row, Times
from eval.running.endpoint import ENDPOINT, Endpoint, ask_all
from eval.running.plan import COMPACT, Cell, Config, Task, make_system
from eval.running.screen import SCREEN, Screen
from eval.scenarios import Scenario
from eval.systems.base import Case, Limits, Memory, System
from memkv.errors import BudgetExceeded, MemkvError
from memkv.model import HybridModel

# A system said itself that it cannot be that small: expected at tight budgets, counted apart.
DOES_NOT_FIT = "DoesNotFit"


@dataclass(frozen=True)
class Finished:
    """What a cell gave.

    Attributes:
        trace: the traceback of an error that something else caused, for the log.
    """

    row: Row
    times: Times
    trace: str = ""


class Runner:
    """Runs cells, with the model and the systems loaded once, and each conversation read once for all its cells.

    Args:
        config: see `Config`.
        endpoint: the server behind the `endpoint:` system of the configuration.
        notify: told in one sentence about work that takes seconds.
    """

    def __init__(
        self, config: Config, endpoint: Endpoint | None = None, notify: Callable[[str], None] | None = None
    ) -> None:
        self.config = config
        self.endpoint = endpoint
        self.notify = notify
        self._systems: dict[str, System] = {SCREEN: Screen()}
        torch.set_num_threads(config.threads)

    @cached_property
    def model(self) -> HybridModel:
        """The reader.

        Raises:
            ModelUnavailable, UnsupportedModel: see `HybridModel.from_pretrained`.
        """
        dtype = getattr(torch, self.config.dtype)
        return HybridModel.from_pretrained(
            self.config.model, dtype=dtype, device=self.config.device, notify=self.notify
        )

    def fingerprint(self) -> dict[str, str]:
        """What the model is, as text; loads it."""
        return dataclasses.asdict(self.model.fingerprint)

    def run(self, task: Task) -> Iterator[Finished]:
        """Every cell of one scenario, in order."""
        case = Case(self.model, task.scenario)
        for cell in task.cells:
            yield self.run_cell(case, cell)

    def run_cell(self, case: Case, cell: Cell) -> Finished:
        """One cell; an error inside it is a failed row."""
        empty = empty_row(case.scenario, cell)
        try:
            row, times = self.measure(case, cell, empty)
            return Finished(row, times)
        except MemkvError as error:
            trace = traceback.format_exc() if error.__cause__ is not None else ""
            return Finished(failed(empty, error), Times(cell.id, 0.0, 0.0, 0.0), trace)
        except Exception as error:  # whatever a system did, the other rows go on; the log has the traceback
            trace = traceback.format_exc()
            unexpected = Failure(type(error).__name__, str(error) or "no message", "The traceback is in run.log.")
            return Finished(dataclasses.replace(empty, failure=unexpected), Times(cell.id, 0.0, 0.0, 0.0), trace)

    def measure(self, case: Case, cell: Cell, empty: Row) -> tuple[Row, Times]:
        """A row with its answers.

        Raises:
            MemkvError: whatever kept the system from answering.
        """
        if cell.system.startswith(ENDPOINT):
            assert self.endpoint is not None
            return ask_endpoint(self.endpoint, case.scenario, empty)
        return run_system(self.system(cell.system), case, cell, empty)

    def system(self, name: str) -> System:
        """The system of that name, made once."""
        if name not in self._systems:
            self._systems[name] = make_system(name)
        return self._systems[name]


def empty_row(scenario: Scenario, cell: Cell) -> Row:
    """A row of which only the identity is known."""
    budget = None if cell.budget is None else float(cell.budget)
    return Row(cell.id, scenario.id, scenario.pair, cell.system, budget, cell.seed)


def failed(empty: Row, error: MemkvError) -> Row:
    """A row that says why it has no answers."""
    return dataclasses.replace(empty, failure=Failure(type(error).__name__, error.message, error.next_step))


def run_system(system: System, case: Case, cell: Cell, empty: Row) -> tuple[Row, Times]:
    """Remember, then ask.

    Raises:
        MemkvError: `BudgetExceeded` where the measured cache is larger than the budget.
    """
    full = case.full_bytes
    budget = None if cell.budget is None else int(cell.budget * full)
    known = dataclasses.replace(empty, budget_bytes=budget, full_bytes=full)
    began = time.perf_counter()
    try:
        memory = system.remember(case, Limits(budget, cell.seed))
    except BudgetExceeded as error:
        if cell.system.startswith(COMPACT):  # the function was told its budget and returned more
            raise
        smallest = f"It needs {error.smallest:,} bytes. {error.next_step}".strip()
        row = dataclasses.replace(known, failure=Failure(DOES_NOT_FIT, error.message, smallest))
        return row, Times(cell.id, time.perf_counter() - began, 0.0, 0.0)
    remembered = time.perf_counter() - began
    reading = read_probes(case.model, memory, case.scenario)
    if budget is not None and reading.active_bytes > budget:
        raise BudgetExceeded(
            f"{cell.id}: {system.name} holds {reading.active_bytes:,} bytes of cache, its budget is {budget:,}",
            "Correct the system: what it keeps is measured in front of each question.",
            smallest=reading.active_bytes,
        )
    row = dataclasses.replace(
        known,
        active_bytes=reading.active_bytes,
        at_rest={kind: int(memory.at_rest[kind]) for kind in sorted(memory.at_rest)},
        peak_bytes=memory.spent.peak,
        context_tokens=float(reading.context_tokens),
        prefilled=memory.spent.prefilled + reading.prefilled,
        generated=memory.spent.generated + reading.generated,
        # Where the cache is what was built, reading it once stands in `reading.unshared` for each probe already.
        unshared=reading.unshared + (memory.spent.prefilled if memory.live is None else 0),
        text=memory.text,
        transcript=memory.transcript,
        said=verdicts(memory, case.scenario),
        ledger=None if memory.ledger is None else {key: float(memory.ledger[key]) for key in sorted(memory.ledger)},
        answers=reading.answers,
    )
    return row, Times(cell.id, remembered, reading.first_token, reading.seconds)


def verdicts(memory: Memory, scenario: Scenario) -> dict[str, str] | None:
    """What the memory's text says of every rule; None for a memory without text."""
    if memory.text is None:
        return None
    return {rule.id: said(memory.text, rule, transcript=memory.transcript).verdict for rule in scenario.rules}


def ask_endpoint(endpoint: Endpoint, scenario: Scenario, empty: Row) -> tuple[Row, Times]:
    """The row of a server that reads the whole conversation. Its cache is its own: no bytes are known.

    Raises:
        EndpointError: a request failed for good.
    """
    asked = ask_all(endpoint, scenario)
    row = dataclasses.replace(
        empty,
        prefilled=asked.prefilled,
        generated=asked.generated,
        unshared=asked.prefilled,
        answers=asked.answers,
    )
    return row, Times(empty.id, 0.0, asked.first, asked.seconds)
