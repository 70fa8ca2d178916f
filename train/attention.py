"""Attention for groups of queries that share a key, without copies of the keys.

transformers' eager attention, and SDPA under a mask, copy keys and values as often as a head of theirs is shared (three
times in SmolLM2) before they multiply, with every token that is written. Here the queries that share a head are rows of
one product.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, eager_mask

from memkv.errors import UnsupportedModel

GROUPED = "grouped"
UNKNOWN = ("softcap", "s_aux")  # what some architectures ask for beyond a mask and a scale


def grouped_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Softmax attention; query BHTD, key and value BGSD with G key heads, mask B1TS is added to the logits.

    Raises:
        UnsupportedModel: the model asks for attention of another kind.
    """
    if asked := [name for name in UNKNOWN if kwargs.get(name) is not None]:
        raise UnsupportedModel(f"Grouped attention has no {asked[0]}", "Set machine.attention to eager.")
    batch, heads, tokens, width = query.shape
    groups, length = key.shape[1:3]
    rows = query.reshape(batch, groups, heads // groups * tokens, width)
    logits = (rows @ key.transpose(2, 3)).view(batch, groups, heads // groups, tokens, length)
    logits = logits * (width**-0.5 if scaling is None else scaling)
    if attention_mask is not None:
        logits = logits + attention_mask[:, :, None]
    weights = torch.softmax(logits, -1, dtype=torch.float32).to(query.dtype)
    weights = torch.nn.functional.dropout(weights, dropout, module.training)
    read = weights.view(batch, groups, heads // groups * tokens, length) @ value
    return read.view(batch, heads, tokens, -1).transpose(1, 2).contiguous(), None


def offer_grouped_attention() -> None:
    """Make it known to transformers under its name."""
    AttentionInterface.register(GROUPED, grouped_attention)
    AttentionMaskInterface.register(GROUPED, eager_mask)
