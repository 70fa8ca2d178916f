"""A conversation's cache while it is in use: the transformers cache, state kept in modules, and what was read."""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass, field

from torch import Tensor
from transformers import Cache
from transformers.cache_utils import LinearAttentionCacheLayerMixin

from memkv.cache_size import CacheSize, entries, held_entries, measure_named
from memkv.layers import AnyLayer


@dataclass
class LiveCache:
    """One conversation's working memory.

    `token_ids` is every token consumed, so its length is the next position, also after eviction, when the attention
    layers hold fewer entries. `held` is recurrent state that some models keep in their modules (RecurrentGemma).
    `next_logits` (shape V) predict the token after the last one; None until a token was read in this process.
    """

    cache: Cache
    token_ids: list[int] = field(default_factory=list)
    held: dict[str, Tensor] = field(default_factory=dict)
    next_logits: Tensor | None = None
    adapter: str | None = None
    broken: bool = False

    def __len__(self) -> int:
        """Tokens consumed."""
        return len(self.token_ids)

    def size(self) -> CacheSize:
        """Measured bytes of everything this conversation keeps in memory."""
        return measure_named([*entries(self.cache), *held_entries(self.held)])

    def fork(self) -> LiveCache:
        """An independent copy that costs the recurrent state only: attention tensors are shared until replaced."""
        cache = copy.copy(self.cache)
        cache.layers = [fork_layer(layer) for layer in self.cache.layers]
        held = {name: tensor.clone() for name, tensor in self.held.items()}
        return dataclasses.replace(self, cache=cache, token_ids=list(self.token_ids), held=held)


def fork_layer(layer: AnyLayer) -> AnyLayer:
    """Copy a cache layer; tensors that are overwritten in place are cloned, those that are replaced are shared."""
    twin = copy.copy(layer)
    if isinstance(twin, LinearAttentionCacheLayerMixin):
        for name in ("conv_states", "recurrent_states"):
            states = getattr(twin, name)
            setattr(twin, name, {i: None if state is None else state.clone() for i, state in states.items()})
        for name in (
            "is_conv_states_initialized", "is_recurrent_states_initialized", "has_previous_state", "conv_kernel_size",
        ):  # fmt: skip
            setattr(twin, name, dict(getattr(twin, name)))
    return twin
