"""What a stored layer must look like to be put into a running model: learnt from a real forward pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from memkv.errors import DamagedBlob
from memkv.snapshot import CacheSnapshot, LayerState

# Slots whose token axis may have any length; all others have a fixed shape.
TOKEN_AXIS = {"keys": -2, "values": -2, "indexer_keys": 1, "indexer_position_ids": -1}


@dataclass(frozen=True)
class LayerLayout:
    """Kind, and for each tensor its shape (token axis -1) and dtype, of one layer of a running model."""

    kind: str
    tensors: dict[str, tuple[tuple[int, ...], torch.dtype]]
    states: int


def layout_of(state: LayerState) -> LayerLayout:
    """The layout that a real layer state shows."""
    named = {name: (free_shape(name, t.shape), t.dtype) for name, t in state.tensors.items() if name != "key_bias"}
    return LayerLayout(state.kind, named, len(state.meta.get("has_previous_state", [])))


def free_shape(name: str, shape: Sequence[int]) -> tuple[int, ...]:
    """`shape` with the token axis, if the slot has one, replaced by -1."""
    sizes = list(shape)
    if name in TOKEN_AXIS:
        sizes[TOKEN_AXIS[name]] = -1
    return tuple(sizes)


HeldLayout = dict[str, tuple[tuple[int, ...], torch.dtype]]


def held_layout(held: Mapping[str, Tensor]) -> HeldLayout:
    """Shape and dtype of each state that the model keeps in its modules."""
    return {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in held.items()}


def check_layout(snapshot: CacheSnapshot, layouts: Sequence[LayerLayout], held: HeldLayout) -> None:
    """Refuse a snapshot whose tensors this model did not make, before any of them is used.

    Raises:
        DamagedBlob: the first layer that does not fit is named.
    """
    if len(snapshot.layers) != len(layouts):
        raise unfit(f"it has {len(snapshot.layers)} layers, the model {len(layouts)}")
    if held_layout(snapshot.held) != held:
        raise unfit("the state that the model keeps in its modules is not in it")
    lengths: set[int] = set()
    for index, (state, layout) in enumerate(zip(snapshot.layers, layouts, strict=True)):
        states = state.meta.get("has_previous_state", [])
        if not isinstance(states, list) or len(states) != layout.states:
            raise unfit(f"layer {index} does not say which of its states are set")
        if layout_of(state) != layout:
            raise unfit(f"layer {index} does not have the tensors of this model")
        if "keys" not in state.tensors:
            continue
        kept = state.tensors["keys"].shape[-2]
        bias = state.tensors.get("key_bias")
        if state.tensors["values"].shape[-2] != kept or kept > state.seen:
            raise unfit(f"layer {index} has {kept} keys after {state.seen} tokens and another number of values")
        if bias is not None and bias.shape != state.tensors["keys"].shape[:-1]:
            raise unfit(f"layer {index} has a key bias of another shape than its keys")
        if "sliding" not in state.kind:
            lengths.add(kept)
    # One causal mask serves all growing layers, so they must hold the same number of entries.
    if len(lengths) > 1:
        raise unfit(f"its attention layers hold different numbers of entries: {sorted(lengths)}")


def unfit(what: str) -> DamagedBlob:
    """The error for a snapshot whose content does not fit the model that its fingerprint names."""
    return DamagedBlob(f"The snapshot is damaged: {what}", "The cache will be rebuilt from the stored text.")
