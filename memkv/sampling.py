"""How the next token is chosen."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from memkv.errors import InvalidInput


@dataclass(frozen=True)
class Sampling:
    """Greedy at temperature 0, else nucleus sampling (arXiv 1904.09751).

    Attributes:
        temperature: 0 is greedy.
        top_p: share of probability that the kept tokens sum up to.
        seed: for the same seed and logits the same tokens come.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be sampled from."""
        if not 0 <= self.temperature < math.inf or not 0 < self.top_p <= 1:
            raise InvalidInput(
                f"Temperature {self.temperature} and top-p {self.top_p} cannot be used",
                "Temperature is 0 or more, top-p above 0 and at most 1.",
            )

    def generator(self) -> torch.Generator:
        """A seeded generator."""
        return torch.Generator().manual_seed(self.seed)


def pick(logits_V: Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    """The next token id from logits (V)."""
    if sampling.temperature <= 0:
        return int(logits_V.argmax().item())
    probs_V = torch.softmax(logits_V.float().cpu() / sampling.temperature, -1)
    ordered_V, ids_V = probs_V.sort(descending=True)
    # A token stays while the probability of those before it is below top_p, so the first always does.
    ordered_V = ordered_V.masked_fill(ordered_V.cumsum(-1) - ordered_V >= sampling.top_p, 0.0)
    return int(ids_V[torch.multinomial(ordered_V, 1, generator=generator)].item())
