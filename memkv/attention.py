"""Two attention functions beside transformers' own: one that adds per-key biases, one that lets a caller listen.

Both call transformers' SDPA function, so that without a bias the numbers are the same to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

BIASED = "memkv_biased"
RECORDING = "memkv_recording"

# (layer index, queries_BHTD after RoPE, keys_BHTD, values_BHTD, scaling); H of keys and values may be smaller (GQA).
Listener = Callable[[int, Tensor, Tensor, Tensor, float], None]


def biased_attention(
    module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, Tensor | None]:
    """SDPA with `BiasedLayer.key_bias` (BHT, H key heads) added to the logits of the cached keys.

    Shapes: query BHTD, key and value BGSD with G key heads.
    """
    layer = getattr(key, "biased_layer", None)  # set by BiasedLayer.update on the very tensor it returns
    if layer is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    bias_BHS = layer.key_bias.to(query.dtype).repeat_interleave(query.shape[1] // key.shape[1], dim=1)
    bias_BHTS = bias_BHS[:, :, None, :].expand(-1, -1, query.shape[2], -1)
    layer.bias_applied = True
    return sdpa_attention_forward(module, query, key, value, attention_mask, position_bias=bias_BHTS, **kwargs)


def use_biased_attention(model: PreTrainedModel) -> None:
    """Switch `model` to `biased_attention`, for good: unbiased caches get the same bits as before."""
    AttentionInterface.register(BIASED, biased_attention)
    AttentionMaskInterface.register(BIASED, sdpa_mask)
    model.set_attn_implementation(BIASED)


@contextmanager
def listening(model: PreTrainedModel, listener: Listener) -> Iterator[None]:
    """Call `listener` with the inputs of every attention layer while the block runs."""

    def recording_attention(
        module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **kwargs: Any
    ) -> tuple[Tensor, Tensor | None]:
        scaling = kwargs.get("scaling")
        layer = int(module.layer_idx)  # type: ignore[arg-type]  # every attention module of transformers has one
        listener(layer, query, key, value, query.shape[-1] ** -0.5 if scaling is None else scaling)
        return biased_attention(module, query, key, value, mask, **kwargs)

    before = model.config._attn_implementation
    AttentionInterface.register(RECORDING, recording_attention)
    AttentionMaskInterface.register(RECORDING, sdpa_mask)
    model.set_attn_implementation(RECORDING)
    try:
        yield
    finally:
        model.set_attn_implementation(before)
