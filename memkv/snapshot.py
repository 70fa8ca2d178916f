"""A cache at a recorded boundary: named tensors, the token ids behind them, and what made them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

FORMAT_VERSION = 1

# What a layer's cache holds; read off the type of the transformers cache layer, never off the architecture's name.
LayerKind = Literal["full", "sliding", "latent", "indexed", "linear", "hybrid", "hybrid_sliding", "empty"]

# Layers whose attention KV grows with the conversation, so that a codec may shrink it.
COMPRESSIBLE: frozenset[str] = frozenset({"full", "latent", "hybrid"})


@dataclass(frozen=True)
class Fingerprint:
    """What must be equal for a stored cache to be continued by a running model. All fields are text."""

    weights: str
    adapter: str
    tokenizer: str
    chat_template: str
    dtype: str
    rope: str
    cache_layout: str
    format_version: str = str(FORMAT_VERSION)

    def differences(self, running: Fingerprint) -> dict[str, tuple[str, str]]:
        """Field -> (stored here, in `running`) for every field that differs."""
        pairs = {f.name: (getattr(self, f.name), getattr(running, f.name)) for f in dataclasses.fields(self)}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


@dataclass(frozen=True)
class LayerState:
    """One layer's tensors by name.

    Plain names: `keys` and `values` (BHTD; a latent layer keeps its latent in `keys` and the rotary part in `values`,
    with different D), `key_bias` (BHT, added to the attention logits), `indexer_keys`, `conv.N`, `recurrent.N`.
    A quantizing codec replaces `keys` and `values` by names of its own and describes them in `meta`.
    `seen` is how many tokens the layer has consumed, which after eviction is more than it holds.
    """

    kind: LayerKind
    seen: int
    tensors: Mapping[str, Tensor]
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class CacheSnapshot:
    """A whole cache, detached from the live one: nothing in it is written to again.

    `token_ids` are the tokens consumed so far (their number is the next position), `held` is state that the model
    keeps in its modules instead of in the cache (RecurrentGemma), `codecs` names what was applied, in order.
    """

    layers: tuple[LayerState, ...]
    token_ids: tuple[int, ...]
    fingerprint: Fingerprint
    held: Mapping[str, Tensor] = field(default_factory=dict)
    codecs: tuple[str, ...] = ()

    def named_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """(`layers.3.keys`, tensor) for every tensor, in a fixed order."""
        for index, layer in enumerate(self.layers):
            for name in sorted(layer.tensors):
                yield f"layers.{index}.{name}", layer.tensors[name]
        for name in sorted(self.held):
            yield f"held.{name}", self.held[name]

    @property
    def payload(self) -> int:
        """Bytes that the numbers need: the sum over all tensors, scales and biases included."""
        return sum(tensor.numel() * tensor.element_size() for _, tensor in self.named_tensors())

    def to(self, device: torch.device) -> CacheSnapshot:
        """The same snapshot on `device`; itself where it is there already."""
        if all(tensor.device == device for _, tensor in self.named_tensors()):
            return self
        layers = tuple(
            dataclasses.replace(layer, tensors={name: tensor.to(device) for name, tensor in layer.tensors.items()})
            for layer in self.layers
        )
        held = {name: tensor.to(device) for name, tensor in self.held.items()}
        return dataclasses.replace(self, layers=layers, held=held)

    def replace_layers(self, layers: Mapping[int, LayerState], codec: str) -> CacheSnapshot:
        """The same snapshot with some layers exchanged and `codec` noted as applied."""
        merged = tuple(layers.get(index, layer) for index, layer in enumerate(self.layers))
        return dataclasses.replace(self, layers=merged, codecs=(*self.codecs, codec))


def same_tensors(one: CacheSnapshot, other: CacheSnapshot) -> bool:
    """Whether both hold the same names and bit-equal tensors."""
    left, right = dict(one.named_tensors()), dict(other.named_tensors())
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)
