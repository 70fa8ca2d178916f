"""The prompted summary: the model summarizes its own context after each chunk. What most products do."""

from __future__ import annotations

from eval.systems.base import Case, Limits, Memory
from eval.systems.fitting import room
from eval.systems.rounds import compact_rounds
from memkv.compaction import Summary
from memkv.sampling import Sampling

MAX_TOKENS = 80  # of one summary; a policy of six rules takes about 120, so it has to choose


class PromptedSummary:
    """memkv's own `summary`, then the newest messages that fit beside it; too long a summary is cut.

    Args:
        temperature: 0 writes greedily; above it the summary is sampled, and runs take several seeds.
        pin_rules: keep the registry's rules verbatim as well; where both do not fit, the summary is cut first.
    """

    budgeted = True

    def __init__(self, temperature: float = 0.0, pin_rules: bool = False) -> None:
        self.temperature = temperature
        self.pin_rules = pin_rules

    @property
    def name(self) -> str:
        """`summary`, `registry+summary`, and `sampled` before them where they are."""
        return ("sampled " if self.sampled else "") + ("registry+summary" if self.pin_rules else "summary")

    @property
    def sampled(self) -> bool:
        """See `System.sampled`."""
        return self.temperature > 0

    def remember(self, case: Case, limits: Limits) -> Memory:
        """See `System.remember`."""
        most = room(case.model, limits)
        length = MAX_TOKENS if most is None else min(MAX_TOKENS, most)
        sampling = Sampling(temperature=self.temperature, seed=limits.seed)
        return compact_rounds(case, limits, Summary(length, self.pin_rules, sampling), reads=True)
