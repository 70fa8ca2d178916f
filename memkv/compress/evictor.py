"""Base of the evictors: keep the entries with the best scores, and really let go of the others.

A method is one short file: it subclasses `Evictor` (scores from the snapshot alone) or `ReadingEvictor` (scores from
what the model asks its cache while it reads, see `memkv.compress.reading`).
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from memkv.compress.base import compressible, held_tokens, layer_bytes, too_small, within
from memkv.compress.quantizer import Quantizer
from memkv.errors import InvalidInput
from memkv.snapshot import CacheSnapshot, LayerState


class Evictor(ABC):
    """Each head chooses its own entries, every layer keeps the same number: the attention mask is shared by layers.

    The first `sinks` entries (attention sink, arXiv 2309.17453) and the newest `recent` ones are always kept. `seen`
    stays as it was, so that the next token gets its right position. `ratio` is the share of entries to keep at most.
    """

    name: ClassVar[str]
    sinks: int
    recent: int
    ratio: float

    @abstractmethod
    def scores(self, snapshot: CacheSnapshot) -> dict[int, Tensor]:
        """Layer index -> scores_BHT, higher is better, for each layer of `compressible(snapshot)`."""

    def compress(
        self, snapshot: CacheSnapshot, budget: int | None = None, then: Quantizer | None = None
    ) -> CacheSnapshot:
        """The most entries, up to `ratio` of them, with which the result (quantized by `then`) is inside `budget`.

        Raises:
            BudgetExceeded: sinks and recent entries alone are larger; `smallest` is a budget that works.
            InvalidInput: quantized already, or evicted already by a method that reads.
        """
        name = self.name if then is None else f"{self.name}+{then.name}"
        held = max((held_tokens(layer) for layer in compressible(snapshot).values()), default=0)
        most = self.most_entries(snapshot, budget, min(held, max(self.floor, int(held * self.ratio))), then, name)
        result = snapshot.replace_layers({}, self.name) if most == held else self.evict(snapshot, most)
        return within(result if then is None else then.compress(result), budget, name)

    def evict(self, snapshot: CacheSnapshot, entries: int) -> CacheSnapshot:
        """Keep `entries` entries in every layer, in their order."""
        kept = self.positions(snapshot, entries)
        layers = {index: take(snapshot.layers[index], positions) for index, positions in kept.items()}
        return snapshot.replace_layers(layers, self.name)

    def positions(self, snapshot: CacheSnapshot, entries: int) -> dict[int, Tensor]:
        """Layer index -> kept entries (BHN, ascending); a layer that holds no more than `entries` is not listed.

        Raises:
            InvalidInput: fewer entries than sinks and recent ones.
        """
        larger = {i: layer for i, layer in compressible(snapshot).items() if held_tokens(layer) > entries}
        if not larger:
            return {}
        if entries < self.floor:
            raise InvalidInput(
                f"{entries} entries are fewer than {self.sinks} sinks and {self.recent} recent ones",
                f"Keep at least {self.floor}.",
            )
        scores = self.scores(snapshot)
        return {index: self.best(scores[index], entries) for index in larger}

    def best(self, scores_BHT: Tensor, entries: int) -> Tensor:
        """The `entries` best positions (BHN, ascending), sinks and recent ones among them."""
        scores_BHT = scores_BHT.float().clone()
        scores_BHT[..., : self.sinks] = torch.inf
        scores_BHT[..., scores_BHT.shape[-1] - self.recent_of(entries) :] = torch.inf
        return scores_BHT.topk(entries, dim=-1).indices.sort(dim=-1).values

    def recent_of(self, entries: int) -> int:
        """How many of `entries` kept entries are the newest ones."""
        return self.recent

    # -- what fits

    @property
    def floor(self) -> int:
        """The fewest entries that eviction leaves."""
        return self.sinks + self.recent

    def most_entries(
        self, snapshot: CacheSnapshot, budget: int | None, most: int, then: Quantizer | None, name: str
    ) -> int:
        """The largest number of entries up to `most` whose result fits, found by measuring stand-ins.

        Raises:
            BudgetExceeded: none fits.
        """
        if budget is None or (whole := self.measure(snapshot, most, then)) <= budget:
            return most
        low, high = self.floor, most - 1
        smallest = min(whole, self.measure(snapshot, low, then)) if low <= high else whole
        if low > high or smallest > budget:
            raise too_small(budget, smallest, name)
        while low < high:
            middle = (low + high + 1) // 2
            if self.measure(snapshot, middle, then) <= budget:
                low = middle
            else:
                high = middle - 1
        return low

    def measure(self, snapshot: CacheSnapshot, entries: int, then: Quantizer | None) -> int:
        """Payload of the result with `entries` entries: real tensors of its shapes, each distinct shape once."""
        layers = compressible(snapshot)
        total = snapshot.payload - sum(layer_bytes(layer) for layer in layers.values())
        known: dict[object, int] = {}
        for layer in layers.values():
            shapes = (
                layer.kind,
                *((name, tensor.shape, tensor.dtype) for name, tensor in sorted(layer.tensors.items())),
            )
            if shapes not in known:
                result = self.stand_in(layer, entries) if entries < held_tokens(layer) else layer
                known[shapes] = layer_bytes(result if then is None else then.encode_layer(result))
            total += known[shapes]
        return total

    def stand_in(self, layer: LayerState, entries: int) -> LayerState:
        """A layer of the shapes and dtypes that keeping `entries` entries gives, whatever the entries."""
        newest = {name: layer.tensors[name][:, :, :entries] for name in by_entry(layer)}
        return dataclasses.replace(layer, tensors={**layer.tensors, **newest})


def by_entry(layer: LayerState) -> list[str]:
    """Names of the tensors with one row an entry, along dimension 2."""
    return [name for name in ("keys", "values", "key_bias") if name in layer.tensors]


def take(layer: LayerState, positions_BHN: Tensor, fitted: Mapping[str, Tensor] | None = None) -> LayerState:
    """The layer with the entries at `positions_BHN` alone; `fitted` tensors replace or join the gathered ones."""
    tensors = dict(layer.tensors)
    for name in by_entry(layer):
        tensors[name] = gather(tensors[name], positions_BHN)
    return dataclasses.replace(layer, tensors={**tensors, **(fitted or {})})


def gather(tensor: Tensor, positions_BHN: Tensor) -> Tensor:
    """Rows of BHTD, or numbers of BHT, at `positions_BHN`, in storage of their own."""
    if tensor.dim() == 3:
        return tensor.gather(2, positions_BHN)
    return tensor.gather(2, positions_BHN[..., None].expand(-1, -1, -1, tensor.shape[-1]))
