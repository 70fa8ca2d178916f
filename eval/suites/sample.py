"""One sample of a public suite: a context that a system remembers, and a question that is asked afterwards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from eval.scenarios import Meeting, Scenario, Turn

# What the assistant said to the context, in every sample alike.
REPLY = "I have read it."
# A conversation needs a day; the suites ask nothing about it.
DAY = "2026-01-05"


@dataclass(frozen=True)
class Sample:
    """One context with one question.

    Attributes:
        id: suite/task/length/number, or suite/task/the file's own id.
        length: tokens that were asked for, the answer included; None where the suite has a length of its own.
        context: what is remembered, the task's introduction included.
        question: what is asked once the context is in memory.
        references: the right answers.
        score: a written answer -> 0 to 1, by the suite's own metric.
        max_tokens: most tokens of the answer.
        opening: how the reply begins; the model goes on from there.
        first_line: the answer is its first line that is not empty.
        cut_tokens: how many were taken out of the middle of the context so that it fits the model.
    """

    id: str
    suite: str
    task: str
    length: int | None
    context: str
    question: str
    references: tuple[str, ...]
    score: Callable[[str], float]
    max_tokens: int
    opening: str = ""
    first_line: bool = False
    cut_tokens: int = 0


def to_scenario(sample: Sample) -> Scenario:
    """The conversation in which the context was read, as systems take it: one session of two messages, no rules.

    A system that keeps whole messages (recency) keeps all of a context or nothing.
    """
    turns = (Turn("user", sample.context), Turn("assistant", REPLY))
    return Scenario(
        id=sample.id,
        pair=sample.id,
        domain="own",
        split="own",
        seed=sample.suite,
        meetings=(Meeting(DAY, turns),),
        rounds=(len(turns),),
        asked_on=DAY,
        rules=(),
        probes=(),
    )
