"""A curated system prompt: the rules in force, as a person would keep them. An upper bound of what text can do."""

from __future__ import annotations

from eval.systems.base import Case, Limits, Memory, bytes_of, constant
from eval.systems.fitting import messages_at_rest, standing, text_of
from memkv.config import format_bytes
from memkv.errors import BudgetExceeded

HEADING = "Rules in force:"


class Curated:
    """The sentences of the rules that bind, and nothing else. Looks at `scenario.rules`: no system can know them."""

    name = "curated"
    budgeted = False
    sampled = False

    def remember(self, case: Case, limits: Limits) -> Memory:
        """See `System.remember`."""
        rules = [rule.text for rule in case.scenario.rules if rule.binds]
        text = "\n".join([HEADING, *(f"- {rule}" for rule in rules)]) if rules else ""
        messages = standing(case.model, text)
        size = bytes_of(case.model, messages)
        if limits.active is not None and size > limits.active:
            raise BudgetExceeded(
                f"The curated rules take {format_bytes(size)} of cache, the budget is {format_bytes(limits.active)}",
                f"Use a budget of at least {size} bytes.",
                smallest=size,
            )
        return Memory(
            messages=constant(messages),
            text=text_of(messages),
            at_rest=messages_at_rest(messages),
            ledger={rule.id: float(rule.binds) for rule in case.scenario.rules if rule.planted_at is not None},
        )
