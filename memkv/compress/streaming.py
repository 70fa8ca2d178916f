"""StreamingLLM (Xiao et al. 2023, arXiv 2309.17453): the attention sink and the newest tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from memkv.compress.base import compressible
from memkv.compress.evictor import Evictor
from memkv.snapshot import CacheSnapshot


@dataclass(frozen=True)
class StreamingLLM(Evictor):
    """Keeps the first `sinks` entries and, of the others, the newest. Reads nothing, and works on evicted snapshots.

    The paper also moves the kept tokens to new positions; here, as in kvpress, they stay where they were.
    """

    name: ClassVar[str] = "streaming"
    sinks: int = 4
    recent: int = 32
    ratio: float = 1.0

    def scores(self, snapshot: CacheSnapshot) -> dict[int, Tensor]:
        """See `Evictor.scores`: the newer, the better."""
        scores = {}
        for index, layer in compressible(snapshot).items():
            keys_BHTD = layer.tensors["keys"]
            batch, heads, tokens, _ = keys_BHTD.shape
            scores[index] = torch.arange(tokens, device=keys_BHTD.device).expand(batch, heads, tokens)
        return scores
