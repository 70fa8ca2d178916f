"""Contexts without a rule in them: what a model gets right after these, it did not get from the conversation.

The rows of this system are no contestant. The analysis reads from them which probes to discard.
"""

from __future__ import annotations

from eval.prose.said import said
from eval.scenarios import Scenario, Turn, to_message
from eval.systems.base import Case, Limits, Memory, constant

SCREEN = "screen"

# By seed: no context at all, and some of the conversation's own small talk.
CONTEXTS = ("nothing", "filler")
FILLER_TOKENS = 300


class Screen:
    """Answers after a context in which nobody states a rule; the seed says which of CONTEXTS."""

    name = SCREEN
    budgeted = False
    sampled = True

    def remember(self, case: Case, limits: Limits) -> Memory:
        """See `System.remember`."""
        kept: list[Turn] = []
        for exchange in neutral_exchanges(case.scenario) if limits.seed else ():
            longer = [to_message(turn) for turn in (*kept, *exchange)]
            if len(case.model.chat.encode(case.model.chat.stable(longer))) <= FILLER_TOKENS:
                kept.extend(exchange)
        return Memory(messages=constant([to_message(turn) for turn in kept]), text=None, at_rest={})


def neutral_exchanges(scenario: Scenario) -> list[tuple[Turn, ...]]:
    """A user's message with its replies, where neither states a rule of the scenario, nor a value it once had."""
    planted = {rule.planted_at for rule in scenario.rules}
    exchanges: list[tuple[Turn, ...]] = []
    for session, meeting in enumerate(scenario.meetings):
        starts = [number for number, turn in enumerate(meeting.turns) if turn.role == "user"]
        for start, end in zip(starts, [*starts[1:], len(meeting.turns)], strict=True):
            exchange = meeting.turns[start:end]
            if planted.isdisjoint((session, number) for number in range(start, end)) and is_neutral(scenario, exchange):
                exchanges.append(exchange)
    return exchanges


def is_neutral(scenario: Scenario, exchange: tuple[Turn, ...]) -> bool:
    """Whether none of the messages says anything about a rule."""
    return all(said(turn.text, rule).verdict == "absent" for turn in exchange for rule in scenario.rules)
