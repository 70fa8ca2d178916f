"""The terms of many answers' rewards at once, by processes that hold a frozen reader each."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial

import torch

from memkv import HybridModel
from train.config import Config
from train.rewards import Reward, Terms
from train.states import from_line
from train.workers import Spread


class Readers:
    """Scores answers to states. The same answer to the same state is read once.

    Args:
        config: whose base reads, as it was before any training.
        spread: over the processes that read.
    """

    def __init__(self, config: Config, spread: Spread) -> None:
        machine = config.machine
        self.spread = spread
        self.read = partial(terms_of, model=config.model, dtype=machine.dtype, device=machine.device)
        self.known: dict[tuple[str, str], Terms] = {}

    def terms(self, states: Sequence[str], answers: Sequence[str]) -> list[Terms]:
        """Of each answer to the state beside it, a line of JSON."""
        asked = list(zip(states, answers, strict=True))
        new = [one for one in dict.fromkeys(asked) if one not in self.known]
        self.known.update(zip(new, self.spread(self.read, new), strict=True))
        return [self.known[one] for one in asked]


def terms_of(asked: tuple[str, str], model: str, dtype: str, device: str) -> Terms:
    """Of one answer, by the reader of this process."""
    line, answer = asked
    return reward_of(model, dtype, device).terms(from_line(line), answer)


@lru_cache(maxsize=1)
def reward_of(model: str, dtype: str, device: str) -> Reward:
    """With its reader, loaded once in a process."""
    reader = HybridModel.from_pretrained(model, dtype=getattr(torch, dtype), device=device)
    return Reward(reader.chat.count, reader)
