"""Processes that run cells. Each gets a scenario at a time; the parent alone writes.

Processes are spawned, never forked: torch's threads do not survive a fork. A worker that is killed costs the rows of
its scenario only; workers whose parent is killed end by themselves at their next row.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from eval.running.cell import Finished, Runner
from eval.running.endpoint import Endpoint
from eval.running.plan import Cell, Config, Task
from memkv.errors import MemkvError


class WorkerDied(MemkvError):
    """The process that ran a scenario is gone: killed, or out of memory."""


@dataclass(frozen=True)
class Setup:
    """What every worker needs to know."""

    config: Config
    endpoint: Endpoint | None = None


@dataclass(frozen=True)
class Ready:
    """A worker has loaded the model, whose fingerprint this is."""

    fingerprint: dict[str, str]


@dataclass(frozen=True)
class Note:
    """Something to tell the user."""

    text: str


@dataclass(frozen=True)
class ScenarioDone:
    """All cells of the task in hand were run."""


@dataclass(frozen=True)
class Lost:
    """Cells that a worker took with it."""

    task: Task
    cells: tuple[Cell, ...]
    error: WorkerDied


Event = Ready | Note | Finished | ScenarioDone | Lost


@dataclass
class Worker:
    """One process, its end of the pipe, and what it has in hand."""

    process: BaseProcess
    pipe: Connection
    ready: bool = False
    task: Task | None = None
    missing: dict[str, Cell] = field(default_factory=dict)

    def give(self, task: Task | None) -> None:
        """Hand over a scenario, or None to let it end."""
        self.task = task
        self.missing = {cell.id: cell for cell in task.cells} if task is not None else {}
        try:
            self.pipe.send(task)
        except OSError:
            pass  # it has just died, which its pipe will say when it is read


def run_tasks(setup: Setup, tasks: Sequence[Task], count: int) -> Generator[Event, None, None]:
    """Run every task on `count` processes; events come as they happen. Closing the iterator ends the processes.

    Raises:
        MemkvError: a worker could not load the model.
        WorkerDied: one died before it was ready, so that others would too.
    """
    waiting = list(reversed(tasks))
    workers = [start_worker(setup) for _ in range(min(count, len(tasks)))]
    try:
        while workers:
            for pipe in wait([worker.pipe for worker in workers]):
                worker = next(worker for worker in workers if worker.pipe is pipe)
                try:
                    event = worker.pipe.recv()
                except (EOFError, OSError):
                    lost = bury(worker)
                    workers.remove(worker)
                    if lost is not None:
                        yield lost
                    if waiting and lost is not None:
                        workers.append(start_worker(setup))
                    continue
                if isinstance(event, MemkvError):
                    raise event
                if isinstance(event, Finished):
                    del worker.missing[event.row.id]
                if isinstance(event, (Ready, ScenarioDone)):
                    worker.ready = True
                    worker.give(waiting.pop() if waiting else None)
                yield event
    finally:
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            worker.process.join()
            worker.pipe.close()


def bury(worker: Worker) -> Lost | None:
    """What a process that has ended took with it; None if it had nothing left to do.

    Raises:
        WorkerDied: it never became ready.
    """
    worker.process.join()
    worker.pipe.close()
    how = how_it_ended(worker.process.exitcode or 0)
    if not worker.ready:
        raise WorkerDied(
            f"A worker {how} before it had loaded the model",
            "Take fewer --workers if memory is short; what it wrote on stderr says more.",
        )
    if worker.task is None:
        return None
    error = WorkerDied(
        f"The worker {how} while it ran this scenario",
        "If memory is short take fewer --workers; then run again with --retry-failed.",
    )
    return Lost(worker.task, tuple(worker.missing.values()), error)


def how_it_ended(exitcode: int) -> str:
    """An exit status in words."""
    return f"was killed by {signal.Signals(-exitcode).name}" if exitcode < 0 else f"ended with status {exitcode}"


def start_worker(setup: Setup) -> Worker:
    """Spawn one process."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(setup, theirs), daemon=True)
    with child_settings(setup.config.threads):
        process.start()
    theirs.close()  # so that its death is seen as the end of the pipe
    return Worker(process, ours)


@contextmanager
def child_settings(threads: int) -> Iterator[None]:
    """What a child takes over at its start: OpenMP's threads, and deafness to Ctrl-C, which the parent handles."""
    names = ("OMP_NUM_THREADS", "TOKENIZERS_PARALLELISM")
    before = {name: os.environ.get(name) for name in names}
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.update(OMP_NUM_THREADS=str(threads), TOKENIZERS_PARALLELISM="false")
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def serve(setup: Setup, pipe: Connection) -> None:
    """The life of a worker: load, then take tasks and send what comes of them, until None or the parent's end."""
    try:
        runner = Runner(setup.config, setup.endpoint, notify=lambda text: pipe.send(Note(text)))
        try:
            fingerprint = runner.fingerprint()
        except MemkvError as error:
            pipe.send(error)
            return
        pipe.send(Ready(fingerprint))
        while (task := pipe.recv()) is not None:
            for finished in runner.run(task):
                pipe.send(finished)
            pipe.send(ScenarioDone())
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass  # the parent is gone, and with it whoever wanted the rows
