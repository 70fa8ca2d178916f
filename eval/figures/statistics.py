"""Intervals, tests and power for scores of the same probes under several systems.

Answers about one conversation hang together, and so do answers about one kind of rule. So pairs of twin scenarios and
template families are resampled, each with replacement and independently, and a probe weighs the product of both counts:
the pigeonhole bootstrap (Owen 2007, "The pigeonhole bootstrap", Annals of Applied Statistics 1(2); with Brennan's
naive one as its special case of a single factor). For two crossed factors its variance is never too small in
expectation. It is too large where neither factor matters: a probe's own noise counts three times, so intervals are up
to 1.7 times too long, p-values too high, and the power statement too modest (1.36 times with 50 pairs, 60 families and
standard deviations of 0.15 and 0.1 between them). All systems get the same draws, so differences are paired by probe.

Arrays are (K, U): K systems or cells of a table, U units (probes, rules, answers); NaN where a system has no answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

DRAWS = 2_000
LEVEL = 0.95
POWER = 0.8
# So many draws a cell that even the smallest p-value a bootstrap can give, times the number of cells, is 0.005.
DRAWS_A_CELL, MOST_DRAWS = 400, 100_000
CHUNK = 500
# Sums of thirds leave noise behind; what is smaller than this is no difference.
DECIMALS = 12


@dataclass(frozen=True)
class Estimate:
    """A figure with what is known about it.

    Attributes:
        value: None where there is nothing to compute it from; `reason` says why.
        low, high: 95% percentile interval; None where there is none, `reason` says why.
        error: bootstrap standard error.
        n: units it was computed from.
        reason: why value or interval are missing; else empty.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    error: float | None = None
    n: int = 0
    reason: str = ""


@dataclass(frozen=True)
class Comparison:
    """One system minus another on the probes that both answered.

    Attributes:
        p: two-sided bootstrap p-value of "no difference"; None without an interval.
        p_holm: the same after Holm's correction over all cells of the table.
        detectable: smallest true difference that would have been found with 80% power at 5%, before correction.
    """

    difference: Estimate
    p: float | None = None
    p_holm: float | None = None
    detectable: float | None = None


@dataclass(frozen=True)
class Groups:
    """The two crossed factors, one entry a unit: shapes (U,)."""

    pairs: Sequence[str]
    families: Sequence[str]


def means(values: Floats, groups: Groups, draws: int = DRAWS, seed: int = 0) -> list[Estimate]:
    """Mean over units with a value, per row of `values` (K, U)."""
    return ratios(values, np.ones_like(values), groups, draws, seed)


def ratios(top: Floats, bottom: Floats, groups: Groups, draws: int = DRAWS, seed: int = 0) -> list[Estimate]:
    """Sum of `top` over sum of `bottom`, per row; both (K, U), NaN in either where a unit does not take part."""
    return [estimate for estimate, _ in resampled(top, bottom, groups, draws, seed)]


def compare(first: Floats, second: Floats, groups: Groups, draws: int = DRAWS, seed: int = 0) -> list[Comparison]:
    """Mean of `first - second` over the units that both have, per row; p-values are not corrected yet."""
    differences = first - second
    found = resampled(differences, np.ones_like(differences), groups, draws, seed)
    return [Comparison(e, p_value(sample), detectable=detectable(e.error)) for e, sample in found]


def draws_for(cells: int) -> int:
    """Draws that leave p-values fine enough for Holm's correction over so many cells."""
    return min(max(DRAWS, DRAWS_A_CELL * cells), MOST_DRAWS)


def resampled(top: Floats, bottom: Floats, groups: Groups, draws: int, seed: int) -> list[tuple[Estimate, Floats]]:
    """Per row: the ratio with its interval, and its bootstrap draws (empty where there is no interval)."""
    if not top.size:
        return [(Estimate(None, reason="nothing was measured"), np.empty(0)) for _ in top]
    present = np.isfinite(top) & np.isfinite(bottom)
    used = present.any(axis=0)
    pairs = np.unique(np.asarray(groups.pairs)[used], return_inverse=True)[1]
    families = np.unique(np.asarray(groups.families)[used], return_inverse=True)[1]
    present = present[:, used]
    top, bottom = np.where(present, top[:, used], 0.0), np.where(present, bottom[:, used], 0.0)
    # Units are summed by cell first, so that a draw costs as many steps as there are cells.
    cells, where = np.unique(np.stack([pairs, families]), axis=1, return_inverse=True)
    where = where.ravel()
    sums = np.concatenate([sum_by(top, where, cells.shape[1]), sum_by(bottom, where, cells.shape[1])])
    samples = pigeonhole(sums, cells, draws, seed) if cells.size else np.zeros((len(sums), 0))
    found = []
    for k, (numerators, denominators) in enumerate(zip(*np.split(samples, 2), strict=True)):
        valid = denominators != 0
        sample = np.round(numerators[valid] / denominators[valid], DECIMALS)
        n, clusters = int(present[k].sum()), len(np.unique(pairs[present[k]]))
        value = estimate(top[k].sum(), bottom[k].sum(), n, clusters, sample)
        found.append((value, sample if value.low is not None else np.empty(0)))
    return found


def sum_by(values: Floats, where: NDArray[np.int64], count: int) -> Floats:
    """Sums of columns by cell: (K, U) -> (K, count)."""
    return np.stack([np.bincount(where, weights=row, minlength=count) for row in values])


def pigeonhole(sums: Floats, cells: NDArray[np.int64], draws: int, seed: int) -> Floats:
    """Resampled totals, (K, draws), of cell sums (K, M) whose pair and family codes are `cells` (2, M)."""
    rng = np.random.default_rng(seed)
    totals = []
    for start in range(0, draws, CHUNK):
        size = min(CHUNK, draws - start)
        weights = multinomial(rng, cells[0].max() + 1, size)[:, cells[0]]
        # A single family would be drawn once every time: then only pairs are resampled.
        weights *= multinomial(rng, cells[1].max() + 1, size)[:, cells[1]]
        totals.append(sums @ weights.T)
    return np.concatenate(totals, axis=1)


def multinomial(rng: np.random.Generator, count: int, draws: int) -> Floats:
    """How often each of `count` groups comes when as many are drawn with replacement: (draws, count)."""
    picked = rng.integers(0, count, size=(draws, count)) + np.arange(draws)[:, None] * count
    return np.bincount(picked.ravel(), minlength=draws * count).reshape(draws, count).astype(float)


def estimate(top: float, bottom: float, n: int, pairs: int, sample: Floats) -> Estimate:
    """One ratio with its percentile interval, or the reason why there is none."""
    if bottom == 0:
        return Estimate(None, n=n, reason="nothing was measured" if n == 0 else "the difference to divide by is 0")
    value = float(top / bottom)
    if pairs < 2:
        return Estimate(value, n=n, reason="one scenario pair: nothing to resample")
    if len(sample) < 100:
        return Estimate(value, n=n, reason="too few draws hold any of these probes")
    low, high = np.quantile(sample, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(value, float(low), float(high), float(sample.std(ddof=1)), n)


def p_value(sample: Floats) -> float | None:
    """Two-sided, from the share of draws beyond 0; never exactly 0 (Davison & Hinkley 1997, section 4.2.2)."""
    if not len(sample):
        return None
    fewer = min((sample <= 0).sum(), (sample >= 0).sum())
    return float(min(1.0, 2 * (fewer + 1) / (len(sample) + 1)))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjusted p-values (Holm 1979, "A simple sequentially rejective multiple test procedure"); None stays None."""
    known = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, index) in enumerate(known):
        highest = max(highest, min(1.0, p * (len(known) - rank)))
        adjusted[index] = highest
    return adjusted


def corrected(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons of one table with `p_holm`."""
    adjusted = holm([comparison.p for comparison in comparisons])
    return [replace(c, p_holm=p) for c, p in zip(comparisons, adjusted, strict=True)]


def detectable(error: float | None, cells: int = 1) -> float | None:
    """Smallest difference found with 80% power at 5% (two-sided, normal), given its standard error.

    Args:
        error: bootstrap standard error of the difference; None gives None.
        cells: with more than one, the level is 5% over all of them (Bonferroni, the worst case of Holm's procedure).
    """
    if error is None:
        return None
    normal = NormalDist()
    return (normal.inv_cdf(1 - (1 - LEVEL) / (2 * cells)) + normal.inv_cdf(POWER)) * error
