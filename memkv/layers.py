"""Between a transformers cache layer and its named tensors.

What a layer holds is read off its type (transformers.cache_utils), never off the architecture's name.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import (
    CacheLayerMixin,
    DummyLayer,
    DynamicIndexedLayer,
    DynamicLayer,
    DynamicSlidingWindowLayer,
    LinearAttentionCacheLayerMixin,
)

from memkv.errors import UnsupportedModel
from memkv.snapshot import LayerKind, LayerState


class BiasedLayer(DynamicLayer):
    """A full attention layer whose cached keys carry a bias that is added to the attention logits.

    Compaction by attention matching (arXiv 2602.16284) lets one key stand for many; the bias makes up for their
    number. `update` hands the layer to `biased_attention` on the keys it returns; new tokens get a bias of 0.
    """

    def __init__(self, key_bias_BHT: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.key_bias = key_bias_BHT
        self.bias_applied = False

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append keys and values (BHTD) and mark the returned keys as biased."""
        keys, values = super().update(key_states, value_states, *args, **kwargs)
        new = key_states.shape[-2]
        self.key_bias = torch.nn.functional.pad(self.key_bias, (0, new))
        self.bias_applied = False
        keys.biased_layer = self  # type: ignore[attr-defined]
        return keys, values


AnyLayer = CacheLayerMixin | LinearAttentionCacheLayerMixin | DummyLayer


def layer_kind(layer: AnyLayer) -> LayerKind:
    """The kind of one cache layer.

    Raises:
        UnsupportedModel: a layer type whose state memkv does not know how to store.
    """
    linear = isinstance(layer, LinearAttentionCacheLayerMixin)
    if isinstance(layer, DummyLayer):
        return "empty"
    if isinstance(layer, DynamicSlidingWindowLayer):
        return "hybrid_sliding" if linear else "sliding"
    if isinstance(layer, DynamicIndexedLayer):
        return "indexed"
    if linear:
        return "hybrid" if isinstance(layer, DynamicLayer) else "linear"
    if not isinstance(layer, DynamicLayer) or type(layer) not in (DynamicLayer, BiasedLayer):
        raise UnsupportedModel(
            f"Cache layer {type(layer).__name__} cannot be stored",
            "Use the model's default DynamicCache; memkv quantizes snapshots itself (codec int8, int4, fp8).",
        )
    keys, values = layer.keys, layer.values
    # Multi-head latent attention caches one shared latent and its rotary part in the two slots.
    if keys is not None and values is not None and keys.numel() and keys.shape[1] == values.shape[1] == 1:
        return "latent" if keys.shape[-1] != values.shape[-1] else "full"
    return "full"


def read_layer(layer: AnyLayer, seen: int) -> LayerState:
    """One layer's state after `seen` tokens, safe from what the live cache does next.

    Attention tensors are shared (the live layer replaces them, it never writes into them); a sliding layer's view of
    a larger storage and the states that are overwritten in place are copied.
    """
    kind = layer_kind(layer)
    tensors: dict[str, Tensor] = {}
    meta: dict[str, Any] = {}
    if isinstance(layer, DynamicLayer) and layer.keys is not None and layer.values is not None:
        tensors = {"keys": layer.keys.contiguous(), "values": layer.values.contiguous()}
        if kind in ("sliding", "hybrid_sliding"):
            tensors = {name: own_storage(tensor) for name, tensor in tensors.items()}
    if isinstance(layer, BiasedLayer):
        tensors["key_bias"] = layer.key_bias
    if isinstance(layer, DynamicIndexedLayer):
        if layer.indexer_keys is not None:
            tensors["indexer_keys"] = layer.indexer_keys.contiguous()
        if layer.indexer_position_ids is not None:
            tensors["indexer_position_ids"] = layer.indexer_position_ids.contiguous()
    if isinstance(layer, LinearAttentionCacheLayerMixin):
        for index in range(layer.number_of_states):
            if (conv := layer.conv_states[index]) is not None:
                tensors[f"conv.{index}"] = conv.clone()
            if (recurrent := layer.recurrent_states[index]) is not None:
                tensors[f"recurrent.{index}"] = recurrent.clone()
        meta["has_previous_state"] = [layer.has_previous_state[i] for i in range(layer.number_of_states)]
    return LayerState(kind, seen, tensors, meta)


def own_storage(tensor: Tensor) -> Tensor:
    """The same numbers in a storage no larger than they need."""
    held = tensor.untyped_storage().nbytes()
    return tensor.clone() if held > tensor.numel() * tensor.element_size() else tensor


def fill_layer(layer: AnyLayer, state: LayerState) -> AnyLayer:
    """Put `state` into a fresh layer of the same kind; returns the layer to use (a biased one where there is a bias).

    Raises:
        UnsupportedModel: the fresh layer is of another kind than the stored one.
    """
    tensors = state.tensors
    if "key_bias" in tensors:
        if type(layer) is not DynamicLayer:
            raise UnsupportedModel(
                f"A key bias cannot be used in a {type(layer).__name__}", "Restore with the model that made it."
            )
        layer = BiasedLayer(tensors["key_bias"])
    if isinstance(layer, DynamicLayer) and "keys" in tensors:
        keys, values = tensors["keys"], tensors["values"]
        # lazy_initialization sets dtype and device; the assignment after it spares `update`'s copy of everything.
        layer.lazy_initialization(keys[..., :0, :], values[..., :0, :])
        layer.keys, layer.values = keys, values
    if isinstance(layer, DynamicSlidingWindowLayer):
        layer.cumulative_length = state.seen
    if isinstance(layer, DynamicIndexedLayer) and "indexer_keys" in tensors:
        layer.lazy_initialization_indexer(tensors["indexer_keys"][:, :0])
        layer.indexer_keys = tensors["indexer_keys"]
        layer.indexer_position_ids = tensors.get("indexer_position_ids")
    if isinstance(layer, LinearAttentionCacheLayerMixin):
        for index in range(layer.number_of_states):
            # Through the update calls: they allocate and *copy*, so the snapshot is not written to later.
            if f"conv.{index}" in tensors:
                layer.update_conv_state(tensors[f"conv.{index}"], state_idx=index)
            if f"recurrent.{index}" in tensors:
                layer.update_recurrent_state(tensors[f"recurrent.{index}"], state_idx=index)
            layer.has_previous_state[index] = bool(state.meta["has_previous_state"][index])
    return layer
