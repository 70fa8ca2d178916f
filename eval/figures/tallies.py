"""Systems side by side on the same units: seeds averaged; means, differences and retention with their intervals."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from eval.figures.probe_table import Answered, Asked, Kept, ProbeKey, System
from eval.figures.statistics import Comparison, Estimate, Floats, Groups, compare, corrected, draws_for, means, ratios
from eval.scorers import is_claimed, is_kept

Name = TypeVar("Name")

NONE, FULL, SUMMARY = "none", "full", "summary"
POLICY = "trained"
# Below this, ceiling and floor are too close for their ratio to mean anything.
LEAST_SEPARATION = 0.1


@dataclass(frozen=True)
class Scores:
    """One number for each system (K rows) and unit (U columns), seeds averaged; NaN where there is none."""

    values: Floats
    groups: Groups
    index: Mapping[System, int] = field(default_factory=dict)

    def of(self, system: System) -> Floats:
        """The row of one system (U,)."""
        return self.values[self.index[system]]

    def only(self, keep: Sequence[bool]) -> Scores:
        """The units that are marked."""
        columns = np.flatnonzero(np.asarray(keep, dtype=bool))
        pairs, families = np.asarray(self.groups.pairs), np.asarray(self.groups.families)
        groups = Groups(pairs[columns].tolist(), families[columns].tolist())
        return Scores(self.values[:, columns], groups, self.index)


def scores(
    systems: Sequence[System], units: Sequence[Asked], found: Iterable[tuple[System, ProbeKey, float]]
) -> Scores:
    """Seeds averaged within a probe."""
    groups = Groups([asked.pair for asked in units], [asked.family for asked in units])
    return fill(numbered(systems), numbered(asked.key for asked in units), found, groups)


def fill(
    row: Mapping[System, int],
    column: Mapping[tuple[str, str], int],
    found: Iterable[tuple[System, tuple[str, str], float]],
    groups: Groups,
) -> Scores:
    """Means of what was found for each system and unit; what is about others is passed over."""
    sums, n = np.zeros((len(row), len(column))), np.zeros((len(row), len(column)))
    for system, key, value in found:
        if system in row and key in column:
            sums[row[system], column[key]] += value
            n[row[system], column[key]] += 1
    return Scores(np.where(n > 0, sums / np.maximum(n, 1), np.nan), groups, row)


def said(
    systems: Sequence[System], kept: Mapping[System, Sequence[Kept]], binding: bool, draws: int, seed: int
) -> list[Estimate]:
    """Per system: share of binding rules that its text says rightly, or of the others that it says at all."""
    _, found = texts(systems, [rule for rules in kept.values() for rule in rules], binding)
    reason = "no text to read" if binding else "no text to read, or no rule that does not bind"
    return [explained(value, reason) for value in means(found.values, found.groups, draws, seed)]


def texts(systems: Sequence[System], rules: Iterable[Kept], binding: bool) -> tuple[list[Kept], Scores]:
    """Binding rules and whether each text says them rightly; or the others, and whether it says them at all."""
    judged = [rule for rule in rules if rule.binds == binding and rule.verdict is not None]
    facts = {(rule.scenario, rule.rule): rule for rule in judged}
    groups = Groups([rule.pair for rule in facts.values()], [rule.family for rule in facts.values()])
    flags = (
        (rule.system, (rule.scenario, rule.rule), (is_kept if binding else is_claimed)(rule.verdict or ""))
        for rule in judged
    )
    return list(facts.values()), fill(numbered(systems), numbered(facts), flags, groups)


def twins(
    systems: Sequence[System], answers: Mapping[System, Sequence[Answered]], draws: int, seed: int
) -> list[Estimate]:
    """Per system: share of (pair, probe) right in all twins at once; seeds apart, then averaged."""
    members: dict[ProbeKey, set[str]] = defaultdict(set)
    facts: dict[ProbeKey, Asked] = {}
    right: dict[tuple[System, ProbeKey, int], list[bool]] = defaultdict(list)
    for system in systems:
        for answer in answers[system]:
            if answer.asked.survival:
                key = (answer.asked.pair, answer.asked.probe)
                members[key].add(answer.asked.scenario)
                facts[key] = answer.asked
                right[system, key, answer.seed].append(answer.right)
    units = numbered(key for key in facts if len(members[key]) > 1)
    groups = Groups([facts[key].pair for key in units], [facts[key].family for key in units])
    both = (
        (system, key, all(flags))
        for (system, key, _), flags in right.items()
        if key in units and len(flags) == len(members[key])
    )
    found = fill(numbered(systems), units, both, groups)
    return [
        explained(value, "no pair of twins was answered") for value in means(found.values, found.groups, draws, seed)
    ]


def numbered(names: Iterable[Name]) -> dict[Name, int]:
    """Name -> its place."""
    return {name: index for index, name in enumerate(names)}


def explained(value: Estimate, reason: str) -> Estimate:
    """The estimate; without a value, with this reason."""
    return value if value.value is not None else Estimate(None, reason=reason)


def retention(systems: Sequence[System], survival: Scores, draws: int, seed: int) -> list[Estimate]:
    """(system - none) / (full - none) on the probes that all three answered, or the reason to refuse it."""
    missing = [name for name in (FULL, NONE) if (name, None) not in survival.index]
    if missing:
        return [Estimate(None, reason=f"no rows of {' and '.join(missing)}") for _ in systems]
    floor, ceiling = survival.of((NONE, None)), survival.of((FULL, None))
    lead = survival.values - floor
    span = np.where(np.isfinite(lead), ceiling - floor, np.nan)
    found, spans = ratios(lead, span, survival.groups, draws, seed), means(span, survival.groups, draws, seed)
    return [refused(share, separation) for share, separation in zip(found, spans, strict=True)]


def refused(share: Estimate, span: Estimate) -> Estimate:
    """The retention, unless ceiling and floor do not separate."""
    if span.value is None:
        return Estimate(None, reason="no probe was answered with full, none and this system")
    if span.low is None or span.high is None:
        return Estimate(None, n=span.n, reason=f"full - none is {span.value:+.2f}, without an interval ({span.reason})")
    if span.low <= 0 or span.value < LEAST_SEPARATION:
        known = f"{span.value:+.2f} [{span.low:+.2f}, {span.high:+.2f}]"
        return Estimate(None, n=span.n, reason=f"ceiling and floor do not separate: full - none is {known}")
    return share


def baselines(systems: Sequence[System]) -> tuple[str, ...]:
    """What every system is compared with: the prompted summary, no memory, and the trained policy if it was run."""
    return (SUMMARY, NONE, *([POLICY] if any(name == POLICY for name, _ in systems) else []))


def comparisons(
    systems: Sequence[System], survival: Scores, draws: int, seed: int
) -> dict[tuple[System, str], Comparison]:
    """Every system against the baselines at its budget, p-values corrected over all of them."""
    found: dict[tuple[System, str], Comparison] = {}
    wanted: list[tuple[System, str, System]] = []
    names = baselines(systems)
    for system in systems:
        for name in names:
            baseline = (name, None if name == NONE else system[1])
            if system[0] == name:
                found[system, name] = Comparison(Estimate(None, reason="the baseline itself"))
            elif baseline not in survival.index:
                where = "" if name == NONE else " at this budget" if system[1] is not None else " without a budget"
                found[system, name] = Comparison(Estimate(None, reason=f"no rows of {name}{where}"))
            else:
                wanted.append((system, name, baseline))
    if wanted:
        first = np.stack([survival.of(system) for system, _, _ in wanted])
        second = np.stack([survival.of(baseline) for _, _, baseline in wanted])
        tests = corrected(compare(first, second, survival.groups, max(draws, draws_for(len(wanted))), seed))
        found |= {(system, name): test for (system, name, _), test in zip(wanted, tests, strict=True)}
    return found
