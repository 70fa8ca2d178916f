"""SnapKV (Li et al. 2024, arXiv 2404.14469): what the newest tokens look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import avg_pool1d, pad

from memkv.compress.reading import Heard, ReadingEvictor
from memkv.model import HybridModel


@dataclass(frozen=True)
class SnapKV(ReadingEvictor):
    """Mean attention of the newest `recent` queries, smoothed over `kernel` neighbours, mean over grouped heads."""

    name: ClassVar[str] = "snapkv"
    model: HybridModel
    sinks: int = 4
    recent: int = 64
    ratio: float = 1.0
    kernel: int = 5

    def score(self, heard: Heard) -> Tensor:
        """See `ReadingEvictor.score`."""
        window = max(1, min(self.recent, heard.queries_BHQD.shape[2] - 1))
        total_BGRS = torch.stack([weights.sum(-2) for weights in heard.newest(window).weights()]).sum(0)
        before_BGRS = total_BGRS[..., : total_BGRS.shape[-1] - window] / window
        smooth = avg_pool1d(before_BGRS.flatten(0, 1), self.kernel, stride=1, padding=self.kernel // 2)
        return pad(smooth.view(before_BGRS.shape).mean(2), (0, window))
