"""Filler: the everyday talk around the rules, made from `talk/<domain>.yaml`, without a sentence said twice.

A thread is a topic that goes on over some exchanges (beats) about the same people and things. Slots: `{piece}` is
drawn from the pool once a thread (`{piece.2}` and `{piece.3}` are others, `{Piece}` is capitalised), `{a|b}` is chosen
freshly each time and may hold slots. Built in are `{month}`, once a thread, and `{count}`, `{weekday}`, `{clock}`, once
an exchange.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import yaml

from eval.making.family import capital
from eval.scenarios import build
from memkv.errors import ConfigError

Kept = TypeVar("Kept")
FOLDER = Path(__file__).parent / "talk"
NEXT = "Correct the entry; eval/README.md describes the format."
SMALLEST_POOL, FEWEST_ALTERNATIVES, DRAWN = 12, 2, 3
NUMBERS = ("", "1", "2", "3")
SLOT = re.compile(r"\{([^{}]+)\}")
# Filler that sounds like a rule would make "was there a rule?" a matter of taste.
BINDING = re.compile(
    r"\b(must|never|always|shall|only|unless|do not|don't|may not|cannot|not allowed|forbidden|required|need to|have to"
    r"|at most|at least|prefer|approve|sign off|from now on|policy|policies|rules?)\b",
    re.IGNORECASE,
)
INSIDE_SENTENCE = re.compile(r"[.!?]\s")
# A sentence shorter than this may come again: "Thank you."
SHORT = 4
TRIES = 16
STALLED = 300
WEEKDAYS = tuple("Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split())
MONTHS = tuple("January February March April May June July August September October November December".split())
CLOCK = tuple(f"{hour}:{minute:02}" for hour in range(7, 19) for minute in range(0, 60, 5))
# Drawn anew for every exchange; months, like the pools of a file, for every thread.
PER_EXCHANGE: Mapping[str, Sequence[str]] = {
    "count": tuple(map(str, range(13, 98))),
    "weekday": WEEKDAYS,
    "clock": CLOCK,
}
PER_THREAD: Mapping[str, Sequence[str]] = {"month": MONTHS}


@dataclass(frozen=True)
class Beat:
    """One exchange: for each sentence of the user and of the assistant its alternatives."""

    user: tuple[tuple[str, ...], ...]
    assistant: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Thread:
    """A topic; its beats come in order."""

    id: str
    beats: tuple[Beat, ...]


@dataclass(frozen=True)
class Exchange:
    """What was said, sentence by sentence."""

    user: tuple[str, ...]
    assistant: tuple[str, ...]

    @property
    def words(self) -> int:
        """Of both."""
        return sum(len(sentence.split()) for sentence in (*self.user, *self.assistant))


@dataclass(frozen=True)
class Filler:
    """One file: pools of entities and the threads that use them."""

    pools: Mapping[str, tuple[str, ...]]
    threads: tuple[Thread, ...]


@lru_cache
def load(domain: str, folder: Path = FOLDER) -> Filler:
    """Filler of a domain, checked.

    Raises:
        ConfigError: unreadable, an unknown key or slot, a sentence that sounds like a rule; names file and place.
    """
    path = folder / f"{domain}.yaml"
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"Cannot read {path}: {error}", "Check the domain's name and the YAML.") from error
    if not isinstance(data, dict) or set(data) != {"pools", "threads"} or not isinstance(data["pools"], dict):
        raise ConfigError(f"{path} is not a mapping with exactly the keys `pools` and `threads`", NEXT)
    pools = {name: build(tuple[str, ...], entries, f"{path}: pools.{name}") for name, entries in data["pools"].items()}
    for name, entries in pools.items():
        if len(set(entries)) < SMALLEST_POOL or len(set(entries)) != len(entries):
            raise ConfigError(f"{path}: the pool {name!r} needs {SMALLEST_POOL} different entries", NEXT)
    threads: tuple[Thread, ...] = build(tuple[Thread, ...], data["threads"], f"{path}: threads")
    for where, sentence in _sentences(path, threads):
        problem = _problem(sentence, pools)
        if problem:
            raise ConfigError(f"{where}: {sentence!r} {problem}", NEXT)
    return Filler(pools, threads)


def _sentences(path: Path, threads: tuple[Thread, ...]) -> Iterator[tuple[str, str]]:
    """Every alternative with the place where it stands."""
    for thread in threads:
        for number, beat in enumerate(thread.beats, 1):
            for side, items in (("user", beat.user), ("assistant", beat.assistant)):
                where = f"{path}: {thread.id}, beat {number}, {side}"
                if not items or any(len(alternatives) < FEWEST_ALTERNATIVES for alternatives in items):
                    raise ConfigError(f"{where} lacks sentences, or alternatives of one", NEXT)
                for alternatives in items:
                    yield from ((where, sentence) for sentence in alternatives)


def _problem(sentence: str, pools: Mapping[str, tuple[str, ...]]) -> str | None:
    """What is wrong with a template, in words."""
    rest = sentence
    while slots := SLOT.findall(rest):
        for slot in slots:
            name, _, number = slot.lower().partition(".")
            known = name in pools or name in PER_EXCHANGE or name in PER_THREAD
            if "|" not in slot and not (known and number in NUMBERS):
                return f"has the unknown slot {slot!r}"
        rest = SLOT.sub("", rest)
    if word := BINDING.search(sentence):
        return f"sounds like a rule ({word[0]!r})"
    if sentence[-1:] not in ".?!" or INSIDE_SENTENCE.search(sentence):
        return "is not one sentence"
    return None


def without_thirds(entries: Sequence[Kept]) -> tuple[Kept, ...]:
    """All but every third: what training gets to see. Tests see everything."""
    return tuple(entry for number, entry in enumerate(entries, 1) if number % 3)


class Talk:
    """An endless conversation about a domain, exchange by exchange, in which no sentence is said twice.

    Args:
        domain: file of the filler.
        rng: draws everything.
        training: leave out the threads that are kept from training.
        folder: of the filler files.

    Raises:
        ConfigError: as `load`.
    """

    def __init__(self, domain: str, rng: random.Random, training: bool = False, folder: Path = FOLDER) -> None:
        self.domain = domain
        self.filler = load(domain, folder)
        self.threads = without_thirds(self.filler.threads) if training else self.filler.threads
        self.rng = rng
        self.said: set[str] = set()
        self._waiting: list[Thread] = []

    def exchanges(self) -> Iterator[Exchange]:
        """Exchanges for as long as there is something new to say.

        Raises:
            ConfigError: nothing new can be said any more.
        """
        stalled = 0
        while True:
            said_something = False
            for exchange in self._thread():
                said_something = True
                yield exchange
            stalled = 0 if said_something else stalled + 1
            if stalled > STALLED:
                raise ConfigError(
                    f"The filler of {self.domain!r} repeats itself after {len(self.said)} sentences",
                    f"Ask for fewer tokens, or add threads to {FOLDER / self.domain}.yaml.",
                )

    def _thread(self) -> Iterator[Exchange]:
        """One thread about people and things of its own, perhaps left before its end."""
        if not self._waiting:
            self._waiting = self.rng.sample(self.threads, len(self.threads))
        thread = self._waiting.pop()
        bound = self._draw({**self.filler.pools, **PER_THREAD})
        for beat in thread.beats[: self.rng.randint(2, max(2, len(thread.beats)))]:
            bound |= self._draw(PER_EXCHANGE)
            user = self._side(beat.user, bound)
            assistant = self._side(beat.assistant, bound) if user else ()
            if user and assistant:
                yield Exchange(user, assistant)

    def _draw(self, pools: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
        """Members for the slots of each pool: the plain one, `.2` and `.3`."""
        return {name: self.rng.sample(entries, DRAWN) for name, entries in pools.items()}

    def _side(self, items: tuple[tuple[str, ...], ...], bound: Mapping[str, list[str]]) -> tuple[str, ...]:
        """The sentences of one message; one that cannot be said anew is left out, but the first must be there."""
        said: list[str] = []
        for place, alternatives in enumerate(items):
            sentence = self._say(alternatives, bound)
            if sentence is None and place == 0:
                return ()
            if sentence is not None:
                said.append(sentence)
        return tuple(said)

    def _say(self, alternatives: tuple[str, ...], bound: Mapping[str, list[str]]) -> str | None:
        """One alternative, filled in, that was not said before."""
        for _ in range(TRIES):
            sentence = self.rng.choice(alternatives)
            while SLOT.search(sentence):  # a choice may hold slots
                sentence = SLOT.sub(lambda match: self._slot(match[1], bound), sentence)
            sentence = capital(sentence)
            if len(sentence.split()) <= SHORT or sentence.lower() not in self.said:
                self.said.add(sentence.lower())
                return sentence
        return None

    def _slot(self, slot: str, bound: Mapping[str, list[str]]) -> str:
        """What stands in a slot."""
        if "|" in slot:
            return self.rng.choice(slot.split("|"))
        name, _, number = slot.partition(".")
        entry = bound[name.lower()][int(number or 1) - 1]
        return capital(entry) if name[:1].isupper() else entry
