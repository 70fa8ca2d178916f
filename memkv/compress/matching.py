"""Attention Matching (Zweiger et al. 2026, arXiv 2602.16284): few keys that answer like all of them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from memkv.compress.base import compressible, held_tokens
from memkv.compress.evictor import gather, take
from memkv.compress.reading import Heard, ReadingEvictor, check_readable, heard_layers
from memkv.compress.repeating import repeat
from memkv.errors import UnsupportedModel
from memkv.model import HybridModel
from memkv.snapshot import CacheSnapshot, LayerState

# Rounds of multiplicative updates for the masses, and the range of the biases: e^-7 of a key is none, 1 / e^-7 enough.
ROUNDS = 100
LARGEST_BIAS = 7.0


@dataclass(frozen=True)
class AttentionMatching(ReadingEvictor):
    """Keeps the most used keys (root mean square attention) and fits two things to the queries of a repetition.

    1. A bias for each kept key, so that together they have the attention mass of all keys (non-negative least squares).
    2. Their values, so that the attention output is that of the whole cache (ridge regression towards the old values).

    Layers whose attention and SSM state share a cache layer get no bias, only fitted values.

    Args:
        model: made the snapshot.
        sinks: first entries, always kept.
        recent: newest entries, always kept.
        ratio: share of entries to keep at most.
        queries: reference queries for each key head.
        ridge: weight of the old values, as a share of the mean squared attention weight.
        chunk: tokens that the model repeats at once.
    """

    name: ClassVar[str] = "matching"
    model: HybridModel
    sinks: int = 4
    recent: int = 32
    ratio: float = 1.0
    queries: int = 1024
    ridge: float = 0.01
    chunk: int = 2048

    def evict(self, snapshot: CacheSnapshot, entries: int) -> CacheSnapshot:
        """See `Evictor.evict`."""
        layers = {}
        for index, heard in self.reference(snapshot).items():
            layer = snapshot.layers[index]
            if held_tokens(layer) > entries:
                layers[index] = self.match(layer, heard, self.best(self.score(heard), entries))
        return snapshot.replace_layers(layers, self.name)

    def scores(self, snapshot: CacheSnapshot) -> dict[int, Tensor]:
        """See `Evictor.scores`."""
        return {index: self.score(heard) for index, heard in self.reference(snapshot).items()}

    def score(self, heard: Heard) -> Tensor:
        """See `ReadingEvictor.score`."""
        return reference_logits(heard).softmax(-1).square().mean(2).sqrt()

    def stand_in(self, layer: LayerState, entries: int) -> LayerState:
        """See `Evictor.stand_in`."""
        layer = super().stand_in(layer, entries)
        if layer.kind != "full":
            return layer
        keys_BHTD = layer.tensors["keys"]
        return dataclasses.replace(
            layer, tensors={**layer.tensors, "key_bias": keys_BHTD.new_zeros(keys_BHTD.shape[:3])}
        )

    def reference(self, snapshot: CacheSnapshot) -> dict[int, Heard]:
        """Layer index -> the snapshot's keys and values, and about `queries` queries for each key head.

        Raises:
            UnsupportedModel: a latent layer, whose values cannot be fitted apart from its keys.
        """
        check_readable(self.model, snapshot)
        latent = [index for index, layer in compressible(snapshot).items() if layer.kind == "latent"]
        if latent:
            raise UnsupportedModel(
                f"Layers {latent} cache latents, whose keys and values cannot be fitted apart",
                "Use the codec kvzip or snapkv.",
            )
        parts: dict[int, list[Tensor]] = {}
        scalings: dict[int, float] = {}
        for repetition in repeat(self.model, snapshot.token_ids, self.chunk):
            length = repetition.end - repetition.start
            for index in heard_layers(snapshot, repetition.heard):
                heard = repetition.heard[index].newest(length)
                grouped = heard.queries_BHQD.shape[1] // heard.keys_BGSD.shape[1]
                every = max(1, len(snapshot.token_ids) * grouped // self.queries)
                parts.setdefault(index, []).append(heard.queries_BHQD[:, :, ::every])
                scalings[index] = heard.scaling
        tensors = {index: snapshot.layers[index].tensors for index in parts}
        return {
            index: Heard(torch.cat(queries, dim=2), tensors[index]["keys"], tensors[index]["values"], scalings[index])
            for index, queries in parts.items()
        }

    def match(self, layer: LayerState, heard: Heard, positions_BGN: Tensor) -> LayerState:
        """The layer with the keys at `positions_BGN`, their biases and fitted values."""
        logits_BGQS = reference_logits(heard)
        kept_BGQN = logits_BGQS.gather(3, positions_BGN[:, :, None].expand(-1, -1, logits_BGQS.shape[2], -1))
        values_BGSD = heard.values_BGSD.float()
        fitted: dict[str, Tensor] = {}
        if layer.kind == "full":
            bias_BGN = fit_bias(logits_BGQS, kept_BGQN).to(heard.keys_BGSD.dtype)
            kept_BGQN = kept_BGQN + bias_BGN.float()[:, :, None]
            fitted["key_bias"] = bias_BGN
        weights_BGQN = kept_BGQN.softmax(-1)
        output_BGQD = logits_BGQS.softmax(-1) @ values_BGSD
        old_BGND = gather(values_BGSD, positions_BGN)
        fitted["values"] = fit_values(weights_BGQN, output_BGQD, old_BGND, self.ridge).to(heard.values_BGSD.dtype)
        return take(layer, positions_BGN, fitted)


def reference_logits(heard: Heard) -> Tensor:
    """Logits_BGQS of all reference queries of a key head's group over all keys; none is masked."""
    batch, heads, count, width = heard.queries_BHQD.shape
    groups = heard.keys_BGSD.shape[1]
    queries_BGQD = heard.queries_BHQD.float().view(batch, groups, heads // groups * count, width)
    return queries_BGQD @ heard.keys_BGSD.float().transpose(2, 3) * heard.scaling


def fit_bias(logits_BGQS: Tensor, kept_BGQN: Tensor) -> Tensor:
    """Biases (BGN) with which the kept keys have the mass of all: non-negative least squares over the queries.

    Each query's mass is scaled to 1. Lee and Seung's multiplicative updates keep the masses positive.
    """
    share_BGQN = (kept_BGQN - logits_BGQS.logsumexp(-1, keepdim=True)).exp()
    gram_BGNN = share_BGQN.transpose(2, 3) @ share_BGQN
    target_BGN1 = share_BGQN.sum(2)[..., None]
    mass = torch.ones_like(target_BGN1)
    for _ in range(ROUNDS):
        mass = mass * target_BGN1 / (gram_BGNN @ mass).clamp_(min=torch.finfo(mass.dtype).tiny)
    return mass[..., 0].log().clamp_(-LARGEST_BIAS, LARGEST_BIAS)


def fit_values(weights_BGQN: Tensor, output_BGQD: Tensor, old_BGND: Tensor, ridge: float) -> Tensor:
    """Values (BGND) with which the weights give the output: least squares, `ridge` holds them near the old ones."""
    gram_BGNN = weights_BGQN.transpose(2, 3) @ weights_BGQN
    hold = ridge * gram_BGNN.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None]
    identity = torch.eye(gram_BGNN.shape[-1], device=gram_BGNN.device)
    missing_BGQD = output_BGQD - weights_BGQN @ old_BGND
    change: Tensor = torch.linalg.solve(gram_BGNN + hold * identity, weights_BGQN.transpose(2, 3) @ missing_BGQD)
    return old_BGND + change
