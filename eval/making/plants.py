"""Rules of a twin pair before their values are put in: family, status, phrasing, wording, values."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from eval.making.days import Calendar
from eval.making.family import Exempt, Family, fill, lower
from eval.scenarios import BINDING, Phrasing, Status

OPTIONS = 4
FEWEST_BINDING = 3

STATUSES: dict[Status, int] = {"active": 50, "superseded": 15, "revoked": 8, "scoped": 7, "quoted": 7, "injected": 6}
# About one planted rule in seven is of a type that can expire; half of those do.
EXPIRY_STATUSES: dict[Status, int] = {"active": 50, "expired": 50}
PHRASINGS: dict[Phrasing, int] = {"list": 35, "passing": 35, "correction": 10, "pasted": 20}
EARLIER: dict[Phrasing, int] = {"list": 40, "passing": 40, "pasted": 20}
IMPLICIT: dict[Phrasing, float] = {"list": 0.2, "passing": 0.65, "correction": 0.35, "pasted": 0.25}


@dataclass(frozen=True)
class Plant:
    """One rule of a pair before a twin's value is put in. Twin 0 has the first of `picks`, twin 1 the second."""

    id: str
    family: Family
    status: Status
    phrasing: Phrasing
    wording: str
    earlier: str
    options: tuple[str, ...]
    picks: tuple[str, str]
    exempts: tuple[Exempt, Exempt] | None = None
    until: str | None = None

    @property
    def implicit(self) -> bool:
        """Whether it is worded without the usual words of rules."""
        return self.wording in self.family.implicit

    @property
    def wrong(self) -> str:
        """A value that is right in neither twin."""
        return next(value for value in self.options if value not in self.picks)

    def value(self, twin: int) -> str:
        """The value that was said last."""
        return self.picks[twin]

    def old(self, twin: int) -> str | None:
        """The value before it was superseded: the other twin's, so that both texts hold the same values."""
        return self.picks[1 - twin] if self.status == "superseded" else None

    def text(self, twin: int) -> str:
        """The rule as it was said last."""
        return self._sentence(self.wording, self.value(twin), twin)

    def first_text(self, twin: int) -> str:
        """The rule as it was said first."""
        old = self.old(twin)
        return self.text(twin) if old is None else self._sentence(self.earlier, old, twin)

    def other_exceptions(self, twin: int) -> tuple[str, ...]:
        """Words of the exceptions that this rule does not have."""
        if not self.exempts:
            return ()
        own = self.exempts[twin]
        return tuple(word for other in self.family.exceptions if other != own for word in other.words)

    def _sentence(self, wording: str, value: str, twin: int) -> str:
        """A wording with exception, date and value."""
        if self.exempts:
            wording = f"{wording[:-1]}, {self.exempts[twin].say}."
        if self.until:
            opening = wording.replace("{Value}", "{value}", 1) if wording.startswith("{Value}") else lower(wording)
            wording = f"Until {self.until}, {opening}"
        return fill(wording, value)


def draw_plants(rng: random.Random, drawn: Sequence[Family], calendar: Calendar) -> list[Plant]:
    """The planted rules; drawn again until enough of them bind."""
    while True:
        statuses = [_status(rng, family) for family in drawn]
        if sum(status in BINDING for status in statuses) >= FEWEST_BINDING:
            break
    phrasings = [_phrasing(rng, status) for status in statuses]
    if phrasings.count("list") == 1:  # a list of one is none
        phrasings[phrasings.index("list")] = rng.choice(("passing", "pasted"))
    rules = zip(drawn, statuses, phrasings, strict=True)
    return [_plant(rng, f"r{number}", *rule, calendar) for number, rule in enumerate(rules, 1)]


def _status(rng: random.Random, family: Family) -> Status:
    """What becomes of a rule."""
    weights = EXPIRY_STATUSES if family.type == "expiring" else STATUSES
    return rng.choices(list(weights), list(weights.values()))[0]


def _phrasing(rng: random.Random, status: Status) -> Phrasing:
    """How it is said last."""
    if status == "superseded":
        return "correction"
    if status in ("scoped", "quoted"):
        return "passing"
    if status == "injected":
        return "pasted"
    weights = PHRASINGS if status == "active" else EARLIER
    return rng.choices(list(weights), list(weights.values()))[0]


def _plant(
    rng: random.Random, name: str, family: Family, status: Status, phrasing: Phrasing, calendar: Calendar
) -> Plant:
    """Wording, values, exceptions and dates of one rule."""
    foreign = status in ("scoped", "quoted", "injected")
    implicit = not foreign and rng.random() < IMPLICIT[phrasing]
    wording = rng.choice(family.implicit if implicit else family.say)
    earlier = rng.choice([other for other in family.say if other != wording])
    options = tuple(rng.sample(family.values, OPTIONS))
    first, second = rng.sample(options, 2)
    exempts = _exempts(rng, family)
    until = _until(rng, status, calendar) if family.type == "expiring" else None
    return Plant(name, family, status, phrasing, wording, earlier, options, (first, second), exempts, until)


def _exempts(rng: random.Random, family: Family) -> tuple[Exempt, Exempt] | None:
    """An exception for each twin."""
    if not family.exceptions:
        return None
    first, second = rng.sample(family.exceptions, 2)
    return first, second


def _until(rng: random.Random, status: Status, calendar: Calendar) -> str:
    """The last day of a rule: after its planting, and before or after the day of asking."""
    if status == "expired":
        gap = (calendar.asked - calendar.meetings[-1]).days
        day = calendar.asked - timedelta(rng.randint(1, gap - 1))
    else:
        day = calendar.asked + timedelta(rng.randint(5, 40))
    return f"{day.day} {day:%B}"


def draw_never(rng: random.Random, name: str, family: Family) -> Plant:
    """A rule that nobody says."""
    options = tuple(rng.sample(family.values, OPTIONS))
    exempts = _exempts(rng, family)
    wording = rng.choice(family.say)
    return Plant(name, family, "never", "none", wording, wording, options, (options[0], options[1]), exempts)
