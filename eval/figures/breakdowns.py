"""Scores by what is asked about: type of rule, status, wording, delay, and so on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from eval.figures.probe_table import Asked, Screening, System, Table
from eval.figures.statistics import Estimate, means
from eval.figures.tallies import Scores, scores

# Upper ends, in words said after the rule.
DELAYS = (300, 1_000, 3_000, 10_000)


@dataclass(frozen=True)
class Cell:
    """One system at one budget on the probes of one level."""

    level: str
    system: str
    budget: float | None
    score: Estimate


@dataclass(frozen=True)
class Breakdown:
    """Survival (screened) or existence probes right, by the levels of one dimension."""

    dimension: str
    metric: str
    levels: tuple[str, ...]
    cells: tuple[Cell, ...]


def delay_level(words: int) -> str:
    """The range of delays that this many words fall into."""
    for low, high in zip((0, *DELAYS[:-1]), DELAYS, strict=True):
        if words < high:
            return f"{low:,}-{high:,} words"
    return f"{DELAYS[-1]:,} words or more"


# Dimension -> (what levels are ordered by, level).
DIMENSIONS: dict[str, Callable[[Asked], tuple[int, str]]] = {
    "type": lambda a: (0, a.type),
    "status": lambda a: (0, a.status),
    "phrasing": lambda a: (0, a.phrasing),
    "implicit": lambda a: (0, "implicit" if a.implicit else "explicit"),
    "kind": lambda a: (0, a.kind),
    "domain": lambda a: (0, a.domain),
    "rounds": lambda a: (a.rounds, str(a.rounds)),
    "passed": lambda a: (a.passed, str(a.passed)),
    "meetings": lambda a: (a.meetings, str(a.meetings)),
    "sessions": lambda a: (a.sessions, str(a.sessions)),
    "delay": lambda a: (a.delay, delay_level(a.delay)),
}


def breakdowns(
    systems: Sequence[System], data: Table, screening: Screening, draws: int, seed: int
) -> tuple[Breakdown, ...]:
    """Survival by every dimension, then by the model's habit, then existence probes right by status."""
    probes = [asked for asked in data.asked if asked.survival and asked.key not in screening.discarded]
    existence = [asked for asked in data.asked if asked.kind == "existence"]
    flags = [(answer.system, answer.asked.key, float(answer.right)) for answer in data.answers]
    survival, right = scores(systems, probes, flags), scores(systems, existence, flags)
    found = [
        breakdown(name, "survival", [place(asked) for asked in probes], systems, survival, draws, seed)
        for name, place in DIMENSIONS.items()
    ]
    if screening.scenarios:
        habits = [screening.habits.get(asked.key, "not screened") for asked in probes]
        found.append(breakdown("habit", "survival", [(0, name) for name in habits], systems, survival, draws, seed))
    statuses = [DIMENSIONS["status"](asked) for asked in existence]
    return (*found, breakdown("status", "existence", statuses, systems, right, draws, seed))


def breakdown(
    dimension: str,
    metric: str,
    placed: Sequence[tuple[int, str]],
    systems: Sequence[System],
    table: Scores,
    draws: int,
    seed: int,
) -> Breakdown:
    """Scores by level; `placed` are (order, level) of the probes of `table`. Each level is resampled by itself."""
    # By order first: numbers by size, delays by length, words by alphabet.
    levels = tuple(dict.fromkeys(level for _, level in sorted(placed)))
    cells = []
    for level in levels:
        part = table.only([name == level for _, name in placed])
        found = means(part.values, part.groups, draws, seed)
        cells += [Cell(level, *system, score) for system, score in zip(systems, found, strict=True)]
    return Breakdown(dimension, metric, levels, tuple(cells))
