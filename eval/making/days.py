"""On which days a scenario happens: meetings over weeks, and a day of asking some days after the last."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import date, timedelta

FIRST_DAY, START_DAYS = date(2026, 1, 5), 150
MEETINGS = {1: 20, 2: 30, 3: 30, 4: 20}
MANY_DAYS = 200  # over which meetings of a given number are spread, some on one day if need be


@dataclass(frozen=True)
class Calendar:
    """Days of the meetings and of asking."""

    meetings: tuple[date, ...]
    asked: date


def draw_calendar(rng: random.Random, count: int | None = None) -> Calendar:
    """Meetings over weeks, one to four or as many as are asked for, and the day of asking some days later."""
    if count is None:
        days = [FIRST_DAY + timedelta(rng.randrange(START_DAYS))]
        for _ in range(rng.choices(list(MEETINGS), list(MEETINGS.values()))[0] - 1):
            days.append(days[-1] + timedelta(rng.randint(2, 12)))
    else:
        days = sorted(FIRST_DAY + timedelta(rng.randrange(MANY_DAYS)) for _ in range(count))
    return Calendar(tuple(days), days[-1] + timedelta(rng.randint(3, 9)))


def stamp(day: date) -> str:
    """What the first message of a meeting starts with."""
    return f"[{day:%A}, {day.day} {day:%B %Y}] "
