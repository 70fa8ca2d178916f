"""Rows: one for each (scenario, system, budget, seed), with every probe's numbers; times lie in a file of their own.

So that two runs with one seed write identical rows, `rows.jsonl` holds nothing that a clock said.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from eval.scenarios import ProbeKind

# What a compacted text says of a rule (eval.prose.said): the value that binds, one that was superseded, another one,
# several at once, the opposite (polarity or exception lost), or nothing.
SAID = ("right", "stale", "wrong", "ambiguous", "distorted", "absent")


@dataclass(frozen=True)
class Answer:
    """One probe's result.

    Attributes:
        probe, rule, kind: as in the scenario.
        scores: log-likelihood a token (nats) of every option; empty for written answers.
        right: whether the likeliest option is the right one, or the written answer passes its check.
        probability: of the right option under a softmax of `scores`; for written answers 1.0 or 0.0.
        written: what was generated, for `generate` probes.
    """

    probe: str
    rule: str
    kind: ProbeKind
    scores: tuple[float, ...]
    right: bool
    probability: float
    written: str | None = None


@dataclass(frozen=True)
class Failure:
    """Why a row has no answers."""

    error: str
    message: str
    next_step: str


@dataclass(frozen=True)
class Row:
    """One system on one scenario at one budget with one seed.

    Attributes:
        id: scenario/system/budget/seed, unique in a run.
        budget: share of the full conversation's measured bytes, or None for a system without one.
        budget_bytes: the budget in bytes of live cache.
        full_bytes: measured bytes of the full conversation's live cache.
        active_bytes: measured bytes of live cache before a question is read; the largest one over probes.
        at_rest: bytes kept between sessions, by kind.
        peak_bytes: most live cache while the memory was built.
        context_tokens: tokens in front of a question; the mean over probes.
        prefilled, generated: tokens read and written, building and answering together.
        unshared: tokens that would have been read had every probe been answered from scratch.
        text: what the memory said in words, so that `said` can be read again; None where there is no text.
        transcript: whether that text is messages, oldest first.
        said: rule id -> one of SAID, for every rule of the scenario; None where there is no text.
        ledger: rule id -> declared probability that the rule survived.
        answers: one for every probe.
        failure: set when the row failed; such a row is counted, never scored.
    """

    id: str
    scenario: str
    pair: str
    system: str
    budget: float | None
    seed: int
    budget_bytes: int | None = None
    full_bytes: int = 0
    active_bytes: int | None = None
    at_rest: dict[str, int] = field(default_factory=dict)
    peak_bytes: int = 0
    context_tokens: float = 0.0
    prefilled: int = 0
    generated: int = 0
    unshared: int = 0
    text: str | None = None
    transcript: bool = False
    said: dict[str, str] | None = None
    ledger: dict[str, float] | None = None
    answers: tuple[Answer, ...] = ()
    failure: Failure | None = None


@dataclass(frozen=True)
class Times:
    """Seconds that one row took, by wall clock.

    Attributes:
        id: the row's.
        remember: building the memory (compaction, indexing, compression).
        first_token: from a question to the first logits of its answer, memory not yet in the cache; median over probes.
        answer: all probes.
    """

    id: str
    remember: float
    first_token: float
    answer: float
