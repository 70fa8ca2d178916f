"""Rows and scenarios as two flat tables: what was answered to each probe, and what each text says of each rule.

Also the screen: probes that the model gets right without having seen the rule, which say nothing about memory.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from eval.rows import Answer, Row
from eval.running.screen import SCREEN
from eval.scenarios import Probe, Rule, Scenario
from eval.scorers import parse_letter, softmax
from memkv.errors import InvalidInput

SURVIVAL_KINDS = ("value", "behaviour", "exception", "generate")
# A probe is discarded when neutral contexts give its right option more than this on average.
GIVEN_AWAY = 0.5
# What the model does without the rule: comply in every neutral context, in some, or in none.
HABITS = ("complies anyway", "wavers", "differs")

System = tuple[str, float | None]
ProbeKey = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a scenario says about one probe.

    Attributes:
        rounds: compactions of the whole conversation.
        passed: compactions since the rule was said last; 0 if it never was.
        meetings: sessions of the conversation; `sessions` of them began after the rule was said, that of asking too.
        delay: words of the conversation after the rule was said.
    """

    scenario: str
    pair: str
    domain: str
    probe: str
    rule: str
    family: str
    type: str
    status: str
    phrasing: str
    implicit: bool
    binds: bool
    kind: str
    rounds: int
    passed: int
    meetings: int
    sessions: int
    delay: int
    stale: int | None

    @property
    def key(self) -> ProbeKey:
        """Scenario and probe."""
        return (self.scenario, self.probe)

    @property
    def survival(self) -> bool:
        """Whether it counts for rules surviving."""
        return self.binds and self.kind in SURVIVAL_KINDS


@dataclass(frozen=True, slots=True)
class Answered:
    """One probe in one row.

    Attributes:
        right, probability: as in the row.
        probabilities: softmax of the options' scores; empty for written answers.
        choice: index of the likeliest option, or of the one whose letter was written; None for a tie or no letter.
    """

    asked: Asked
    row: str
    system: System
    seed: int
    right: bool
    probability: float
    probabilities: tuple[float, ...]
    choice: int | None


@dataclass(frozen=True, slots=True)
class Kept:
    """One rule in one row.

    Attributes:
        verdict: one of `eval.rows.SAID`; None where the memory has no text.
        declared: probability that it survived, by the system's own ledger; None without one.
    """

    scenario: str
    pair: str
    rule: str
    family: str
    status: str
    binds: bool
    row: str
    system: System
    seed: int
    verdict: str | None
    declared: float | None


@dataclass(frozen=True)
class Table:
    """All that was asked, in the order of scenarios; and what the rows that did not fail have on it."""

    asked: tuple[Asked, ...]
    answers: tuple[Answered, ...]
    rules: tuple[Kept, ...]


@dataclass(frozen=True)
class Screening:
    """Which probes are given away by themselves.

    Attributes:
        discarded: probes that count for survival and are not used.
        habits: probe -> one of HABITS. Where compliance "differs" from the model's default, only the rule helps.
        scenarios: those that were screened at all.
    """

    discarded: frozenset[ProbeKey]
    habits: dict[ProbeKey, str]
    scenarios: frozenset[str]


def table(rows: Sequence[Row], scenarios: Sequence[Scenario]) -> Table:
    """Both tables; only scenarios that occur in `rows` are in them.

    Raises:
        InvalidInput: a row of another scenario file, a row twice, a likelihood that is not finite.
    """
    by_id = {scenario.id: scenario for scenario in scenarios}
    occurring = {row.scenario for row in rows}
    asked = {s.id: {p.id: ask(s, p) for p in s.probes} for s in scenarios if s.id in occurring}
    answers: list[Answered] = []
    rules: list[Kept] = []
    seen: set[str] = set()
    for row in rows:
        if row.id in seen:
            raise InvalidInput(f"The row {row.id} is there twice", "Run again with another --out, or drop one.")
        seen.add(row.id)
        if row.scenario not in by_id:
            raise InvalidInput(
                f"The row {row.id} is about a scenario that is not in the file", "Use the run's own scenarios.jsonl."
            )
        if row.failure is not None:
            continue
        scenario = by_id[row.scenario]
        answers.extend(answered(row, answer, asked[row.scenario], scenario) for answer in row.answers)
        rules.extend(kept(row, rule, scenario) for rule in scenario.rules)
    flat = tuple(entry for probes in asked.values() for entry in probes.values())
    return Table(flat, tuple(answers), tuple(rules))


def ask(scenario: Scenario, probe: Probe) -> Asked:
    """What is fixed about a probe before anybody answers it."""
    rule = scenario.rule[probe.rule]
    at = position(scenario, rule)
    return Asked(
        scenario=scenario.id,
        pair=scenario.pair,
        domain=scenario.domain,
        probe=probe.id,
        rule=rule.id,
        family=rule.family,
        type=rule.type,
        status=rule.status,
        phrasing=rule.phrasing,
        implicit=rule.implicit,
        binds=rule.binds,
        kind=probe.kind,
        rounds=len(scenario.rounds),
        passed=0 if at is None else sum(end > at for end in scenario.rounds),
        meetings=len(scenario.meetings),
        sessions=0 if rule.planted_at is None else len(scenario.meetings) - rule.planted_at[0],
        delay=0 if at is None else sum(len(turn.text.split()) for turn in scenario.turns[at + 1 :]),
        stale=probe.stale,
    )


def position(scenario: Scenario, rule: Rule) -> int | None:
    """Index, over all sessions, of the message in which the rule was said last."""
    if rule.planted_at is None:
        return None
    session, message = rule.planted_at
    if not (0 <= session < len(scenario.meetings) and 0 <= message < len(scenario.meetings[session].turns)):
        raise InvalidInput(
            f"Rule {rule.id!r} of {scenario.id} was planted at {rule.planted_at}, where there is no message",
            "planted_at is [session, message], both counted from 0.",
        )
    return sum(len(meeting.turns) for meeting in scenario.meetings[:session]) + message


def answered(row: Row, answer: Answer, asked: dict[str, Asked], scenario: Scenario) -> Answered:
    """One answer with the probe's facts."""
    if answer.probe not in asked:
        raise InvalidInput(
            f"The row {row.id} answers {answer.probe!r}, which its scenario does not ask",
            "Use the run's own scenarios.",
        )
    probabilities = softmax(answer.scores, f"{row.id} {answer.probe}") if answer.scores else ()
    if probabilities:
        highest = max(probabilities)
        choice: int | None = probabilities.index(highest) if probabilities.count(highest) == 1 else None
    else:
        options = next(len(probe.options) for probe in scenario.probes if probe.id == answer.probe)
        choice = parse_letter(answer.written, options) if answer.written and options else None
    return Answered(
        asked[answer.probe],
        row.id,
        (row.system, row.budget),
        row.seed,
        answer.right,
        answer.probability,
        probabilities,
        choice,
    )


def kept(row: Row, rule: Rule, scenario: Scenario) -> Kept:
    """One rule with what the row's text and ledger say of it."""
    return Kept(
        scenario=scenario.id,
        pair=scenario.pair,
        rule=rule.id,
        family=rule.family,
        status=rule.status,
        binds=rule.binds,
        row=row.id,
        system=(row.system, row.budget),
        seed=row.seed,
        verdict=None if row.said is None else row.said.get(rule.id),
        declared=None if row.ledger is None else row.ledger.get(rule.id),
    )


def screen(answers: Iterable[Answered]) -> Screening:
    """Discard what the model knows, or complies with, without having seen the rule.

    Measured in neutral contexts (the rows of the system `screen`, one a seed). Scored probes: the right option has more
    than half of the probability, on average over the contexts. Written ones: right in every context. A mere preference
    for one option is no knowledge, and the probe's twin, whose answer is another, makes up for it.
    """
    by_probe: dict[ProbeKey, list[Answered]] = defaultdict(list)
    for answer in answers:
        if answer.system[0] == SCREEN:
            by_probe[answer.asked.key].append(answer)
    given_away = {
        key
        for key, found in by_probe.items()
        if found[0].asked.survival
        and (
            fmean(answer.probability for answer in found) > GIVEN_AWAY
            if all(answer.probabilities for answer in found)
            else all(answer.right for answer in found)
        )
    }
    habits = {key: habit([answer.right for answer in found]) for key, found in by_probe.items()}
    return Screening(frozenset(given_away), habits, frozenset(scenario for scenario, _ in by_probe))


def habit(right: Sequence[bool]) -> str:
    """One of HABITS, from whether the model was right in each neutral context."""
    always, wavers, never = HABITS
    return always if all(right) else wavers if any(right) else never
