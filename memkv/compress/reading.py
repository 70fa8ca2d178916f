"""Queries for evictors: read the snapshot's tokens again and listen to what attention is asked."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers.cache_utils import DynamicLayer

from memkv.attention import listening
from memkv.compress.base import compressible, held_tokens
from memkv.compress.evictor import Evictor
from memkv.errors import FingerprintMismatch, InvalidInput, UnsupportedModel
from memkv.live import LiveCache
from memkv.model import HybridModel
from memkv.snapshot import CacheSnapshot

# Queries whose attention weights are held at once.
BLOCK = 256


@dataclass(frozen=True)
class Heard:
    """What one attention layer was given while the model read the newest Q of S tokens.

    `queries_BHQD` and `keys_BGSD` are after RoPE; `values_BGSD`; H is a multiple of G (grouped queries). In a latent
    layer (MLA) keys and values are expanded to all heads. `scaling` multiplies the logits.
    """

    queries_BHQD: Tensor
    keys_BGSD: Tensor
    values_BGSD: Tensor
    scaling: float

    def newest(self, count: int) -> Heard:
        """The same with the newest `count` queries only."""
        return dataclasses.replace(self, queries_BHQD=self.queries_BHQD[:, :, -count:])

    def weights(self) -> Iterator[Tensor]:
        """Causal attention weights_BGRQS in float32 for blocks of queries, R = H / G."""
        batch, heads, count, width = self.queries_BHQD.shape
        groups, tokens = self.keys_BGSD.shape[1:3]
        queries = self.queries_BHQD.float().view(batch, groups, heads // groups, count, width)
        keys_BG1DS = self.keys_BGSD.float().transpose(2, 3)[:, :, None]
        columns = torch.arange(tokens, device=queries.device)
        for start in range(0, count, BLOCK):
            block = queries[..., start : start + BLOCK, :]
            rows = torch.arange(start, start + block.shape[-2], device=queries.device) + tokens - count
            logits = (block @ keys_BG1DS).mul_(self.scaling)
            yield logits.masked_fill_(columns > rows[:, None], -torch.inf).softmax(-1)


def listen(model: HybridModel, live: LiveCache, token_ids: Sequence[int]) -> dict[int, Heard]:
    """Read `token_ids` into `live`; returns layer index -> what its attention was given."""
    queries: dict[int, list[Tensor]] = {}
    latest: dict[int, tuple[Tensor, Tensor, float]] = {}

    def listener(index: int, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> None:
        index = cache_index(live, key, index)
        queries.setdefault(index, []).append(query)
        latest[index] = (key, value, scaling)

    with listening(model.hf, listener):
        model.extend(live, token_ids)
    return {index: Heard(torch.cat(parts, dim=2), *latest[index]) for index, parts in queries.items()}


def cache_index(live: LiveCache, keys: Tensor, told: int) -> int:
    """The cache layer that holds `keys` itself; where keys are computed from a latent, the index that was `told`.

    Layers that share one attention module (Zamba2) all tell the same index.
    """
    for index, layer in enumerate(live.cache.layers):
        if isinstance(layer, DynamicLayer) and layer.keys is keys:
            return index
    return told


class ReadingEvictor(Evictor):
    """An evictor that scores by queries: `model` reads the snapshot's tokens again, into a cache of its own."""

    model: HybridModel

    @abstractmethod
    def score(self, heard: Heard) -> Tensor:
        """Scores_BGS of one layer's entries, higher is better."""

    def scores(self, snapshot: CacheSnapshot) -> dict[int, Tensor]:
        """See `Evictor.scores`.

        Raises:
            InvalidInput, FingerprintMismatch, UnsupportedModel: see `check_readable`, `heard_layers`.
        """
        check_readable(self.model, snapshot)
        heard = listen(self.model, self.model.new_cache(), snapshot.token_ids)
        return per_head(snapshot, {index: self.score(heard[index]) for index in heard_layers(snapshot, heard)})


def check_readable(model: HybridModel, snapshot: CacheSnapshot) -> None:
    """Whether reading the snapshot's tokens again says something about its entries.

    Raises:
        FingerprintMismatch: the snapshot was made by another model.
        InvalidInput: entries were evicted before, so that they no longer stand for one token each.
    """
    differences = snapshot.fingerprint.differences(model.fingerprint)
    if differences:
        raise FingerprintMismatch(differences, "Give the codec the model that made the snapshot.")
    for index, layer in compressible(snapshot).items():
        if held_tokens(layer) != len(snapshot.token_ids):
            raise InvalidInput(
                f"Layer {index} holds {held_tokens(layer)} entries of {len(snapshot.token_ids)} tokens: "
                "it was evicted before, and which tokens are left is not known",
                "Use the codec streaming, or rebuild the cache from the text first.",
            )


def heard_layers(snapshot: CacheSnapshot, heard: dict[int, Heard]) -> list[int]:
    """Indices of the layers to score.

    Raises:
        UnsupportedModel: a layer's attention does not go through transformers' attention interface.
    """
    wanted = list(compressible(snapshot))
    missing = [index for index in wanted if index not in heard]
    if missing:
        raise UnsupportedModel(f"The attention of layers {missing} cannot be listened to", "Use the codec streaming.")
    return wanted


def per_head(snapshot: CacheSnapshot, scores: dict[int, Tensor]) -> dict[int, Tensor]:
    """Scores for the heads that the snapshot holds: a latent is shared by all heads, so it gets their mean."""
    result = {}
    for index, scores_BGS in scores.items():
        batch, groups, tokens = scores_BGS.shape
        heads = snapshot.layers[index].tensors["keys"].shape[1]
        result[index] = scores_BGS.view(batch, heads, groups // heads, tokens).mean(2)
    return result
