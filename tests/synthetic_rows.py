"""Scenarios and rows made by code, so that the right figures of an analysis are known beforehand."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from eval.rows import Answer, Failure, Row
from eval.scenarios import EXISTENCE_OPTIONS, Check, Meeting, Probe, ProbeKind, Rule, Scenario, Statement, Status, Turn

OPTIONS = ("Nine.", "Ten.", "Eleven.", "Twelve.")
Likelihoods = Callable[[Scenario, Probe], Sequence[float]]


def scenario(
    name: str,
    pair: str | None = None,
    rules: Sequence[tuple[str, Status]] = (("f/cap", "active"),),
    kinds: Sequence[ProbeKind] = ("value", "existence"),
    rounds: tuple[int, ...] = (2, 4),
) -> Scenario:
    """Two meetings of two messages; rule n is `r<n>`, said in the first message unless it is `never`."""
    made = [rule(f"r{n}", family, status) for n, (family, status) in enumerate(rules)]
    meeting = [Turn("user", "Some words about the work."), Turn("assistant", "Noted, four more words.")]
    return Scenario(
        id=name,
        pair=pair or name,
        domain="editorial",
        split="test",
        seed="1",
        meetings=(Meeting("2024-05-01", tuple(meeting)), Meeting("2024-05-03", tuple(meeting))),
        rounds=rounds,
        asked_on="2024-05-06",
        rules=tuple(made),
        probes=tuple(probe(r, kind) for r in made for kind in kinds),
    )


def rule(name: str, family: str, status: Status) -> Rule:
    """A numeric cap."""
    return Rule(
        id=name,
        family=family,
        topic="length",
        type="cap",
        status=status,
        phrasing="none" if status == "never" else "list",
        text="Nine words at most.",
        statement=Statement(about=(("words",),), value="nine", others=("ten", "eleven")),
        old_value="ten" if status == "superseded" else None,
        planted_at=None if status == "never" else (0, 0),
    )


def probe(rule: Rule, kind: ProbeKind) -> Probe:
    """The right option is the first; on superseded rules the second one is stale."""
    name = f"{rule.id}-{kind}"
    if kind == "existence":
        return Probe(name, rule.id, kind, "Is there such a rule?", EXISTENCE_OPTIONS, 0 if rule.binds else 1)
    if kind == "generate":
        return Probe(name, rule.id, kind, "Write.", (), -1, check=Check("max_words", 9), max_tokens=20)
    return Probe(name, rule.id, kind, "How many?", OPTIONS, 0, stale=1 if rule.status == "superseded" else None)


def row(
    scenario: Scenario,
    system: str,
    likelihoods: Likelihoods,
    budget: float | None = None,
    seed: int = 0,
    **fields: object,
) -> Row:
    """A row whose probes have these probabilities for their options; for `generate`, one number: 1 passes, 0 fails."""
    answers = []
    for asked in scenario.probes:
        values = likelihoods(scenario, asked)
        if asked.kind == "generate":
            answers.append(Answer(asked.id, asked.rule, asked.kind, (), values[0] > 0.5, float(values[0]), "text"))
            continue
        scores = tuple(math.log(value) for value in values)
        best = max(range(len(values)), key=lambda index: values[index])
        answers.append(
            Answer(asked.id, asked.rule, asked.kind, scores, best == asked.answer, values[asked.answer] / sum(values))
        )
    fields = {"active_bytes": 1000, "full_bytes": 4000, "at_rest": {"text": 10}} | fields
    name = f"{scenario.id}/{system}/{budget}/{seed}"
    return Row(name, scenario.id, scenario.pair, system, budget, seed, answers=tuple(answers), **fields)  # type: ignore[arg-type]


def failed(scenario: Scenario, system: str, budget: float | None = None, seed: int = 0) -> Row:
    """A row that did not fit."""
    failure = Failure("BudgetExceeded", "Does not fit", "Take more.")
    name = f"{scenario.id}/{system}/{budget}/{seed}"
    return Row(name, scenario.id, scenario.pair, system, budget, seed, failure=failure)


def knows(scenario: Scenario, probe: Probe) -> Sequence[float]:
    """Always right and rather sure."""
    if probe.kind == "generate":
        return (1.0,)
    return tuple(0.7 if index == probe.answer else 0.1 for index in range(len(probe.options)))


def forgot(scenario: Scenario, probe: Probe) -> Sequence[float]:
    """Always wrong, and says "not sure" when asked whether the rule exists."""
    if probe.kind == "generate":
        return (0.0,)
    wrong = 2 if probe.answer != 2 else 3
    return tuple(0.7 if index == wrong else 0.1 for index in range(len(probe.options)))
