from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from synthetic_rows import failed, forgot, knows, row, scenario

from eval.figures.analysis import Analysis, SystemRow, analyse
from eval.rows import Row, Times
from eval.scenarios import Probe, Scenario
from memkv.errors import InvalidInput

RULES = tuple((f"f/{letter}", "active") for letter in "abcdef") + (("f/g", "never"), ("f/h", "revoked"))
TWINS = [scenario(f"s{n}{twin}", f"s{n}", RULES) for n in range(12) for twin in "ab"]


def guesses(seed: int) -> object:
    """One of four at random."""
    rng = np.random.default_rng(seed)

    def likelihoods(scenario: Scenario, probe: Probe) -> Sequence[float]:
        values = rng.random(len(probe.options))
        return list(values / values.sum())

    return likelihoods


def mixed(share: float, seed: int) -> object:
    """Knows this share, and forgot the others."""
    rng = np.random.default_rng(seed)

    def likelihoods(scenario: Scenario, probe: Probe) -> Sequence[float]:
        return (knows if rng.random() < share else forgot)(scenario, probe)

    return likelihoods


def rows_of(
    system: str, likelihoods: object, budget: float | None = None, seed: int = 0, **fields: object
) -> list[Row]:
    return [row(s, system, likelihoods, budget, seed, **fields) for s in TWINS]


def screening() -> list[Row]:
    return rows_of("screen", forgot, seed=0) + rows_of("screen", forgot, seed=1)


def of(analysis: Analysis, system: str, budget: float | None = None) -> SystemRow:
    return next(row for row in analysis.overall if (row.system, row.budget) == (system, budget))


@pytest.fixture(scope="module")
def usual() -> Analysis:
    """Ceiling, floor, a summary that keeps a third and a system that keeps two thirds."""
    rows = [
        *screening(),
        *rows_of("full", knows, active_bytes=4000),
        *rows_of("none", forgot, active_bytes=0),
        *rows_of("summary", mixed(0.3, 1), 0.25),
        *rows_of("summary", mixed(0.3, 2), 0.25, seed=1),
        *rows_of("other", mixed(0.7, 3), 0.25, active_bytes=900),
    ]
    times = [Times(r.id, 2.0, 0.5, 3.0) for r in rows]
    return analyse(rows, times, TWINS)


def test_the_table(usual: Analysis):
    assert [(r.system, r.budget) for r in usual.overall] == [
        ("full", None),
        ("none", None),
        ("other", 0.25),
        ("summary", 0.25),
    ]
    assert of(usual, "full").survival.value == 1 and of(usual, "none").survival.value == 0
    other = of(usual, "other", 0.25)
    assert other.survival.low < 0.7 < other.survival.high
    assert other.probes == 24 * 6  # six rules that bind, one value probe each
    assert of(usual, "none").cost.share == 0
    assert (other.cost.active_bytes, other.cost.share, other.cost.first_token) == (900, 0.225, 0.5)
    assert of(usual, "summary", 0.25).seeds == 2


def test_comparisons_with_both_baselines(usual: Analysis):
    against = of(usual, "other", 0.25).against
    assert against["summary"].difference.value == pytest.approx(0.4, abs=0.15)
    assert against["summary"].p < against["summary"].p_holm < 0.05
    assert against["none"].p_holm < 0.05
    assert of(usual, "summary", 0.25).against["summary"].difference.reason == "the baseline itself"
    assert "without a budget" in of(usual, "full").against["summary"].difference.reason


def test_the_trained_policy_is_a_baseline_where_it_was_run(usual: Analysis):
    assert list(of(usual, "other", 0.25).against) == ["summary", "none"]
    rows = [
        *screening(),
        *rows_of("none", forgot),
        *rows_of("hybrid", mixed(0.3, 1), 0.25),
        *rows_of("trained", mixed(0.9, 2), 0.25),
    ]
    found = analyse(rows, [], TWINS)
    behind = of(found, "hybrid", 0.25).against["trained"]
    assert behind.difference.value == pytest.approx(-0.6, abs=0.15) and behind.p_holm < 0.05
    assert of(found, "trained", 0.25).against["trained"].difference.reason == "the baseline itself"


def test_power_is_stated(usual: Analysis):
    assert usual.power.comparisons == 4
    assert 0 <= usual.power.detectable <= usual.power.corrected
    assert "80% power" in usual.power.statement


def test_retention(usual: Analysis):
    other = of(usual, "other", 0.25)
    assert other.retention.value == pytest.approx(other.survival.value)  # ceiling 1, floor 0
    assert other.retention.low < other.retention.value < other.retention.high


def test_retention_is_refused_where_ceiling_and_floor_do_not_separate():
    rows = rows_of("full", mixed(0.5, 1)) + rows_of("none", mixed(0.5, 2)) + rows_of("other", knows, 0.25)
    found = of(analyse(rows, [], TWINS), "other", 0.25).retention
    assert found.value is None and "do not separate" in found.reason


def test_retention_is_refused_where_the_interval_holds_no_difference():
    """One pair of six carries it all: 0.17 on average, and in many draws nothing."""

    def once(scenario: Scenario, probe: Probe) -> Sequence[float]:
        return (knows if scenario.pair == "s0" else forgot)(scenario, probe)

    few = TWINS[:12]
    rows = [row(s, "full", once) for s in few] + [row(s, "none", forgot) for s in few]
    found = of(analyse(rows, [], few), "full").retention
    assert found.value is None and "full - none is +0.17 [+0.00" in found.reason


def test_retention_is_refused_where_they_hardly_separate():
    """A sure difference of 0.05 everywhere: the floor is right in 19 of 20 seeds."""
    few = TWINS[:6]
    rows = [row(s, "full", knows) for s in few]
    rows += [row(s, "none", knows if seed else forgot, seed=seed) for s in few for seed in range(20)]
    found = of(analyse(rows, [], few), "full").retention
    assert found.value is None and "full - none is +0.05 [+0.05, +0.05]" in found.reason


def test_retention_needs_both_ends():
    found = of(analyse(rows_of("none", forgot) + rows_of("other", knows, 0.25), [], TWINS), "other", 0.25).retention
    assert found.value is None and found.reason == "no rows of full"


def test_a_guesser_covers_chance():
    found = of(analyse(rows_of("other", guesses(5)), [], TWINS), "other").survival
    assert found.low < 0.25 < found.high


def test_seeds_are_averaged_within_a_probe():
    rows = rows_of("other", knows, 0.25, 0) + rows_of("other", forgot, 0.25, 1) + rows_of("other", forgot, 0.25, 2)
    found = of(analyse(rows, [], TWINS), "other", 0.25)
    assert found.survival.value == pytest.approx(1 / 3)
    assert found.survival.n == 24 * 6  # not three times as many
    assert found.survival.low == found.survival.high  # every probe has the same mean: seeds add no units


def given_away(scenario: Scenario, probe: Probe) -> Sequence[float]:
    """The first two rules are guessed from nothing, with P = 0.7."""
    return (knows if probe.rule in ("r0", "r1") else forgot)(scenario, probe)


def test_screening_discards_what_is_known_without_the_rule():
    rows = rows_of("screen", given_away, seed=0) + rows_of("screen", given_away, seed=1) + rows_of("none", given_away)
    found = analyse(rows, [], TWINS)
    assert (found.counts.discarded, found.counts.survival_probes) == (48, 144)
    assert of(found, "none").survival.value == 0
    assert of(found, "none").unscreened.value == pytest.approx(2 / 6)
    assert "48 of 144" in " ".join(found.notes)


def test_screening_takes_the_mean_of_both_contexts():
    rows = rows_of("screen", given_away, seed=0) + rows_of("screen", forgot, seed=1) + rows_of("none", given_away)
    assert analyse(rows, [], TWINS).counts.discarded == 0  # 0.7 and 0.1


def test_probes_are_told_apart_by_what_the_model_does_without_the_rule():
    rows = rows_of("screen", given_away, seed=0) + rows_of("screen", forgot, seed=1) + rows_of("other", knows)
    habits = next(b for b in analyse(rows, [], TWINS).breakdowns if b.dimension == "habit")
    assert set(habits.levels) == {"wavers", "differs"}
    counts = {cell.level: cell.score.n for cell in habits.cells if cell.system == "other"}
    assert counts == {"wavers": 48, "differs": 96}
    assert all(cell.score.value == 1 for cell in habits.cells if cell.system == "other")


def test_written_answers_are_discarded_when_right_in_both_contexts():
    written = [scenario(f"w{n}", rules=RULES, kinds=("generate",)) for n in range(3)]
    for second, discarded in ((knows, 18), (forgot, 0)):
        rows = [row(s, "screen", knows) for s in written] + [row(s, "screen", second, seed=1) for s in written]
        rows += [row(s, "none", forgot) for s in written]
        assert analyse(rows, [], written).counts.discarded == discarded


def test_a_tie_is_no_choice():
    def torn(scenario: Scenario, probe: Probe) -> Sequence[float]:
        return [1.0] * len(probe.options)

    found = analyse(rows_of("other", torn), [], TWINS).knowing[0]
    assert found.confabulation.value == found.false_denial.value == 0


def test_without_screening_rows_it_is_said():
    found = analyse(rows_of("other", knows), [], TWINS)
    assert found.counts.screened == 0 and "No screening rows" in found.notes[0]


def test_failed_rows_are_counted_and_not_scored():
    """Nor is what a row had before it failed."""
    failure = failed(TWINS[0], "other").failure
    broken = [row(s, "other", forgot, 0.25, active_bytes=9999, failure=failure) for s in TWINS[::2]]
    found = analyse(broken + [row(s, "other", knows, 0.25) for s in TWINS[1::2]], [], TWINS)
    other = of(found, "other", 0.25)
    assert other.survival.value == 1 and other.probes == 12 * 6
    assert other.cost.most_active_bytes == 1000
    assert (other.rows, other.failed, other.failures) == (24, 12, {"BudgetExceeded": 12})
    assert found.counts.failed == 12


def test_a_system_that_always_failed_stays_in_the_table():
    rows = [failed(s, "other", 0.25) for s in TWINS] + rows_of("none", forgot) + rows_of("full", knows)
    found = analyse(rows, [], TWINS)
    other = of(found, "other", 0.25)
    assert other.survival.value is None and "all 24 rows failed (BudgetExceeded)" in other.survival.reason
    assert other.retention.value is None and other.against["none"].p is None
    assert other.cost.active_bytes is None


def test_text_survival_and_false_rules():
    said = {f"r{n}": "right" for n in range(4)} | {"r4": "stale", "r5": "absent", "r6": "right", "r7": "absent"}
    found = analyse(rows_of("other", knows, 0.25, said=said) + rows_of("int4", knows), [], TWINS)
    other = of(found, "other", 0.25)
    assert other.text_survival.value == pytest.approx(4 / 6)
    assert other.false_rules.value == pytest.approx(1 / 2)
    assert of(found, "int4").text_survival.value is None and "no text" in of(found, "int4").text_survival.reason


def test_a_habit_is_not_right_in_both_twins():
    def habit(scenario: Scenario, probe: Probe) -> Sequence[float]:
        return (knows if scenario.id.endswith("a") else forgot)(scenario, probe)

    found = analyse(rows_of("other", habit) + rows_of("full", knows), [], TWINS)
    assert of(found, "other").survival.value == 0.5 and of(found, "other").twins.value == 0
    assert of(found, "full").twins.value == 1
    lone = [s for s in TWINS if s.id.endswith("a")]
    alone = analyse([row(s, "full", knows) for s in lone], [], lone)
    assert of(alone, "full").twins.value is None and of(alone, "full").twins.reason


def test_breakdowns(usual: Analysis):
    by_name = {(b.dimension, b.metric): b for b in usual.breakdowns}
    assert by_name["rounds", "survival"].levels == ("2",)
    assert by_name["sessions", "survival"].levels == ("2",)  # said in the first of two, asked in a third
    status = by_name["status", "existence"]
    assert status.levels == ("active", "never", "revoked")
    full = {cell.level: cell.score for cell in status.cells if cell.system == "full"}
    assert full["never"].value == 1 and full["never"].n == 24
    types = by_name["type", "survival"]
    assert [cell.score.value for cell in types.cells if cell.system == "full"] == [1.0]


def test_levels_that_are_numbers_come_by_size():
    short, long = scenario("x", rules=RULES, rounds=(4,)), scenario("y", rules=RULES, rounds=(1, 2, 3, 4))
    longer = scenario("z", rules=RULES, rounds=(1, 2, 4))
    found = analyse([row(s, "other", knows) for s in (long, longer, short)], [], [long, longer, short])
    assert next(b for b in found.breakdowns if b.dimension == "rounds").levels == ("1", "3", "4")


def test_a_reader_that_is_never_unsure_is_named(usual: Analysis):
    assert not any("not sure" in note for note in usual.notes)  # `forgot` says it
    found = analyse(rows_of("other", knows) + rows_of("screen", forgot), [], TWINS)
    assert "Not one of 192 existence probes" in found.notes[-1]


def test_two_systems_that_keep_the_same_text_are_named():
    texts = {"memory file": "Noted.", "recency": "Noted.", "summary": "Rules."}
    rows = [r for name, text in texts.items() for r in rows_of(name, forgot, 0.25, text=text)]
    found = analyse(rows + rows_of("recency", forgot, 0.5, text="Noted.") + rows_of("int4", knows), [], TWINS)
    said = [note for note in found.notes if "same text" in note]
    assert said == ["memory file and recency hold the same text in all 24 rows at 25%: they are one memory."]


def test_the_bytes_of_a_server_are_unknown_and_not_none_at_all():
    found = of(analyse(rows_of("endpoint:m", knows, active_bytes=None, at_rest={}), [], TWINS), "endpoint:m").cost
    assert found.at_rest is None and found.peak_bytes is None and found.context_tokens is None
    assert of(analyse(rows_of("none", forgot, active_bytes=0, at_rest={}), [], TWINS), "none").cost.at_rest == 0


def test_counts(usual: Analysis):
    counts = usual.counts
    assert (counts.scenarios, counts.pairs, counts.families, counts.rows) == (24, 12, 8, 24 * 5)
    assert counts.never_share == pytest.approx(1 / 8)
    assert len(usual.knowing) == len(usual.overall)


def test_one_scenario_gives_figures_without_intervals():
    rows = [row(TWINS[0], system, knows) for system in ("full", "none", "other")]
    found = analyse(rows, [], TWINS)
    other = of(found, "other")
    assert other.survival.value == 1 and other.survival.low is None and "one scenario pair" in other.survival.reason
    assert other.retention.value is None and other.against["none"].p_holm is None
    assert found.power.detectable is None and "no power statement" in found.power.statement
    assert found.counts.scenarios == 1


def test_no_rows_at_all():
    found = analyse([], [], TWINS)
    assert found.overall == () and found.counts.never_share is None


def test_the_order_of_rows_changes_nothing():
    rows = rows_of("full", knows) + rows_of("none", forgot) + rows_of("other", mixed(0.5, 1), 0.25)
    assert analyse(rows, [], TWINS) == analyse(rows[::-1], [], TWINS)


@pytest.mark.parametrize("damage", ["scenario", "probe", "twice", "nan", "planted"])
def test_rows_that_do_not_fit_are_named(damage: str):
    good, scenarios = row(TWINS[0], "other", knows), TWINS
    rows = [good]
    if damage == "scenario":
        rows = [replace(good, scenario="elsewhere")]
    elif damage == "probe":
        rows = [replace(good, answers=(replace(good.answers[0], probe="r9-value"),))]
    elif damage == "twice":
        rows = [good, good]
    elif damage == "nan":
        rows = [replace(good, answers=(replace(good.answers[0], scores=(math.nan, 0.0, 0.0, 0.0)),))]
    else:
        rule = replace(TWINS[0].rules[0], planted_at=(7, 0))
        scenarios = [replace(TWINS[0], rules=(rule, *TWINS[0].rules[1:]))]
    with pytest.raises(InvalidInput, match="r0" if damage == "planted" else "s0a/other"):
        analyse(rows, [], scenarios)
