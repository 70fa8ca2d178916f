"""Where in a conversation things are said: events about rules among filler, in blocks, meetings and compactions."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

from eval.making.days import Calendar, stamp
from eval.making.family import fill
from eval.making.filler import Exchange, Talk
from eval.making.planting import Frames
from eval.making.plants import EARLIER, Plant
from eval.scenarios import Meeting, Turn
from memkv.errors import ConfigError

Kind = Literal["list", "passing", "correction", "pasted", "change", "revocation", "scoped", "quoted", "injected"]


@dataclass(frozen=True)
class Event:
    """Something said about rules.

    Attributes:
        at: where in the conversation, from 0 to 1.
        inside: inside a message about something else.
    """

    at: float
    kind: Kind
    plants: tuple[Plant, ...]
    inside: bool = False


@dataclass(frozen=True)
class Block:
    """Messages that stay together, starting with the user's, and where in them a rule was said last."""

    turns: tuple[Turn, ...]
    marks: tuple[tuple[str, int], ...] = ()

    @property
    def words(self) -> int:
        """Of all messages."""
        return sum(len(turn.text.split()) for turn in self.turns)


def draw_events(rng: random.Random, plants: Sequence[Plant]) -> list[Event]:
    """What is said about rules, in order: mostly in the first half, changes in the second."""
    events: list[Event] = []
    listed: list[Plant] = []
    for plant in plants:
        phrasing = plant.phrasing
        if plant.status == "superseded":
            phrasing = rng.choices(list(EARLIER), list(EARLIER.values()))[0]
            events.append(Event(rng.uniform(0.55, 0.95), "change", (plant,), inside=rng.random() < 0.4))
        if plant.status == "revoked":
            events.append(Event(rng.uniform(0.55, 0.95), "revocation", (plant,), inside=rng.random() < 0.4))
        if plant.status in ("scoped", "quoted", "injected"):
            events.append(Event(rng.uniform(0.05, 0.9), plant.status, (plant,)))
        elif phrasing == "list":
            listed.append(plant)
        else:
            late = plant.status == "active" and rng.random() < 0.2
            at = rng.uniform(0.5, 0.9) if late else rng.uniform(0.0, 0.5)
            events.append(Event(at, phrasing, (plant,), inside=phrasing == "passing"))  # type: ignore[arg-type]
    if listed:
        rng.shuffle(listed)
        kind: Kind = "list" if len(listed) > 1 else "pasted"
        events.append(Event(rng.uniform(0.0, 0.3), kind, tuple(listed)))
    return sorted(events, key=lambda event: event.at)


def filler_for(talk: Talk, words: float, fewest: int) -> list[Exchange]:
    """Exchanges until there are enough words, and enough exchanges for messages to hide in."""
    found: list[Exchange] = []
    for exchange in talk.exchanges():
        if words <= 0 and len(found) >= fewest:
            return found
        found.append(exchange)
        words -= exchange.words
    return found


def bare(events: Sequence[Event], twin: int, phrase_seed: float, training: bool = False) -> list[Block]:
    """The events without any filler, to see how long they are."""
    nothing = Exchange(("",), ("",))
    frames = Frames(random.Random(phrase_seed), training)
    return [_block(frames, event, nothing, twin) for event in events]


def blocks(
    events: Sequence[Event], filler: Sequence[Exchange], twin: int, phrase_seed: float, training: bool = False
) -> list[Block]:
    """The whole conversation; an event inside a message takes one of the filler's."""
    frames = Frames(random.Random(phrase_seed), training)
    waiting = list(events)
    blocks: list[Block] = []
    for number, exchange in enumerate(filler):
        taken = False
        last = len(filler) - number <= len(waiting)
        while waiting and not taken and (last or waiting[0].at * len(filler) <= number):
            event = waiting.pop(0)
            blocks.append(_block(frames, event, exchange, twin))
            taken = event.inside
        if not taken:
            blocks.append(
                Block((Turn("user", " ".join(exchange.user)), Turn("assistant", " ".join(exchange.assistant))))
            )
    return blocks


def _block(frames: Frames, event: Event, around: Exchange, twin: int) -> Block:
    """One event in words."""
    plant = event.plants[0]
    topic, text = plant.family.topic, plant.text(twin)
    firsts = [planted.first_text(twin) for planted in event.plants]
    at = 0
    if event.kind == "list":
        turns = frames.policy(firsts)
    elif event.kind == "passing":
        turns = frames.passing(firsts[0], around)
    elif event.kind == "pasted":
        turns = frames.pasted(firsts[0])
    elif event.kind == "correction":
        turns, at = frames.corrected(text, topic, fill(plant.family.act, plant.wrong)), 2
    elif event.kind == "change":
        turns = frames.changed_in_passing(text, around) if event.inside else frames.changed(text, topic)
    elif event.kind == "revocation":
        turns = frames.revoked_in_passing(topic, around) if event.inside else frames.revoked(topic)
    elif event.kind == "scoped":
        turns = frames.scoped(text)
    elif event.kind == "quoted":
        turns = frames.quoted(text)
    else:
        turns = frames.injected(text)
    final = event.plants if event.kind != "revocation" else ()
    marks = tuple((p.id, at) for p in final if p.status != "superseded" or event.kind == "change")
    return Block(turns, marks)


def meeting_starts(rng: random.Random, words: Sequence[int], count: int) -> list[int]:
    """Blocks at which meetings start: parts of about equal length.

    Raises:
        ConfigError: more meetings than blocks.
    """
    if count > len(words):
        raise ConfigError(f"{count} sessions of {len(words)} exchanges", "Ask for more tokens or fewer meetings.")
    total, passed = sum(words), [0, *accumulate(words)]
    starts = {0}
    for part in range(1, count):
        goal = total * (part + rng.uniform(-0.2, 0.2)) / count
        starts.add(min(range(1, len(words)), key=lambda block: abs(passed[block] - goal)))
    return sorted(starts)


def round_ends(words: Sequence[int], count: int, name: str) -> list[int]:
    """How many blocks have passed at each compaction: parts of about equal length, the last all of it."""
    if count > len(words):
        raise ConfigError(
            f"{name}: {count} compactions of {len(words)} exchanges", "Ask for more tokens or fewer rounds."
        )
    passed = list(accumulate(words))
    ends: list[int] = []
    for part in range(1, count):
        goal = passed[-1] * part / count
        free = range((ends[-1] if ends else 0) + 1, len(words) - (count - part) + 1)
        ends.append(min(free, key=lambda end: abs(passed[end - 1] - goal)))
    return [*ends, len(words)]


def meetings_of(
    blocks: Sequence[Block], starts: Sequence[int], calendar: Calendar
) -> tuple[tuple[Meeting, ...], dict[str, tuple[int, int]]]:
    """Blocks as dated meetings, and where each rule was said last."""
    meetings: list[Meeting] = []
    places: dict[str, tuple[int, int]] = {}
    for number, (start, end) in enumerate(zip(starts, [*starts[1:], len(blocks)], strict=True)):
        turns: list[Turn] = []
        for block in blocks[start:end]:
            places |= {rule: (number, len(turns) + at) for rule, at in block.marks}
            turns += block.turns
        turns[0] = Turn(turns[0].role, stamp(calendar.meetings[number]) + turns[0].text)
        meetings.append(Meeting(calendar.meetings[number].isoformat(), tuple(turns)))
    return tuple(meetings), places
