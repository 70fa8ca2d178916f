from __future__ import annotations

import numpy as np
import pytest

from eval.figures.statistics import Groups, compare, detectable, draws_for, holm, means, p_value, ratios

PAIRS, FAMILIES = 20, 12


def crossed(pairs: int = PAIRS, families: int = FAMILIES, each: int = 1) -> Groups:
    return Groups(
        [f"p{p}" for p in range(pairs) for _ in range(families * each)],
        [f"f{f}" for _ in range(pairs) for f in range(families) for _ in range(each)],
    )


def simulated(rng: np.random.Generator, spread: float) -> np.ndarray:
    """Scores with a shared part a pair and a shared part a family, mean 0.5: (1, PAIRS * FAMILIES)."""
    pair = rng.normal(0, spread, (PAIRS, 1))
    family = rng.normal(0, spread, (1, FAMILIES))
    return (0.5 + pair + family + rng.normal(0, 0.2, (PAIRS, FAMILIES))).reshape(1, -1)


def covers(values: np.ndarray, groups: Groups, seed: int) -> bool:
    found = means(values, groups, draws=400, seed=seed)[0]
    assert found.low is not None and found.high is not None
    return found.low <= 0.5 <= found.high


def test_the_interval_covers_the_truth_and_one_without_clusters_does_not():
    rng = np.random.default_rng(7)
    alone = Groups([str(n) for n in range(PAIRS * FAMILIES)], ["all"] * (PAIRS * FAMILIES))
    runs = [simulated(rng, 0.15) for _ in range(150)]
    pairs_only = Groups(crossed().pairs, ["all"] * (PAIRS * FAMILIES))
    ways = (crossed(), pairs_only, alone)
    rates = [np.mean([covers(values, groups, n) for n, values in enumerate(runs)]) for groups in ways]
    assert 0.92 <= rates[0] < 1  # nominal: 0.95
    assert rates[1] < 0.87  # families matter, too
    assert rates[2] < 0.6


def test_without_clusters_in_the_data_it_is_not_too_short():
    rng = np.random.default_rng(8)
    assert np.mean([covers(simulated(rng, 0.0), crossed(), n) for n in range(100)]) >= 0.95


def test_clustering_widens_the_interval():
    by_pair = np.repeat(np.tile([0.0, 1.0], PAIRS // 2), FAMILIES)[None]
    alone = Groups([str(n) for n in range(by_pair.size)], ["all"] * by_pair.size)
    clustered, naive = means(by_pair, crossed())[0], means(by_pair, alone)[0]
    assert clustered.value == naive.value == 0.5
    assert clustered.error > 2.5 * naive.error  # sqrt(12) times, 12 probes saying the same thing


def test_a_guesser_covers_chance_and_does_not_beat_another_guesser():
    rng = np.random.default_rng(3)
    guesses = (rng.random((2, PAIRS * FAMILIES)) < 0.25).astype(float)
    found = means(guesses[:1], crossed())[0]
    assert found.low < 0.25 < found.high
    assert compare(guesses[:1], guesses[1:], crossed())[0].p > 0.05


def test_differences_are_paired():
    rng = np.random.default_rng(4)
    hard = simulated(rng, 0.3)
    found = compare(hard + 0.05, hard, crossed())[0]
    assert found.difference.value == pytest.approx(0.05)
    assert found.difference.error == pytest.approx(0, abs=1e-9)  # the spread of probes is in both and cancels
    assert found.p == pytest.approx(2 / 2001)


def test_equal_systems_do_not_differ():
    values = simulated(np.random.default_rng(5), 0.1)
    found = compare(values, values, crossed())[0]
    assert (found.difference.value, found.difference.low, found.difference.high, found.p) == (0, 0, 0, 1)


def test_only_units_that_both_have_are_compared():
    first, second = np.full((1, PAIRS * FAMILIES), 1.0), np.zeros((1, PAIRS * FAMILIES))
    first[0, :100], second[0, 200:] = np.nan, np.nan
    assert compare(first, second, crossed())[0].difference.n == 100


def test_the_order_of_units_does_not_matter():
    values, groups = simulated(np.random.default_rng(6), 0.1), crossed()
    order = np.random.default_rng(1).permutation(values.size)
    shuffled = Groups([groups.pairs[n] for n in order], [groups.families[n] for n in order])
    one, other = means(values, groups)[0], means(values[:, order], shuffled)[0]
    assert (one.low, one.high) == pytest.approx((other.low, other.high))


def test_the_same_seed_gives_the_same_interval():
    values = simulated(np.random.default_rng(6), 0.1)
    assert means(values, crossed(), seed=1) == means(values, crossed(), seed=1)
    assert means(values, crossed(), seed=1) != means(values, crossed(), seed=2)


@pytest.mark.parametrize(("pairs", "families", "reason"), [(1, 5, "one scenario pair"), (0, 0, "nothing was measured")])
def test_too_little_gives_a_reason(pairs: int, families: int, reason: str):
    found = means(np.ones((1, pairs * families)), crossed(pairs, families))[0]
    assert found.low is None and reason in found.reason


def test_a_system_without_answers_gives_a_reason_beside_one_with():
    values = np.stack([np.ones(PAIRS * FAMILIES), np.full(PAIRS * FAMILIES, np.nan)])
    full, empty = means(values, crossed())
    assert full.value == 1.0 and full.n == PAIRS * FAMILIES
    assert empty.value is None and empty.n == 0 and empty.reason


def test_a_ratio_over_nothing_is_refused():
    zeros = np.zeros((1, PAIRS * FAMILIES))
    found = ratios(zeros + 1, zeros, crossed())[0]
    assert found.value is None and "divide" in found.reason


def test_one_family_is_no_obstacle():
    found = means(np.tile([0.0, 1.0], 10)[None], crossed(20, 1))[0]
    assert found.low < 0.5 < found.high


def test_holm_by_hand():
    # 0.005 * 4, 0.01 * 3, then 0.03 * 2, and 0.04 * 1 raised to the one before it.
    assert holm([0.01, 0.04, None, 0.03, 0.005]) == pytest.approx([0.03, 0.06, None, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_draws_are_enough_for_holm():
    for cells in (1, 10, 60):
        assert 2 / (draws_for(cells) + 1) * cells <= 0.01


def test_p_value_is_two_sided():
    sample = np.concatenate([np.full(95, 1.0), np.full(5, -1.0)])
    assert p_value(sample) == p_value(-sample) == pytest.approx(2 * 6 / 101)


def test_the_power_statement_holds():
    """A true difference of just that size is found in about 80 of 100 runs."""
    error, rng = 0.05, np.random.default_rng(2)
    size = detectable(error)
    assert size == pytest.approx(2.802 * error, rel=1e-3)
    found = np.abs(rng.normal(size, error, 20_000) / error) > 1.96
    assert found.mean() == pytest.approx(0.8, abs=0.01)
    assert detectable(error, 20) > size
    assert detectable(None) is None
