"""What a recurrent layer's state becomes when a stretch that was read apart follows another state.

The state after a stretch is linear in the state before it: `end' = end + D (start' - start)`. For Mamba-1 and Mamba-2
(arXiv 2312.00752, 2405.21060) D scales every number, by one factor a head or by one each; for gated DeltaNet (arXiv
2412.06464) it is a matrix a head. D is measured: the layer goes over the inputs that it was given once more, from a
start that is larger by a known state, and what is different at the end shows D. Which form it has is found out with a
start of random numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import Cache

from memkv.layers import fill_layer, read_layer
from memkv.live import LiveCache
from memkv.model import HybridModel
from memkv.snapshot import LayerState

PUSH = 1024.0  # by which a start is moved: large beside what the layer writes, so that D keeps its digits
CONSTANT = 1e-3  # relative difference up to which factors are one


class Transition(Protocol):
    """A form of D."""

    def push(self, state: Tensor) -> Tensor:
        """What is added to a start so that the difference at the end shows D."""

    def read(self, difference: Tensor) -> Tensor:
        """D from what `push` made of the end, in fp32."""

    def carry(self, transition: Tensor, state: Tensor) -> Tensor:
        """D times a state, in fp32."""


@dataclass(frozen=True)
class Scaling:
    """Every number is scaled: `constant` are the axes along which the factors are the same (Mamba-2: all but heads)."""

    constant: tuple[int, ...] = ()

    def push(self, state: Tensor) -> Tensor:
        """See `Transition`."""
        return torch.full_like(state, PUSH)

    def read(self, difference: Tensor) -> Tensor:
        """See `Transition`."""
        factors = difference.float() / PUSH
        return factors.mean(self.constant, keepdim=True) if self.constant else factors

    def carry(self, transition: Tensor, state: Tensor) -> Tensor:
        """See `Transition`."""
        return transition * state.float()


@dataclass(frozen=True)
class Mixing:
    """The rows of a head's matrix are mixed by a matrix, for states BHKV with no fewer columns than rows (DeltaNet)."""

    def push(self, state: Tensor) -> Tensor:
        """See `Transition`."""
        return PUSH * torch.eye(*state.shape[-2:], dtype=state.dtype, device=state.device).expand_as(state)

    def read(self, difference: Tensor) -> Tensor:
        """See `Transition`."""
        return difference.float()[..., : difference.shape[-2]] / PUSH

    def carry(self, transition: Tensor, state: Tensor) -> Tensor:
        """See `Transition`."""
        return transition @ state.float()


@dataclass(frozen=True)
class Call:
    """One call of a module."""

    module: nn.Module
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


@dataclass
class Record:
    """The calls in which each layer asked for its recurrent state, while `cache` was written."""

    cache: Cache
    calls: dict[int, list[Call]] = field(default_factory=dict)

    def again(self, model: HybridModel, index: int, start: LayerState) -> LayerState:
        """Layer `index` after the same inputs from another start."""
        fresh = model.new_cache().cache
        fresh.layers[index] = fill_layer(fresh.layers[index], start)
        with torch.no_grad():
            for call in self.calls[index]:
                args = [fresh if each is self.cache else each for each in call.args]
                call.module(*args, **{k: fresh if each is self.cache else each for k, each in call.kwargs.items()})
        return read_layer(fresh.layers[index], start.seen)


@contextmanager
def recorded(model: HybridModel, live: LiveCache) -> Iterator[Record]:
    """Notes what the recurrent layers are given while something is read into `live`."""
    record = Record(live.cache)
    inside: list[Call] = []

    def enter(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        inside.append(Call(module, args, kwargs))

    def leave(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        inside.pop()

    ask = live.cache.get_recurrent_state

    def asked(layer_idx: int, *args: Any, **kwargs: Any) -> Tensor | None:
        calls = record.calls.setdefault(layer_idx, [])
        if not calls or calls[-1] is not inside[-1]:
            calls.append(inside[-1])
        return ask(layer_idx, *args, **kwargs)

    hooks = [module.register_forward_pre_hook(enter, with_kwargs=True) for module in model.hf.modules()]
    hooks += [module.register_forward_hook(leave) for module in model.hf.modules()]
    live.cache.get_recurrent_state = asked  # type: ignore[method-assign]
    try:
        yield record
    finally:
        del live.cache.get_recurrent_state
        for hook in hooks:
            hook.remove()


def recurrent(state: LayerState) -> list[str]:
    """Names of the recurrent states of a layer."""
    return [name for name in sorted(state.tensors) if name.startswith("recurrent.")]


def shifted(state: LayerState, by: Mapping[str, Tensor]) -> LayerState:
    """A layer's state with something added to some of its tensors."""
    return replace(state, tensors={**state.tensors, **{name: state.tensors[name] + by[name] for name in by}})


def measure(
    model: HybridModel, record: Record, index: int, start: LayerState, end: LayerState, forms: Mapping[str, Transition]
) -> dict[str, Tensor]:
    """D of each recurrent state of layer `index` for the inputs in `record`."""
    pushed = record.again(model, index, shifted(start, {n: forms[n].push(start.tensors[n]) for n in recurrent(start)}))
    return {name: forms[name].read(pushed.tensors[name] - end.tensors[name]) for name in recurrent(start)}


def find_form(
    model: HybridModel, record: Record, index: int, start: LayerState, end: LayerState, bound: float
) -> dict[str, Transition] | None:
    """The form of D of each recurrent state of a layer; None where none foretells what a random start leads to."""
    generator = torch.Generator().manual_seed(0)
    random = {
        name: torch.randn(start.tensors[name].shape, generator=generator).to(start.tensors[name])
        for name in recurrent(start)
    }
    reached = record.again(model, index, shifted(start, random))
    for form in candidates([start.tensors[name] for name in random]):
        forms = dict.fromkeys(random, form)
        found = measure(model, record, index, start, end, forms)
        off = max(
            float((form.carry(found[n], random[n]) - (reached.tensors[n] - end.tensors[n]).float()).abs().max())
            for n in random
        )
        if off <= bound:
            return {n: Scaling(constant_axes(found[n])) if isinstance(form, Scaling) else form for n in random}
    return None


def candidates(states: Sequence[Tensor]) -> list[Transition]:
    """Forms that states of these shapes may have."""
    square = all(state.dim() == 4 and state.shape[-1] >= state.shape[-2] for state in states)
    return [Scaling(), *([Mixing()] if square else [])]


def constant_axes(factors: Tensor) -> tuple[int, ...]:
    """Axes, but for the batch, along which factors are the same."""
    largest = float(factors.abs().max())
    spread = [float((factors - factors.narrow(axis, 0, 1)).abs().max()) for axis in range(1, factors.dim())]
    return tuple(axis for axis, each in enumerate(spread, 1) if each <= CONSTANT * largest)
