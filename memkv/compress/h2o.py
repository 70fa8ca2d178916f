"""H2O, the heavy-hitter oracle (Zhang et al. 2023, arXiv 2306.14048): what was looked at most so far."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from memkv.compress.reading import Heard, ReadingEvictor
from memkv.model import HybridModel


@dataclass(frozen=True)
class H2O(ReadingEvictor):
    """Attention that an entry received from all queries, summed; `recent_share` of what is kept are the newest entries.

    `average` divides by the number of queries that could see the entry, as kvpress's ObservedAttentionPress does;
    the paper's sum favours old entries.
    """

    name: ClassVar[str] = "h2o"
    model: HybridModel
    sinks: int = 4
    recent: int = 32
    ratio: float = 1.0
    recent_share: float = 0.5
    average: bool = False

    def score(self, heard: Heard) -> Tensor:
        """See `ReadingEvictor.score`."""
        total_BGS = torch.stack([weights.sum(-2).mean(2) for weights in heard.weights()]).sum(0)
        if not self.average:
            return total_BGS
        return total_BGS / torch.arange(total_BGS.shape[-1], 0, -1, device=total_BGS.device)

    def recent_of(self, entries: int) -> int:
        """See `Evictor.recent_of`."""
        return max(self.recent, int((entries - self.sinks) * self.recent_share))
