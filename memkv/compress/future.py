"""Queries as they would be at future positions, for any rotary embedding.

A rotation is linear in (cos, sin). So an attention module that is called with the *mean* of (cos, sin) over the future
positions computes each query under the mean rotation, whatever the layout of its rotary channels (half or interleaved,
partial, scaled, MLA).
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from memkv.attention import listening
from memkv.compress.reading import Heard, cache_index
from memkv.live import LiveCache
from memkv.model import HybridModel

ROTARY = "position_embeddings"
CACHES = ("past_key_values", "past_key_value")
Rotation = tuple[Tensor, ...]  # (cos, sin), each (batch, positions, rotary channels)


def listen_ahead(model: HybridModel, live: LiveCache, token_ids: Sequence[int], future: int) -> dict[int, Heard]:
    """Read `token_ids` into the empty `live` and hear the queries under the mean rotation of `future` later positions.

    A model without rotary embedding (GPT-2, Jamba) asks the same at every position: its queries are as they are.
    """
    rotations = mean_rotations(model, len(token_ids), future)
    queries: dict[int, list[Tensor]] = {}
    latest: dict[int, tuple[Tensor, Tensor, float]] = {}
    ahead: list[Tensor] = []  # queries of the inner call, until the outer call says which layer it was
    inside = False

    def listener(told: int, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> None:
        if inside:
            ahead[:] = [query]
            return
        index = cache_index(live, key, told)
        queries.setdefault(index, []).append(ahead.pop() if ahead else query)
        latest[index] = (key, value, scaling)

    def call_ahead(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        nonlocal inside
        if inside or module not in rotations:
            return
        inside = True
        try:
            here = kwargs[ROTARY][0].shape[1]
            rotation = tuple(part.expand(-1, here, -1) for part in rotations[module])
            no_cache = {name: None for name in CACHES if name in kwargs}
            module(*args, **{**kwargs, **no_cache, ROTARY: rotation, "attention_mask": None})
        finally:
            inside = False

    with hooked(rotary_modules(model), call_ahead), listening(model.hf, listener):
        model.extend(live, token_ids)
    return {index: Heard(torch.cat(parts, dim=2), *latest[index]) for index, parts in queries.items()}


@torch.no_grad()
def mean_rotations(model: HybridModel, start: int, count: int) -> dict[nn.Module, Rotation]:
    """Attention module -> mean (cos, sin) over positions `start` to `start + count`, by running the model there."""
    rotations: dict[nn.Module, Rotation] = {}

    def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        rotations[module] = tuple(part.mean(1, keepdim=True) for part in kwargs[ROTARY])

    modules = rotary_modules(model)
    if modules:
        with hooked(modules, note):
            ids = torch.zeros(1, count, dtype=torch.long, device=model.device)
            positions = torch.arange(start, start + count, device=model.device)[None]
            model.hf(input_ids=ids, position_ids=positions, use_cache=False)
    return rotations


def rotary_modules(model: HybridModel) -> list[nn.Module]:
    """The innermost modules that are given the rotary embedding: the attention modules."""
    takes = [m for m in model.hf.modules() if ROTARY in inspect.signature(m.forward).parameters]
    return [m for m in takes if not any(inner is not m and inner in takes for inner in m.modules())]


@contextmanager
def hooked(modules: Sequence[nn.Module], hook: Any) -> Iterator[None]:
    """Call `hook(module, args, kwargs)` before each of `modules` runs, while the block runs."""
    handles = [module.register_forward_pre_hook(hook, with_kwargs=True) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
