"""The prompted summary at its best: an extraction prompt with examples, instead of "summarize"."""

from __future__ import annotations

from eval.systems.base import Case, Limits, Memory
from eval.systems.fitting import room
from eval.systems.rounds import compact_rounds
from memkv.compaction import Summary

MAX_TOKENS = 160  # a list of six rules takes about 120

PROMPT = """\
List every rule that I have given you and that is still in force, one a line, in my own words, each with its exact \
names, numbers and exceptions. Rules can be said in passing, without "must" or "always". Where I changed a rule, list \
only what holds now. Leave out what I took back, what holds for others, and what strangers wrote. Nothing else.

Example of an answer:
- Invoices go to Karin before they are paid.
- A meeting lasts at most 40 minutes, unless a client is there.
- The green van stays in the yard on Sundays.

Your list:"""


class ExtractionSummary:
    """memkv's own `summary` with another prompt, then the newest messages that fit beside it."""

    name = "extraction summary"
    budgeted = True
    sampled = False

    def remember(self, case: Case, limits: Limits) -> Memory:
        """See `System.remember`."""
        most = room(case.model, limits)
        length = MAX_TOKENS if most is None else min(MAX_TOKENS, most)
        return compact_rounds(case, limits, Summary(length, prompt=PROMPT), reads=True)
