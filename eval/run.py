"""`python -m eval.run`: every scenario, system, budget and seed of a configuration, one row each, then the report.

May be interrupted at any time and goes on where it stopped when the same command is given again. Rows are the same
whatever the number of workers, their order, or the number of sittings.
"""

from __future__ import annotations

import contextlib
import re
import sys
import time
from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from eval.rows import Times
from eval.running.cell import Finished, Runner, empty_row, failed
from eval.running.endpoint import Endpoint, check_endpoint
from eval.running.plan import Config, Task, cells, check_config, load_config, load_scenarios, tasks, with_own
from eval.running.progress import Meter, duration
from eval.running.provenance import cores
from eval.running.run_folder import RunFolder, failures, open_folder
from eval.running.workers import Event, Lost, Note, Ready, ScenarioDone, Setup, run_tasks
from eval.scenarios import Scenario
from eval.systems.base import Case
from memkv.errors import ConfigError, MemkvError

RUNS = Path("build/eval")
INTERRUPTED = 130  # what shells expect of a process ended by Ctrl-C


@dataclass(frozen=True)
class Options:
    """How many rules survive: run a configuration and report on it.

    Attributes:
        config: YAML file of the run, as configs/quick.yaml.
        out: folder for rows and report; by default one under build/eval that is named after the options.
        workers: processes; by default as many as cores, and one for a model that is not on the CPU.
        scenarios: your own scenarios (JSON Lines, see eval/README.md) instead of generated ones.
        limit: only the first N scenarios.
        compact: also score your function, `module:function`, as `compact(messages, budget_bytes) -> messages`.
        endpoint: also ask an OpenAI-compatible server, as http://localhost:8000/v1; key in OPENAI_API_KEY.
        endpoint_model: the model's name there.
        endpoint_timeout: seconds for one request.
        ray: run over a Ray cluster at this address; `local` starts one here.
        retry_failed: run failed rows again.
        dry_run: print what would be run and how long it takes, and stop.
    """

    config: Path
    out: Path | None = None
    workers: int | None = None
    scenarios: Path | None = None
    limit: int | None = None
    compact: str | None = None
    endpoint: str | None = None
    endpoint_model: str | None = None
    endpoint_timeout: float = 60.0
    ray: str | None = None
    retry_failed: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    dry_run: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, run, report, and exit: 0, 1 after failed rows or a wrong command, 130 after Ctrl-C."""
    options = tyro.cli(Options, prog="python -m eval.run", args=arguments)
    notices = Console(stderr=True)
    try:
        if options.dry_run:
            dry_run(options)
            sys.exit(0)
        folder, status = execute(options, notices)
        from eval.report import show  # here: workers import this module too, and need no scikit-learn

        show(folder)
        sys.exit(status)
    except MemkvError as error:
        notices.print(f"{type(error).__name__}: {error}", markup=False, highlight=False, soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def execute(options: Options, notices: Console) -> tuple[Path, int]:
    """Run every row that is not there yet. Returns the folder and the exit status.

    Raises:
        MemkvError: nothing could be run: a wrong configuration, scenario file, folder or model.
        KeyboardInterrupt: the rows so far are kept, and the user was told how to go on.
    """
    config, scenarios = prepare(options)
    path = default_folder(options)
    count = worker_count(options, config)
    with open_folder(path, config, scenarios, count) as folder:
        warn_of_other_commit(folder, notices)
        left = tasks(config, scenarios, folder.done(options.retry_failed))
        kept = sum(1 for scenario in scenarios for _ in cells(config, scenario.id)) - sum(len(t.cells) for t in left)
        notices.print(plan_line(left, kept, count, path), markup=False, highlight=False, soft_wrap=True)
        planned = frozenset(cell.id for scenario in scenarios for cell in cells(config, scenario.id))
        with Meter(sum(len(task.cells) for task in left), len(left), kept, notices) as meter:
            try:
                with contextlib.closing(start(options, Setup(config, endpoint_of(options)), left, count)) as events:
                    for event in events:
                        take(event, folder, meter)
            except KeyboardInterrupt:
                meter.say(f"Stopped. {len(folder.rows.records)} rows are kept; the same command goes on from there.")
                raise
            finally:
                folder.finish(meter.seconds, planned)
        account(folder, meter, notices)
        return path, 1 if failures(list(folder.rows.records.values())) else 0


def prepare(options: Options) -> tuple[Config, list[Scenario]]:
    """The checked configuration and its scenarios.

    Raises:
        ConfigError: an option, the configuration or the scenario file is wrong.
    """
    check_endpoint(options.endpoint, options.endpoint_model)
    if options.workers is not None and options.workers < 1:
        raise ConfigError(f"--workers is {options.workers}", "Give a number of at least 1.")
    config = with_own(load_config(options.config), options.compact, options.endpoint_model)
    check_config(config)
    return config, load_scenarios(config, options.scenarios, options.limit)


def start(options: Options, setup: Setup, left: Sequence[Task], count: int) -> Generator[Event, None, None]:
    """The workers' events, from processes here or from a Ray cluster."""
    if options.ray is not None:
        from eval.running.ray_workers import run_tasks_on_ray

        return run_tasks_on_ray(setup, left, count, options.ray)
    return run_tasks(setup, left, count)


def take(event: Event, folder: RunFolder, meter: Meter) -> None:
    """Keep what a worker sent."""
    if isinstance(event, Finished):
        folder.keep(event)
        meter.row()
    elif isinstance(event, Lost):
        for cell in event.cells:
            row = failed(empty_row(event.task.scenario, cell), event.error)
            folder.keep(Finished(row, Times(cell.id, 0.0, 0.0, 0.0)))
        meter.row(len(event.cells))
        meter.scenario()
        meter.say(f"{event.task.scenario.id}: {event.error.message}; {len(event.cells)} rows are lost")
    elif isinstance(event, ScenarioDone):
        meter.scenario()
    elif isinstance(event, Ready):
        folder.know_model(event.fingerprint)
        meter.ready()
    elif isinstance(event, Note):
        meter.say(event.text)


def worker_count(options: Options, config: Config) -> int:
    """Processes: as told, or as many as keep the cores busy; an accelerator is not shared unasked."""
    if options.workers is not None:
        return options.workers
    return max(1, cores() // config.threads) if config.device == "cpu" else 1


def endpoint_of(options: Options) -> Endpoint | None:
    """The server of the command line."""
    if options.endpoint is None or options.endpoint_model is None:
        return None
    return Endpoint(options.endpoint, options.endpoint_model, options.endpoint_timeout)


def default_name(options: Options) -> str:
    """A folder name that tells runs with different rows apart: `quick`, `quick-limit-2`, `quick-my_module.compact`."""
    own = None if options.scenarios is None else options.scenarios.stem
    limit = None if options.limit is None else f"limit-{options.limit}"
    parts = [options.config.stem, own, limit, options.compact, options.endpoint_model]
    return "-".join(re.sub(r"[^\w.-]+", ".", part) for part in parts if part)


def plan_line(left: Sequence[Task], kept: int, count: int, path: Path) -> str:
    """What is about to happen, in one line."""
    rows = sum(len(task.cells) for task in left)
    there = f" ({kept} are there already)" if kept else ""
    return f"{rows} rows of {len(left)} scenarios to run{there}, {count} worker{'s' * (count != 1)}, into {path}"


def warn_of_other_commit(folder: RunFolder, notices: Console) -> None:
    """Say it when rows of one folder come from different states of the code."""
    commits = [part["commit"] for part in folder.run["parts"]]
    if folder.rows.records and any(commit != commits[-1] for commit in commits):
        notices.print(
            "Warning: some rows here were made by another commit of this code. Take another --out to have all anew.",
            soft_wrap=True,
        )


def account(folder: RunFolder, meter: Meter, notices: Console) -> None:
    """Speed, what sharing saved, and what failed."""
    totals = folder.run["totals"]
    print(f"{meter.done} rows in {duration(meter.seconds)}: {60 * meter.done / max(meter.seconds, 1e-9):.1f} a minute")
    if totals["sharing_ratio"]:
        print(
            f"Tokens read: {totals['prefilled']:,}; had each probe been answered from scratch: {totals['unshared']:,} "
            f"({totals['sharing_ratio']:.1f} x)"
        )
    if totals["do_not_fit"]:
        print(f"{totals['do_not_fit']} rows have no answers because their system cannot be as small as its budget.")
    broken = failures(list(folder.rows.records.values()))
    for error, count in Counter(row.failure.error for row in broken if row.failure is not None).most_common():
        example = next(row for row in broken if row.failure is not None and row.failure.error == error)
        assert example.failure is not None
        notices.print(
            f"{count} rows failed: {error}. For one, {example.id}: {example.failure.message}. "
            f"{example.failure.next_step}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )


def dry_run(options: Options) -> None:
    """Print scenarios, rows and an estimate that comes from reading the first scenario here and now."""
    config, scenarios = prepare(options)
    count = worker_count(options, config)
    rows = [cell for scenario in scenarios for cell in cells(config, scenario.id)]
    words = sum(len(turn.text.split()) for scenario in scenarios for turn in scenario.turns)
    probes = sum(len(scenario.probes) for scenario in scenarios)
    print(f"{len(scenarios)} scenarios: {words:,} words, {probes} probes")
    for plan in config.systems:
        budgets = "no budget" if plan.budgets is None else "budgets " + ", ".join(f"{b:g}" for b in plan.budgets)
        print(f"  {plan.name}: {budgets}, {plan.seeds} seed{'s' * (plan.seeds != 1)}")
    print(f"{len(rows)} rows, two of each scenario for probes that need no rule; folder {default_folder(options)}")
    seconds = estimate(config, scenarios) / min(count, len(scenarios))
    print(f"About {duration(seconds)} with {count} workers for reading alone; systems that write take longer.")


def default_folder(options: Options) -> Path:
    """Where the rows go."""
    return options.out or RUNS / default_name(options)


def estimate(config: Config, scenarios: Sequence[Scenario]) -> float:
    """Seconds of one worker: reading the first conversation and its probes is timed, and the rest scaled by words."""
    runner = Runner(config)
    case = Case(runner.model, scenarios[0])
    began = time.perf_counter()
    case.full_bytes  # noqa: B018 - read here, once
    reading = time.perf_counter() - began
    began = time.perf_counter()
    runner.run_cell(case, next(cells(config, scenarios[0].id)))
    probing = time.perf_counter() - began
    shares = [1.0 if cell.budget is None else cell.budget for cell in cells(config, scenarios[0].id)]
    scale = sum(len(turn.text) for s in scenarios for turn in s.turns) / sum(len(t.text) for t in scenarios[0].turns)
    return scale * (reading + sum(share * reading + probing for share in shares))


if __name__ == "__main__":
    main()
