"""Rows -> `Analysis`: every figure that the report and the terminal table show, computed once.

    analysis = analyse(rows, times, scenarios)

How to read it (all plain frozen dataclasses; `Estimate` has value, low, high, error, n, reason):

- A value that is None has a `reason` to print in its place; so has an interval (`low`, `high`) that is None.
- `analysis.overall`: one `SystemRow` for each (system, budget), by name and budget; `screen` is not among them. A
  system whose rows all failed is there with `survival.value` None and its `failures`.
  - `survival`, the headline "rules surviving": share right over the probes (value, behaviour, exception, generate) on
    rules that bind, less those that neutral contexts give away. `unscreened`: the same with these.
  - `text_survival`: share of binding rules that the memory's text still says rightly; `false_rules`: share of the rules
    that do not bind (revoked, expired, scoped, quoted, injected, never said) that the text says all the same.
    None for a memory without text.
  - `twins`: share of probes right in both twins of a pair, in one seed; no fixed habit is right in both.
  - `retention`: (system - none) / (full - none); refused where the two do not separate.
  - `against["summary"]`, `against["none"]`: `Comparison` (difference, p, p_holm, detectable) on common probes at the
    same budget; `none` has no budget and serves for all. `p_holm` is corrected over all of `overall`.
  - `cost`: bytes, tokens and seconds (`eval.figures.costs.Cost`).
  - `failed` of `rows` rows; `failures`: error name -> count. Failed rows are in no score.
- `analysis.breakdowns`: one `Breakdown` a dimension (type, status, phrasing, implicit, kind, domain, rounds, passed,
  meetings, sessions, delay): cells of (level, system, budget) with survival; levels come in order. The one with metric
  "existence" has the share of existence probes right by status, rules that do not bind and never were included.
- `analysis.knowing`: one `knowing.Knowing` for each (system, budget): silent violations, confabulation and false
  denial, stale confidence, Brier and ECE, bins and risk-coverage curve to plot, AUROCs.
- `analysis.counts`, `analysis.power`, and `analysis.notes`: sentences that belong under the table.

Seeds are averaged within a probe before anything is resampled. All intervals are 95%, from `statistics`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from eval.figures.breakdowns import Breakdown, breakdowns
from eval.figures.costs import Cost, cost
from eval.figures.knowing import NOT_SURE, Knowing, knowing
from eval.figures.probe_table import Answered, Kept, Screening, System, Table, screen, table
from eval.figures.statistics import DRAWS, Comparison, Estimate, detectable, means
from eval.figures.tallies import baselines, comparisons, retention, said, scores, twins
from eval.rows import Row, Times
from eval.running.screen import SCREEN
from eval.scenarios import Scenario

FEW_PAIRS = 10


@dataclass(frozen=True)
class SystemRow:
    """One line of the overall table; see the module's docstring. `probes` are those that survival was computed from."""

    system: str
    budget: float | None
    scenarios: int
    seeds: int
    probes: int
    survival: Estimate
    unscreened: Estimate
    text_survival: Estimate
    false_rules: Estimate
    twins: Estimate
    retention: Estimate
    against: dict[str, Comparison]
    cost: Cost
    rows: int
    failed: int
    failures: dict[str, int]


@dataclass(frozen=True)
class Counts:
    """What was run.

    Attributes:
        probes: all that were asked; `survival_probes` those that count for survival, of which `discarded` were given
            away by neutral contexts.
        never_share: share of `probes` that ask about rules that never existed.
        screened: scenarios with screening rows.
        rows, failed: rows of all systems but `screen`.
    """

    scenarios: int
    pairs: int
    families: int
    probes: int
    survival_probes: int
    discarded: int
    never_share: float | None
    screened: int
    rows: int
    failed: int


@dataclass(frozen=True)
class Power:
    """What the run could have seen.

    Attributes:
        comparisons: tests in the overall table.
        detectable: smallest difference found with 80% power at 5%, the median over comparisons; `worst` the largest.
        corrected: the median, at 5% over all comparisons.
        statement: the same as a sentence; or why there is none.
    """

    comparisons: int
    detectable: float | None
    worst: float | None
    corrected: float | None
    statement: str


@dataclass(frozen=True)
class Analysis:
    """Everything; see the module's docstring."""

    counts: Counts
    overall: tuple[SystemRow, ...]
    breakdowns: tuple[Breakdown, ...]
    knowing: tuple[Knowing, ...]
    power: Power
    notes: tuple[str, ...] = ()


def analyse(
    rows: Sequence[Row], times: Iterable[Times], scenarios: Sequence[Scenario], draws: int = DRAWS, seed: int = 0
) -> Analysis:
    """The whole analysis; missing systems, failed rows and lone scenarios leave reasons, not errors.

    Raises:
        InvalidInput: rows that do not belong to `scenarios`, a row twice, a likelihood that is not finite.
    """
    # In one order, so that sums of floats come out the same to the last bit however the rows were written.
    rows = sorted(rows, key=lambda row: row.id)
    data = table(rows, scenarios)
    screening = screen(data.answers)
    own: dict[System, list[Row]] = defaultdict(list)
    for row in rows:
        if row.system != SCREEN:
            own[row.system, row.budget].append(row)
    systems = sorted(own, key=lambda key: (key[0], key[1] is not None, key[1] or 0.0))
    answers: dict[System, list[Answered]] = {system: [] for system in systems}
    for answer in data.answers:
        if answer.system in answers:
            answers[answer.system].append(answer)
    kept: dict[System, list[Kept]] = {system: [] for system in systems}
    for rule in data.rules:
        if rule.system in kept:
            kept[rule.system].append(rule)

    probes = [asked for asked in data.asked if asked.survival]
    unscreened = scores(systems, probes, ((a.system, a.asked.key, a.right) for a in data.answers))
    survival = unscreened.only([asked.key not in screening.discarded for asked in probes])
    tests = comparisons(systems, survival, draws, seed)
    by_id = {time.id: time for time in times}
    columns = zip(
        systems,
        means(survival.values, survival.groups, draws, seed),
        means(unscreened.values, unscreened.groups, draws, seed),
        said(systems, kept, True, draws, seed),
        said(systems, kept, False, draws, seed),
        twins(systems, answers, draws, seed),
        retention(systems, survival, draws, seed),
        strict=True,
    )
    overall = tuple(
        SystemRow(
            system=system[0],
            budget=system[1],
            scenarios=len({row.scenario for row in own[system] if row.failure is None}),
            seeds=len({row.seed for row in own[system]}),
            probes=survived.n,
            survival=because(survived, own[system]),
            unscreened=because(raw, own[system]),
            text_survival=text,
            false_rules=false,
            twins=twin,
            retention=kept_share,
            against={name: tests[system, name] for name in baselines(systems)},
            cost=cost(own[system], by_id),
            rows=len(own[system]),
            failed=sum(row.failure is not None for row in own[system]),
            failures=dict(sorted(Counter(row.failure.error for row in own[system] if row.failure is not None).items())),
        )
        for system, survived, raw, text, false, twin, kept_share in columns
    )
    known = tuple(knowing(s, answers[s], kept[s], screening.discarded, draws, seed) for s in systems)
    counts = count(data, screening, overall)
    return Analysis(
        counts=counts,
        overall=overall,
        breakdowns=breakdowns(systems, data, screening, draws, seed),
        knowing=known,
        power=power(list(tests.values())),
        notes=(*notes(counts, overall), *never_unsure(data.answers), *same_texts(own)),
    )


def because(value: Estimate, rows: Sequence[Row]) -> Estimate:
    """A missing score of a system whose rows all failed says so."""
    if value.value is None and all(row.failure is not None for row in rows):
        errors = ", ".join(sorted({row.failure.error for row in rows if row.failure is not None}))
        return Estimate(None, reason=f"all {len(rows)} rows failed ({errors})")
    return value


def count(data: Table, screening: Screening, overall: Sequence[SystemRow]) -> Counts:
    """What was run."""
    asked = data.asked
    return Counts(
        scenarios=len({a.scenario for a in asked}),
        pairs=len({a.pair for a in asked}),
        families=len({a.family for a in asked}),
        probes=len(asked),
        survival_probes=sum(a.survival for a in asked),
        discarded=len(screening.discarded),
        never_share=sum(a.status == "never" for a in asked) / len(asked) if asked else None,
        screened=len(screening.scenarios),
        rows=sum(row.rows for row in overall),
        failed=sum(row.failed for row in overall),
    )


def power(tests: Sequence[Comparison]) -> Power:
    """What differences the comparisons of the overall table could have found."""
    errors = [c.difference.error for c in tests if c.p is not None and c.difference.error is not None]
    if not errors:
        return Power(0, None, None, None, "No comparison has an interval, so there is no power statement.")
    usual, worst, strict = (
        detectable(median(errors)),
        detectable(max(errors)),
        detectable(median(errors), len(errors)),
    )
    statement = (
        f"A difference of {usual:.1%} (median over {len(errors)} comparisons; the worst: {worst:.1%}) would have been "
        f"found with 80% power at the 5% level; {strict:.1%} at 5% over all {len(errors)} together."
    )
    return Power(len(errors), usual, worst, strict, statement)


def notes(counts: Counts, overall: Sequence[SystemRow]) -> tuple[str, ...]:
    """What a reader of the table has to know."""
    found = []
    if counts.survival_probes and counts.screened == 0:
        found.append("No screening rows: probes that a model gets right without the rule are still in.")
    elif counts.screened < counts.scenarios:
        found.append(f"Only {counts.screened} of {counts.scenarios} scenarios were screened.")
    if counts.screened:
        found.append(
            f"{counts.discarded} of {counts.survival_probes} probes were discarded: "
            "the model is right without having seen the rule."
        )
    if counts.pairs < FEW_PAIRS:
        found.append(f"Only {counts.pairs} scenario pairs: intervals are rough.")
    if counts.failed:
        found.append(f"{counts.failed} of {counts.rows} rows failed; they are counted, not scored.")
    partly = sorted({row.system for row in overall if 0 < row.failed < row.rows})
    if partly:
        found.append(f"Scored on the scenarios in which they did not fail: {', '.join(partly)}.")
    return tuple(found)


def never_unsure(answers: Iterable[Answered]) -> tuple[str, ...]:
    """Said where no system is ever unsure: then silence says something about the reader, and nothing of a memory."""
    choices = [a.choice for a in answers if a.asked.kind == "existence" and a.system[0] != SCREEN]
    if not choices or NOT_SURE in choices:
        return ()
    return (
        f"Not one of {len(choices):,} existence probes was answered with not sure: silent violations are 100% by the "
        "reader's habit, whatever the memory.",
    )


def same_texts(own: Mapping[System, Sequence[Row]]) -> tuple[str, ...]:
    """Systems of one budget whose memories read the same everywhere: one of them has added nothing to the other."""
    groups: dict[tuple[float | None, tuple[tuple[str, int, str], ...]], list[str]] = defaultdict(list)
    for (system, budget), rows in own.items():
        texts = sorted((row.scenario, row.seed, row.text) for row in rows if row.failure is None and row.text)
        if texts:
            groups[budget, tuple(texts)].append(system)
    return tuple(
        f"{' and '.join(names)} hold the same text in all {len(texts)} rows{at_budget(budget)}: they are one memory."
        for (budget, texts), names in groups.items()
        if len(names) > 1
    )


def at_budget(budget: float | None) -> str:
    """` at 12.5%`; nothing without a budget."""
    return "" if budget is None else f" at {100 * budget:g}%"
