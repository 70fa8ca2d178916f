"""The same scenarios over the machines of a Ray cluster (`pip install 'memkv[ray]'`); imported with --ray alone.

Each machine needs this repository, the packages of requirements.lock and, for the embedded model, its wheel.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Sequence
from typing import Any

from eval.running.cell import Finished, Runner
from eval.running.plan import Task
from eval.running.workers import Event, Lost, Ready, ScenarioDone, Setup, WorkerDied
from memkv.errors import ConfigError, MemkvError

try:
    import ray
except ImportError as error:
    raise ConfigError("--ray needs the package ray", "Run `pip install 'memkv[ray]'`, or leave --ray out.") from error

LOCAL = "local"


class RayWorker:
    """An actor: loads the model once, then runs a scenario a call."""

    def __init__(self, setup: Setup) -> None:
        self._runner = Runner(setup.config, setup.endpoint)

    def fingerprint(self) -> dict[str, str] | tuple[str, str]:
        """The model's; or message and next step where it cannot be loaded."""
        try:
            return self._runner.fingerprint()
        except MemkvError as error:
            return error.message, error.next_step

    def run(self, task: Task) -> list[Finished]:
        """All rows of one scenario."""
        return list(self._runner.run(task))


def run_tasks_on_ray(setup: Setup, tasks: Sequence[Task], count: int, address: str) -> Generator[Event, None, None]:
    """As `eval.running.workers.run_tasks`, with `count` actors of `config.threads` cores each.

    Raises:
        ConfigError: no cluster at that address.
        MemkvError: an actor could not load the model.
    """
    if not tasks:
        return
    path = ":".join(filter(None, sys.path))
    environment = {"PYTHONPATH": path, "OMP_NUM_THREADS": str(setup.config.threads)}
    try:
        ray.init(
            address=None if address == LOCAL else address,
            num_cpus=count * setup.config.threads if address == LOCAL else None,
            include_dashboard=False,
            log_to_driver=False,
            runtime_env={"env_vars": environment},
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ConfigError(f"No Ray cluster at {address!r}: {error}", f"Start one, or give --ray {LOCAL}.") from error
    try:
        yield from run_actors(setup, tasks, min(count, len(tasks)))
    finally:
        ray.shutdown()


def run_actors(setup: Setup, tasks: Sequence[Task], count: int) -> Generator[Event, None, None]:
    """Give every actor a scenario at a time.

    Raises:
        MemkvError: an actor could not load the model, or died before.
    """
    make = ray.remote(RayWorker).options(num_cpus=setup.config.threads)
    waiting = list(reversed(tasks))
    running: dict[Any, tuple[Any, Task]] = {}
    for _ in range(count):
        actor, ready = load(make, setup)
        yield ready
        task = waiting.pop()
        running[actor.run.remote(task)] = (actor, task)
    while running:
        (reference, *_), _ = ray.wait(list(running))
        actor, task = running.pop(reference)
        try:
            finished = ray.get(reference)
        except ray.exceptions.RayError as error:
            died = WorkerDied(
                f"The Ray worker died while it ran this scenario ({type(error).__name__})",
                "If memory is short take fewer --workers; then run again with --retry-failed.",
            )
            yield Lost(task, task.cells, died)
            if waiting:
                actor, ready = load(make, setup)
                yield ready
        else:
            yield from finished
            yield ScenarioDone()
        if waiting:
            task = waiting.pop()
            running[actor.run.remote(task)] = (actor, task)


def load(make: Any, setup: Setup) -> tuple[Any, Ready]:
    """A new actor that has loaded the model.

    Raises:
        WorkerDied: it could not.
    """
    actor = make.remote(setup)
    try:
        answer = ray.get(actor.fingerprint.remote())
    except ray.exceptions.RayError as error:
        raise WorkerDied(f"A Ray worker died while loading ({type(error).__name__})", "See its log.") from error
    if isinstance(answer, tuple):
        raise MemkvError(*answer)
    return actor, Ready(answer)
