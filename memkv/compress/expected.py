"""Expected Attention (Devoto et al. 2025, arXiv 2510.00636): what queries yet to come will look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from memkv.compress.future import listen_ahead
from memkv.compress.reading import Heard, ReadingEvictor, check_readable, heard_layers, per_head
from memkv.model import HybridModel
from memkv.snapshot import CacheSnapshot


@dataclass(frozen=True)
class ExpectedAttention(ReadingEvictor):
    """Queries are taken as Gaussian, so that the expected attention to a key has a closed form; times the value's norm.

    Mean and covariance come from the context's own queries, under the mean rotation of the `future` next positions.
    """

    name: ClassVar[str] = "expected"
    model: HybridModel
    sinks: int = 4
    recent: int = 32
    ratio: float = 1.0
    future: int = 512

    def scores(self, snapshot: CacheSnapshot) -> dict[int, Tensor]:
        """See `Evictor.scores`."""
        check_readable(self.model, snapshot)
        heard = listen_ahead(self.model, self.model.new_cache(), snapshot.token_ids, self.future)
        return per_head(snapshot, {index: self.score(heard[index]) for index in heard_layers(snapshot, heard)})

    def score(self, heard: Heard) -> Tensor:
        """See `ReadingEvictor.score`. The sinks are outliers: they are left out, and get no score."""
        queries_BHQD = heard.queries_BHQD[:, :, self.sinks :].float()
        keys_BGSD = heard.keys_BGSD[:, :, self.sinks :].float()
        batch, heads, count, width = queries_BHQD.shape
        groups = keys_BGSD.shape[1]
        mean_BHD = queries_BHQD.mean(2)
        centred = queries_BHQD - mean_BHD[:, :, None]
        covariance_BHDD = centred.transpose(2, 3) @ centred / count
        keys_BHSD = keys_BGSD.repeat_interleave(heads // groups, dim=1)
        linear_BHS = (keys_BHSD @ mean_BHD[..., None])[..., 0] * heard.scaling
        quadratic_BHS = (keys_BHSD @ covariance_BHDD * keys_BHSD).sum(-1) * (heard.scaling**2 / 2)
        weights_BHS = (linear_BHS + quadratic_BHS).softmax(-1)
        weights_BGS = weights_BHS.view(batch, groups, heads // groups, -1).mean(2)
        scores_BGS = weights_BGS * heard.values_BGSD[:, :, self.sinks :].float().norm(dim=-1)
        return torch.nn.functional.pad(scores_BGS, (self.sinks, 0))
