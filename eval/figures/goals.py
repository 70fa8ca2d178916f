"""What was to be reached, what was, and by how much it is short: of one system of a run beside others."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eval.figures.probe_table import Answered, Asked, Kept, System, Table, screen, table
from eval.figures.statistics import Estimate, Floats, compare, means
from eval.figures.tallies import Scores, scores, texts
from eval.page.source import unpacked
from eval.running.row_file import ROWS, read_rows
from eval.running.run_folder import SCENARIOS
from eval.running.screen import SCREEN
from eval.scenarios import read_scenarios


@dataclass(frozen=True)
class Goal:
    """One line: what was to be reached, and what was.

    Attributes:
        most: `wanted` is the most that is allowed; else it is the least.
        whole: the interval has to keep to it too.
    """

    name: str
    budget: float
    wanted: float
    found: Estimate
    most: bool = False
    whole: bool = False

    @property
    def short(self) -> float | None:
        """By how much it is missed; below 0 by how much it is passed. None where there is no figure."""
        end = self.found.high if self.most else self.found.low
        counts = end if self.whole else self.found.value
        if counts is None:
            return None
        return counts - self.wanted if self.most else self.wanted - counts

    @property
    def verdict(self) -> str:
        """As it stands in the table."""
        if self.short is None:
            return self.found.reason
        equal_will_do = self.most or not self.whole  # an interval that is to lie above 0 may not touch it
        reached = self.short < 0 or (self.short == 0 and equal_will_do)
        return "reached" if reached else f"short by {self.short:.1%}"


@dataclass(frozen=True)
class Run:
    """An evaluation's rows.

    Attributes:
        asked: the questions on binding rules that nothing gives away, and `right` which system answers them rightly.
        binding: rules in force, and `says` which text says them rightly.
        others: rules said that are not in force, or never said, and `claims` which text says them all the same.
        discarded: questions that are given away.
    """

    data: Table
    asked: list[Asked]
    right: Scores
    binding: list[Kept]
    says: Scores
    others: list[Kept]
    claims: Scores
    discarded: frozenset[tuple[str, str]]

    def has(self, system: System) -> bool:
        """Whether there are rows of it."""
        return system in self.right.index

    def answers(self, system: System) -> list[Answered]:
        """Of one system."""
        return [answer for answer in self.data.answers if answer.system == system]

    def rules(self, system: System) -> list[Kept]:
        """What one system's texts say."""
        return [rule for rule in self.data.rules if rule.system == system]


def read_run(folder: Path, rounds: Collection[int] = ()) -> Run:
    """The rows of a folder, of conversations with so many compactions; of all if none are named.

    Raises:
        ConfigError: a file is missing or damaged.
        InvalidInput: rows and scenarios do not belong together.
    """
    with unpacked(folder / ROWS) as rows_file, unpacked(folder / SCENARIOS) as scenarios_file:
        scenarios = [each for each in read_scenarios(scenarios_file) if not rounds or len(each.rounds) in rounds]
        known = {scenario.id for scenario in scenarios}
        data = table([row for row in read_rows(rows_file) if row.scenario in known], scenarios)
    discarded = screen(data.answers).discarded
    systems = list(dict.fromkeys(rule.system for rule in data.rules if rule.system[0] != SCREEN))
    asked = [each for each in data.asked if each.survival and each.key not in discarded]
    right = scores(systems, asked, ((answer.system, answer.asked.key, answer.right) for answer in data.answers))
    binding, says = texts(systems, data.rules, True)
    others, claims = texts(systems, data.rules, False)
    return Run(data, asked, right, binding, says, others, claims, discarded)


def mean(found: Scores, system: System) -> Estimate:
    """Of one system."""
    return means(found.of(system)[None], found.groups)[0]


def ahead(found: Scores, ours: System, other: System) -> Estimate:
    """Ours less the other's, paired."""
    first: Floats = found.of(ours)[None]
    return compare(first, found.of(other)[None], found.groups)[0].difference


def share(flags: Sequence[bool]) -> Estimate:
    """Of all, those that are marked."""
    return Estimate(float(np.mean(flags)), n=len(flags)) if flags else Estimate(None, reason="none was there")


def as_table(found: Sequence[Goal]) -> str:
    """Markdown, one line a goal."""
    lines = ["| at | | goal | measured | |", "| --- | --- | ---: | ---: | --- |"]
    for goal in found:
        sign = "≤" if goal.most else ">" if goal.whole else "≥"
        wanted = f"{sign} {goal.wanted:.0%}"
        lines.append(f"| {goal.budget:g} | {goal.name} | {wanted} | {measured(goal.found)} | {goal.verdict} |")
    return "\n".join(lines)


def measured(found: Estimate) -> str:
    """A figure with its interval, where it has one."""
    if found.value is None:
        return ""
    within = "" if found.low is None or found.high is None else f" [{found.low:.0%}, {found.high:.0%}]"
    return f"{found.value:.1%}{within}"
