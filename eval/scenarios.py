"""Scenarios: long conversations with planted rules, and questions that only somebody who kept the rules can answer.

One scenario is one JSON object on one line of a `.jsonl` file; `read_scenarios` is strict (an unknown field is an error
that names the line and the field). Scenarios come in twin pairs: the same conversation with other values, so that what
complies in one does not in the other, and no fixed habit of a model can be right in both.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from memkv.errors import ConfigError
from memkv.turns import Message

Domain = Literal["editorial", "planning", "customer", "coding", "own"]
Split = Literal["train", "practice", "dev", "test", "own"]
RuleType = Literal[
    "prohibition", "obligation", "conditional", "cap", "format", "order", "authority", "preference", "expiring"
]
# `never` was not said at all; a `superseded` rule binds by its new value.
Status = Literal["active", "superseded", "revoked", "expired", "scoped", "quoted", "injected", "never"]
BINDING: frozenset[Status] = frozenset({"active", "superseded"})  # on the day of asking
Phrasing = Literal["list", "passing", "correction", "pasted", "none"]
ProbeKind = Literal["value", "behaviour", "exception", "existence", "generate"]
Polarity = Literal["do", "do not"]

EXISTENCE_OPTIONS = ("Yes.", "No.", "Not sure.")


@dataclass(frozen=True)
class Statement:
    """What a text must say for a rule to be in it; `eval.prose.said` reads it out of prose.

    Attributes:
        about: groups of words. A sentence is about the rule if it holds a word of every group (inflected forms count).
        value: the value that binds.
        others: values that would be wrong, near misses of the right one.
        polarity: whether the value is to be done or to be avoided.
        exception: words of the exception, of which one must stand beside the rule; empty for a rule without one.
        other_exceptions: words of exceptions that would be wrong; a text that lists them too has not kept the rule.
    """

    about: tuple[tuple[str, ...], ...]
    value: str
    others: tuple[str, ...]
    polarity: Polarity = "do"
    exception: tuple[str, ...] = ()
    other_exceptions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rule:
    """One rule of a scenario, planted or never said.

    Attributes:
        id: unique in its scenario.
        family: template family that it was made from.
        topic: completes "a rule about ...".
        text: the rule as one sentence, with the value that was said last; also for rules that were never said.
        statement: how it is recognised in text.
        old_value: the value it had before it was superseded.
        planted_at: (session, message) where it was said last; None if never.
        implicit: worded without any of the usual words of rules.
    """

    id: str
    family: str
    topic: str
    type: RuleType
    status: Status
    phrasing: Phrasing
    text: str
    statement: Statement
    old_value: str | None = None
    planted_at: tuple[int, int] | None = None
    implicit: bool = False

    @property
    def binds(self) -> bool:
        """Whether it holds for the user on the day of asking."""
        return self.status in BINDING


@dataclass(frozen=True)
class Check:
    """A check of a generated answer by code; `eval.scorers.complies` runs it.

    Attributes:
        value: the word, sign or number that it looks for.
        others: near misses; an answer that contains one of them too complies with nothing (`contains` only).
    """

    kind: Literal[
        "starts_with",
        "ends_with",
        "contains",
        "lacks",
        "max_words",
        "max_sentences",
        "lowercase",
        "uppercase",
        "bullets",
    ]
    value: str | int | None = None
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class Probe:
    """One question, asked after the conversation.

    `value`: the exact value among near misses. `behaviour`: the compliant action among others, the rule not named.
    `exception`: what to do in the case that the rule excepts. `existence`: is there such a rule in force (the options
    are EXISTENCE_OPTIONS). `generate`: the answer is written and `check`ed by code; `options` are empty.

    Attributes:
        id: unique in its scenario, and equal in both twins.
        rule: id of the rule asked about.
        answer: index of the right option; -1 for `generate`.
        stale: index of the option with the superseded value, if there is one.
        max_tokens: most tokens of a written answer.
    """

    id: str
    rule: str
    kind: ProbeKind
    question: str
    options: tuple[str, ...]
    answer: int
    stale: int | None = None
    check: Check | None = None
    max_tokens: int = 0


@dataclass(frozen=True)
class Turn:
    """One message."""

    role: Literal["system", "user", "assistant"]
    text: str


@dataclass(frozen=True)
class Meeting:
    """One session: its day (ISO date) and what was said. Starts with the user, ends with the assistant."""

    date: str
    turns: tuple[Turn, ...]


@dataclass(frozen=True)
class Scenario:
    """A conversation of one or more sessions, its rules, and the probes asked at its end.

    Attributes:
        id: unique in its file.
        pair: shared by twins; statistics cluster by it.
        meetings: the sessions in order.
        rounds: numbers of turns (over all sessions, from the start) after which memory is compacted; the last is the
            whole conversation.
        asked_on: the day of asking (ISO date); the probes come in a new session.
        seed: what it was generated from, or `sealed:` and a hash of a seed that was not written down.
    """

    id: str
    pair: str
    domain: Domain
    split: Split
    seed: str
    meetings: tuple[Meeting, ...]
    rounds: tuple[int, ...]
    asked_on: str
    rules: tuple[Rule, ...]
    probes: tuple[Probe, ...]

    @cached_property
    def turns(self) -> tuple[Turn, ...]:
        """All messages of all sessions, in order."""
        return tuple(turn for meeting in self.meetings for turn in meeting.turns)

    @cached_property
    def chunks(self) -> tuple[tuple[Turn, ...], ...]:
        """The messages between compactions, in order."""
        starts = (0, *self.rounds[:-1])
        return tuple(self.turns[start:end] for start, end in zip(starts, self.rounds, strict=True))

    @cached_property
    def rule(self) -> dict[str, Rule]:
        """Rules by id."""
        return {rule.id: rule for rule in self.rules}


def to_message(turn: Turn) -> Message:
    """As the chat format takes it."""
    return Message(role=turn.role, content=turn.text)


def write_scenarios(path: str | Path, scenarios: Iterable[Scenario]) -> int:
    """Write one JSON object a line; returns how many."""
    count = 0
    with open(path, "w", encoding="utf-8") as file:
        for scenario in scenarios:
            file.write(to_line(scenario) + "\n")
            count += 1
    return count


def to_line(scenario: Scenario) -> str:
    """One line of JSON."""
    return json.dumps(dataclasses.asdict(scenario), ensure_ascii=False, separators=(",", ":"))


def read_scenarios(path: str | Path) -> Iterator[Scenario]:
    """Scenarios of a `.jsonl` file, each checked.

    Raises:
        ConfigError: unreadable file, bad JSON, an unknown or missing field, a value that makes no sense; the message
            names line and field.
    """
    try:
        # Not splitlines(), which also cuts at the line separators that JSON leaves inside a text (U+2028, U+0085).
        lines = Path(path).read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"Cannot read {path}: {error}", "Check the path; a scenario file is JSON Lines.") from error
    seen: set[str] = set()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            data = json.loads(line)
        except json.JSONDecodeError as error:
            raise ConfigError(f"{where}: {error}", "One JSON object a line.") from error
        scenario = build(Scenario, data, where)
        check(scenario, where)
        if scenario.id in seen:
            raise ConfigError(f"{where}: the id {scenario.id!r} was used before", "Give each scenario its own id.")
        seen.add(scenario.id)
        yield scenario
    if not seen:
        raise ConfigError(f"{path} holds no scenario", "See eval/README.md for the format.")


def build(hint: Any, data: Any, where: str) -> Any:
    """`data` as the type `hint`: dataclasses from objects, tuples from lists, literals checked.

    Raises:
        ConfigError: it does not fit; `where` tells the place.
    """
    if dataclasses.is_dataclass(hint):
        return build_dataclass(hint, data, where)
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Literal:
        return expect(data in parts, data, where, " or ".join(map(repr, parts)))
    if origin is tuple:
        expect(isinstance(data, list), data, where, "a list")
        if parts[-1] is Ellipsis:
            return tuple(build(parts[0], item, f"{where}[{index}]") for index, item in enumerate(data))
        expect(len(data) == len(parts), data, where, f"a list of {len(parts)}")
        return tuple(
            build(part, item, f"{where}[{index}]") for index, (part, item) in enumerate(zip(parts, data, strict=True))
        )
    if origin is UnionType:
        if data is None and type(None) in parts:
            return None
        inner = [part for part in parts if part is not type(None)]
        if len(inner) == 1:
            return build(inner[0], data, where)
        return expect(type(data) in inner, data, where, " or ".join(part.__name__ for part in inner))
    return expect(type(data) is hint, data, where, f"a {hint.__name__}")


def build_dataclass(hint: Any, data: Any, where: str) -> Any:
    """An object of the dataclass `hint`.

    Raises:
        ConfigError: unknown or missing fields, or values that do not fit.
    """
    expect(isinstance(data, Mapping), data, where, "an object")
    fields = {field.name: field for field in dataclasses.fields(hint)}
    unknown = sorted(set(data) - set(fields))
    if unknown:
        raise ConfigError(f"{where}: unknown field {unknown[0]!r}", f"Known fields: {', '.join(fields)}.")
    missing = [n for n, f in fields.items() if n not in data and f.default is dataclasses.MISSING]
    if missing:
        raise ConfigError(f"{where}: the field {missing[0]!r} is missing", "See eval/README.md for the format.")
    hints = get_type_hints(hint)
    return hint(**{name: build(hints[name], value, f"{where}.{name}") for name, value in data.items()})


def expect(condition: bool, data: Any, where: str, wanted: str) -> Any:
    """`data` itself.

    Raises:
        ConfigError: the condition does not hold.
    """
    if not condition:
        raise ConfigError(f"{where} is {data!r}, not {wanted}", "Correct the value.")
    return data


def check(scenario: Scenario, where: str) -> None:
    """Raise ConfigError for a scenario that cannot be run: dangling ids, answers out of range, rounds out of order."""

    def wrong(what: str) -> ConfigError:
        return ConfigError(f"{where}: {what}", "See eval/README.md for the format.")

    total = len(scenario.turns)
    if not scenario.probes or not total:
        raise wrong("a scenario needs messages and probes")
    if list(scenario.rounds) != sorted(set(scenario.rounds)) or not scenario.rounds or scenario.rounds[0] < 1:
        raise wrong("`rounds` must rise")
    if scenario.rounds[-1] != total:
        raise wrong(f"`rounds` must end with the number of messages, {total}")
    for day in (scenario.asked_on, *(meeting.date for meeting in scenario.meetings)):
        if not is_day(day):
            raise wrong(f"{day!r} is no ISO date, such as 2026-03-02")
    for name, ids in (("rule", [r.id for r in scenario.rules]), ("probe", [p.id for p in scenario.probes])):
        if len(ids) != len(set(ids)):
            raise wrong(f"two entries share a {name} id")
    for rule in scenario.rules:
        if problem := rule_problem(rule, scenario.meetings):
            raise wrong(f"rule {rule.id!r} {problem}")
    for probe in scenario.probes:
        if problem := probe_problem(probe, scenario.rule):
            raise wrong(f"probe {probe.id!r} {problem}")


def is_day(text: str) -> bool:
    """Whether `text` is a date as YYYY-MM-DD."""
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def rule_problem(rule: Rule, meetings: Sequence[Meeting]) -> str | None:
    """Why a rule cannot be looked for, in words."""
    said = rule.statement
    if not said.about or not all(said.about) or not all(word.strip() for group in said.about for word in group):
        return "needs groups of words in `about`, none of them empty"
    if not said.value.strip() or said.value in said.others:
        return "needs a `value` that is none of `others`"
    if rule.planted_at is not None:
        session, message = rule.planted_at
        if not (0 <= session < len(meetings) and 0 <= message < len(meetings[session].turns)):
            return f"is planted in message {[session, message]}, which is not there ([session, message], from 0)"
    return None


def probe_problem(probe: Probe, rules: Mapping[str, Rule]) -> str | None:
    """Why a probe cannot be asked or scored, in words."""
    if probe.rule not in rules:
        return f"asks about the unknown rule {probe.rule!r}"
    if probe.kind == "generate":
        return None if probe.check is not None and probe.max_tokens > 0 else "needs a check and max_tokens"
    if not 0 <= probe.answer < len(probe.options) or len(probe.options) < 2:
        return "needs at least two options, and an answer among them"
    if len(set(probe.options)) < len(probe.options) or not all(option.strip() for option in probe.options):
        return "has an empty option, or the same one twice"
    if probe.stale is not None and (not 0 <= probe.stale < len(probe.options) or probe.stale == probe.answer):
        return f"has no other option {probe.stale} to be the stale one"
    if probe.kind == "existence" and probe.options != EXISTENCE_OPTIONS:
        return f"needs the options of an existence probe, {list(EXISTENCE_OPTIONS)}"
    return None
