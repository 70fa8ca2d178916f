"""What a run consists of: its configuration (strict YAML), its scenarios, and its cells in their fixed order."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.generate import DOMAINS
from eval.generate import Config as Generate
from eval.generate import scenarios as generate
from eval.running.endpoint import ENDPOINT
from eval.running.screen import CONTEXTS, SCREEN
from eval.scenarios import Scenario, read_scenarios
from eval.systems import system
from eval.systems.base import System
from eval.systems.compact_function import CompactFunction
from memkv.config import load_yaml
from memkv.embedded import EMBEDDED
from memkv.errors import ConfigError

# In front of `module:function`, as the name of a system.
COMPACT = "compact:"

DTYPES = ("float32", "bfloat16", "float16")
SPLITS = ("train", "dev", "test")


@dataclass(frozen=True)
class SystemPlan:
    """One system and how it is run.

    Attributes:
        name: one of `eval.systems.SYSTEMS`, `compact:module:function` or `endpoint:model`.
        budgets: shares of the full conversation's measured live cache; None runs it once, without a limit.
        seeds: how many (0, 1, ...); more than one only for what is sampled.
    """

    name: str
    budgets: tuple[float, ...] | None = None
    seeds: int = 1


@dataclass(frozen=True)
class Config:
    """A run.

    Attributes:
        systems: in the order in which they are run.
        model: `smollm2-135m`, a local folder or a hub id.
        dtype: float32, bfloat16 or float16.
        device: where the model is, as torch names it.
        split: train, dev or test: which template families.
        scenarios: how many are generated; twins count as two, so an even number.
        seed: of the generator; a sealed one is taken from MEMKV_SEALED_SEED.
        generate: what they are like: tokens, rounds, rules, never, probes, domains.
        threads: of torch in each worker; fixed, because sums in another order give other rows.
    """

    systems: tuple[SystemPlan, ...]
    model: str = EMBEDDED
    dtype: str = "bfloat16"
    device: str = "cpu"
    split: str = "dev"
    scenarios: int = 8
    seed: int = 0
    generate: Generate = Generate()
    threads: int = 1


@dataclass(frozen=True)
class Cell:
    """One row to be: a scenario, a system, a budget and a seed."""

    scenario: str
    system: str
    budget: float | None
    seed: int

    @property
    def id(self) -> str:
        """The row's id; `-` stands for no budget."""
        return f"{self.scenario}/{self.system}/{'-' if self.budget is None else f'{self.budget:g}'}/{self.seed}"


@dataclass(frozen=True)
class Task:
    """One scenario and its cells that are still to be run: what a worker is given at a time."""

    scenario: Scenario
    cells: tuple[Cell, ...]


def load_config(path: str | Path) -> Config:
    """A configuration file.

    Raises:
        ConfigError: unreadable, an unknown key, or a value that makes no sense.
    """
    config = load_yaml(Config, path)
    entries: Sequence[Any] = config.systems if isinstance(config.systems, tuple) else ()
    if not all(isinstance(entry, SystemPlan) for entry in entries) or not isinstance(config.systems, tuple):
        raise ConfigError(f"{path}: systems is no list of mappings", "Write `systems:` and lines `- {name: none}`.")
    return config


def with_own(config: Config, compact: str | None, endpoint_model: str | None) -> Config:
    """The configuration with the systems of the command line behind its own.

    Raises:
        ConfigError: a compact function, but no budget anywhere in the configuration.
    """
    added = []
    if compact is not None:
        budgets = sorted({budget for plan in config.systems for budget in plan.budgets or ()})
        if not budgets:
            raise ConfigError("--compact needs budgets, and no system of the configuration has one", "Add `budgets`.")
        added.append(SystemPlan(COMPACT + compact, tuple(budgets)))
    if endpoint_model is not None:
        added.append(SystemPlan(ENDPOINT + endpoint_model))
    return dataclasses.replace(config, systems=(*config.systems, *added))


def make_system(name: str) -> System:
    """The system behind a name of a plan.

    Raises:
        ConfigError: there is none, or its module or function is not there.
    """
    return CompactFunction(name.removeprefix(COMPACT)) if name.startswith(COMPACT) else system(name)


def check_config(config: Config) -> None:
    """Refuse what cannot be run, before anything is.

    Raises:
        ConfigError: the message names the key.
    """
    for name in ("scenarios", "threads"):
        if getattr(config, name) < 1:
            raise ConfigError(f"{name} is {getattr(config, name)}", "Give a number of at least 1.")
    if config.dtype not in DTYPES:
        raise ConfigError(f"dtype is {config.dtype!r}", f"One of {', '.join(DTYPES)}.")
    if config.split not in SPLITS:
        raise ConfigError(f"split is {config.split!r}", f"One of {', '.join(SPLITS)}.")
    domains = config.generate.domains
    if not isinstance(domains, tuple) or not domains or not set(domains) <= set(DOMAINS):
        raise ConfigError(f"generate.domains is {domains!r}", f"A list of some of {', '.join(DOMAINS)}.")
    if not config.systems:
        raise ConfigError("The configuration names no system", "Add one to `systems`, or give --endpoint or --compact.")
    names = [plan.name for plan in config.systems]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"The system {twice[0]!r} stands there twice", "Put all its budgets into one entry.")
    for plan in config.systems:
        check_system(plan)


def check_system(plan: SystemPlan) -> None:
    """Refuse budgets and seeds that do not fit the system.

    Raises:
        ConfigError: the message names it.
    """
    budgets = plan.budgets
    if budgets is not None and (not isinstance(budgets, tuple) or not budgets or not all(map(is_share, budgets))):
        raise ConfigError(f"{plan.name}: budgets is {budgets!r}", "A list of shares above 0 and at most 1, or null.")
    if len(set(budgets or ())) != len(budgets or ()) or plan.seeds < 1:
        raise ConfigError(f"{plan.name}: a budget twice, or no seed", "Each budget once; seeds of at least 1.")
    if plan.name.startswith(ENDPOINT):
        if budgets is not None:
            raise ConfigError(f"{plan.name}: a server takes no budget of cache bytes", "Leave `budgets` out.")
        return
    found = make_system(plan.name)
    if budgets is not None and not found.budgeted:
        raise ConfigError(f"{plan.name} takes what it takes: no budget holds it", "Leave `budgets` out.")
    if plan.seeds > 1 and not found.sampled:
        raise ConfigError(f"{plan.name} samples nothing, so each seed gives the same row", "Leave `seeds` out.")


def is_share(value: object) -> bool:
    """Whether it is a share of the full cache."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= 1


def cells(config: Config, scenario: str) -> Iterator[Cell]:
    """Everything that is run on one scenario. The contexts without a rule come first: they are always run."""
    for seed in range(len(CONTEXTS)):
        yield Cell(scenario, SCREEN, None, seed)
    for plan in config.systems:
        for budget in (None,) if plan.budgets is None else plan.budgets:
            for seed in range(plan.seeds):
                yield Cell(scenario, plan.name, budget, seed)


def tasks(config: Config, scenarios: Sequence[Scenario], done: frozenset[str] = frozenset()) -> list[Task]:
    """What is left to do, one task a scenario; ids of rows in `done` are left out."""
    planned = [Task(s, tuple(cell for cell in cells(config, s.id) if cell.id not in done)) for s in scenarios]
    return [task for task in planned if task.cells]


def load_scenarios(config: Config, file: Path | None, limit: int | None) -> list[Scenario]:
    """The scenarios of a file, or those that the configuration generates; the first `limit` of them.

    Raises:
        ConfigError: a file that is no scenario file, a limit below 1, or a configuration that cannot be generated.
    """
    if limit is not None and limit < 1:
        raise ConfigError(f"--limit is {limit}", "Give a number of at least 1.")
    return list(itertools.islice(read_scenarios(file) if file is not None else generated(config), limit))


def generated(config: Config) -> Iterator[Scenario]:
    """The scenarios that the configuration describes.

    Raises:
        ConfigError: too few families for so many rules, or another value that cannot be.
    """
    return generate(config.split, config.scenarios, config.seed, config.generate)
