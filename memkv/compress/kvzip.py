"""KVzip (Kim et al. 2025, arXiv 2505.23416): what the model needs to reconstruct its context."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from memkv.compress.reading import Heard, ReadingEvictor, check_readable, heard_layers, per_head
from memkv.compress.repeating import repeat
from memkv.model import HybridModel
from memkv.snapshot import CacheSnapshot


@dataclass(frozen=True)
class KVzip(ReadingEvictor):
    """Largest attention that an entry gets, over grouped heads and queries, while the model repeats its context.

    The paper shares one budget among all heads; here every head keeps the same number, so that memory is freed.
    """

    name: ClassVar[str] = "kvzip"
    model: HybridModel
    sinks: int = 4
    recent: int = 32
    ratio: float = 1.0
    chunk: int = 2048

    def scores(self, snapshot: CacheSnapshot) -> dict[int, Tensor]:
        """See `Evictor.scores`; each chunk competes with the sinks and the repetition only, as in the paper's code."""
        check_readable(self.model, snapshot)
        parts: dict[int, list[Tensor]] = {}
        for repetition in repeat(self.model, snapshot.token_ids, self.chunk):
            before, length = min(self.sinks, repetition.start), repetition.end - repetition.start
            for index in heard_layers(snapshot, repetition.heard):
                heard = repetition.heard[index]
                sinks, chunk = slice(0, before), slice(repetition.start, repetition.end)
                again = slice(-heard.queries_BHQD.shape[2], None)
                keys = torch.cat([heard.keys_BGSD[:, :, part] for part in (sinks, chunk, again)], dim=2)
                scores_BGS = self.score(dataclasses.replace(heard, keys_BGSD=keys))
                parts.setdefault(index, []).append(scores_BGS[..., before : before + length])
        return per_head(snapshot, {index: torch.cat(scores, dim=-1) for index, scores in parts.items()})

    def score(self, heard: Heard) -> Tensor:
        """See `ReadingEvictor.score`."""
        return torch.stack([weights.amax((2, 3)) for weights in heard.weights()]).amax(0)
