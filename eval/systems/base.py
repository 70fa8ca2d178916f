"""What a memory system is: a conversation and a byte budget in, a memory out that questions are asked after.

A new system is one file with one small class and one line in `eval.systems.SYSTEMS`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, TypeVar

from eval.scenarios import Scenario, to_message
from memkv.live import LiveCache
from memkv.model import HybridModel
from memkv.snapshot import CacheSnapshot
from memkv.turns import Message

Made = TypeVar("Made")


@dataclass(frozen=True)
class Case:
    """One scenario as systems get it, with what they share, computed once.

    Attributes:
        model: reads, writes and answers.
        scenario: the conversation; a system looks at `meetings`, `chunks` and `turns`, never at rules or probes
            (the oracle systems of the tests and the curated prompt excepted).
    """

    model: HybridModel
    scenario: Scenario
    _made: dict[Callable[[Case], Any], Any] = field(default_factory=dict, repr=False, compare=False)

    def once(self, make: Callable[[Case], Made]) -> Made:
        """What several systems `make` of the scenario, made at the first call only."""
        if make not in self._made:
            self._made[make] = make(self)
        made: Made = self._made[make]
        return made

    @cached_property
    def messages(self) -> list[Message]:
        """The whole conversation."""
        return [to_message(turn) for turn in self.scenario.turns]

    @cached_property
    def full(self) -> LiveCache:
        """The whole conversation, prefilled. Fork it before use."""
        return self._timed_full[0]

    @cached_property
    def full_seconds(self) -> float:
        """How long that prefill took."""
        return self._timed_full[1]

    @cached_property
    def _timed_full(self) -> tuple[LiveCache, float]:
        started = time.perf_counter()
        return prefill(self.model, self.messages), time.perf_counter() - started

    @cached_property
    def full_bytes(self) -> int:
        """Bytes of that cache; of a conversation longer than the model's positions by the measured profile."""
        most, tokens = self.model.max_tokens, len(self.model.chat.encode(self.model.chat.stable(self.messages)))
        return self.full.size().payload if most is None or tokens <= most else self.model.profile.at(tokens)

    @cached_property
    def first(self) -> LiveCache:
        """What is said before the first compaction, prefilled. Fork it before use."""
        count = len(self.scenario.chunks[0])
        return self.full if count == len(self.messages) else prefill(self.model, self.messages[:count])

    @cached_property
    def snapshot(self) -> CacheSnapshot:
        """A snapshot of `full`."""
        return self.model.capture(self.full)


@dataclass(frozen=True)
class Limits:
    """What a system has to keep to.

    Attributes:
        active: most bytes of live cache before a question is read; None sets no limit.
        seed: for whatever a system samples.
    """

    active: int | None = None
    seed: int = 0


@dataclass
class Spent:
    """What a system spent on building its memory, and on answering so far.

    Attributes:
        prefilled: tokens read.
        generated: tokens written.
        peak: most bytes of live cache at a time while the memory was built.
    """

    prefilled: int = 0
    generated: int = 0
    peak: int = 0


@dataclass
class Memory:
    """What a system has after a conversation.

    Attributes:
        messages: the messages in front of a question, given the question. They are what the model reads, or, where
            `live` is set, what it has read.
        text: what the memory says in words, all of it, as the model may get to see it; None for KV alone, whose text
            view does not exist.
        transcript: whether `text` is messages, oldest first, so that what was said later replaces what was said before.
        at_rest: bytes kept between sessions by kind: text, kv, vectors, index, metadata, parameters. Everything.
        live: a cache to ask after; None where `messages` are to be prefilled.
        cache: makes the cache of the messages in front of a question, where that is not to read them, and says how many
            tokens were read for it.
        load_seconds: how long it took to bring `live` back from where it is kept.
        ledger: rule id -> probability that the rule survived, as the system itself declares it; None without one.
        spent: see `Spent`.
    """

    messages: Callable[[str], list[Message]]
    text: str | None
    at_rest: Mapping[str, int]
    live: LiveCache | None = None
    cache: Callable[[Sequence[Message]], tuple[LiveCache, int]] | None = None
    load_seconds: float = 0.0
    ledger: Mapping[str, float] | None = None
    spent: Spent = field(default_factory=Spent)
    transcript: bool = False

    def before(self, model: HybridModel, messages: Sequence[Message]) -> tuple[LiveCache, int]:
        """The cache in front of a question, given its messages, and the tokens read for it. Fork it before use."""
        if self.live is not None:
            return self.live, 0
        if self.cache is not None:
            return self.cache(messages)
        live = prefill(model, messages)
        return live, len(live)


class System(Protocol):
    """One way to remember."""

    @property
    def name(self) -> str:
        """As it stands in tables."""

    @property
    def budgeted(self) -> bool:
        """Whether it can be run at a byte budget; else it is run once, at whatever it takes."""

    @property
    def sampled(self) -> bool:
        """Whether its memory depends on the seed; then it is run at several."""

    def remember(self, case: Case, limits: Limits) -> Memory:
        """Go through the conversation, chunk by chunk, and keep what fits.

        Raises:
            BudgetExceeded: what it must keep is larger than the budget.
        """


def prefill(model: HybridModel, messages: Sequence[Message]) -> LiveCache:
    """A cache that has read `messages` up to their stable end; empty for none."""
    live = model.new_cache()
    tokens = model.chat.encode(model.chat.stable(messages))
    if tokens:
        model.extend(live, tokens)
    return live


def bytes_of(model: HybridModel, messages: Sequence[Message]) -> int:
    """Cache bytes that `messages` take, from the measured profile and the real token count."""
    return model.profile.at(len(model.chat.encode(model.chat.stable(messages)))) if messages else 0


def constant(messages: Sequence[Message]) -> Callable[[str], list[Message]]:
    """For memories that are the same whatever is asked."""
    kept = list(messages)
    return lambda question: list(kept)
