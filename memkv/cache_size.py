"""The core: bytes of a cache, read off its real tensors, and the law by which they grow.

`measure` walks the tensors that a transformers cache holds, or any nested list, tuple or dict of tensors. `profile`
runs an architecture at several lengths (on torch's meta device when it is only a configuration), fits
`fixed + per_token * n + window_bytes * min(n, window)` to what it read, and checks that law at lengths it did not fit.
Nothing here is computed from a configuration's fields.

Two sizes are kept apart. `payload` is what the numbers need: numel * element_size of every state tensor. `resident` is
what the allocator holds: each untyped storage once, whole, so that a sliding layer's view of a larger storage, or
two layers sharing one tensor, are seen as what they are.
"""

from __future__ import annotations

import copy
import inspect
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass
from transformers import AutoModelForCausalLM, Cache, DynamicCache, PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import CacheLayerMixin, LinearAttentionCacheLayerMixin

from memkv.errors import UnsupportedModel

Kind = Literal["attention", "window", "latent", "indexer", "recurrent", "conv", "scale", "bias", "other"]

# One tensor of a cache: (layer, kind, tensor). Layer -1 is state that no single layer owns. Kind None is bookkeeping
# (a window size kept as a tensor, a counter): the allocator holds it, but it is no part of the state.
Entry = tuple[int, "Kind | None", Tensor]

# Attribute of a cache layer -> kind; `keys` and `values` depend on the layer, see `_kv_kind`.
ATTRIBUTE_KINDS: dict[str, Kind | None] = {
    "indexer_keys": "indexer",
    "indexer_position_ids": "indexer",
    "conv_states": "conv",
    "recurrent_states": "recurrent",
    "key_bias": "bias",
    "_sliding_window_tensor": None,
    "cumulative_length": None,
    "indexer_cumulative_length": None,
    "_pending_beam_idx": None,
}
# Steps inside a quantized slot that lead to the packed numbers; every other tensor there is a scale or a zero point.
# transformers keeps (data, scale) for fp8, (data, meta) for hqq, and one wrapper tensor for quanto.
PACKED_STEPS = frozenset({"0", "_data"})
# The prompt length, in tokens, at which a profile's law is checked.
CHECKED = 23


@dataclass(frozen=True)
class LayerSize:
    """Bytes of one layer; `index` -1 collects what no single layer owns. A storage shared by two layers is in both."""

    index: int
    by_kind: Mapping[Kind, int]
    payload: int
    resident: int


@dataclass(frozen=True)
class CacheSize:
    """Bytes of one live cache. `by_kind` and `by_dtype` split `payload`; `resident` counts every storage once."""

    layers: tuple[LayerSize, ...]
    by_kind: Mapping[Kind, int]
    by_dtype: Mapping[str, int]
    payload: int
    resident: int


@dataclass(frozen=True)
class Law:
    """Bytes of one kind: `fixed + per_token * min(n, window)`; `window` is in tokens, None where nothing bounds it."""

    kind: Kind
    fixed: int
    per_token: int
    window: int | None = None

    def at(self, n_tokens: int) -> int:
        """Bytes after `n_tokens`, at least one."""
        return self.fixed + self.per_token * (n_tokens if self.window is None else min(n_tokens, self.window))


@dataclass(frozen=True)
class CacheProfile:
    """How one sequence's cache grows, as measured.

    `layers` names each layer's kinds, `lengths` are the token counts that were run. If `exact` is False the laws missed
    at least one of them, and `note` says where: then `at` is an estimate.
    """

    laws: tuple[Law, ...]
    layers: tuple[tuple[Kind, ...], ...]
    lengths: tuple[int, ...]
    dtype: str
    exact: bool
    note: str = ""

    def at(self, n_tokens: int) -> int:
        """Bytes of the cache after `n_tokens`, at least one."""
        return sum(law.at(n_tokens) for law in self.laws)

    def by_kind_at(self, n_tokens: int) -> dict[Kind, int]:
        """The bytes of `at`, by kind."""
        sizes: Counter[Kind] = Counter()
        for law in self.laws:
            sizes[law.kind] += law.at(n_tokens)
        return dict(sizes)

    @property
    def per_token(self) -> int:
        """Bytes that each further token costs without end; windowed layers, once full, add nothing."""
        return sum(law.per_token for law in self.laws if law.window is None)

    @property
    def fixed(self) -> int:
        """Bytes held from the first token on, whatever the length; windows are not in it."""
        return sum(law.fixed for law in self.laws)

    @property
    def windows(self) -> dict[int, int]:
        """Window in tokens -> bytes a token while it fills."""
        sizes: Counter[int] = Counter()
        for law in self.laws:
            if law.window is not None:
                sizes[law.window] += law.per_token
        return dict(sizes)


def measure(cache: object, plain: Kind = "other") -> CacheSize:
    """Bytes of `cache` by its real tensors.

    Args:
        cache: any transformers cache, or a nested list, tuple or dict of tensors (RWKV's `state`).
        plain: the kind of tensors that are not inside a cache layer.
    """
    return measure_named(entries(cache, plain))


def measure_named(entries: Iterable[tuple[int, Kind | None, Tensor]]) -> CacheSize:
    """Bytes of (layer, kind, tensor) entries; what `measure` builds on, and what snapshots and held state use."""
    flat = [(layer, kind, part) for layer, kind, tensor in entries for _, part in _tensors(tensor)]
    by_layer: dict[int, list[tuple[Kind | None, Tensor]]] = {}
    by_dtype: Counter[str] = Counter()
    for layer, kind, tensor in flat:
        by_layer.setdefault(layer, []).append((kind, tensor))
        if kind is not None:
            by_dtype[str(tensor.dtype).removeprefix("torch.")] += tensor.nbytes
    layers = tuple(_layer_size(index, by_layer[index]) for index in sorted(by_layer))
    by_kind: Counter[Kind] = Counter()
    for size in layers:
        by_kind.update(size.by_kind)
    return CacheSize(
        layers=layers,
        by_kind=dict(by_kind),
        by_dtype=dict(by_dtype),
        payload=sum(by_kind.values()),
        resident=_resident(tensor for _, _, tensor in flat),
    )


def entries(cache: object, plain: Kind = "other") -> Iterator[Entry]:
    """(layer, kind, tensor) for every tensor that `cache` holds; see `measure` for the arguments."""
    if isinstance(cache, Cache):
        for name, value in vars(cache).items():
            if isinstance(value, Cache):  # EncoderDecoderCache holds two
                yield from entries(value, plain)
            elif name == "layers":
                for index, layer in enumerate(value):
                    yield from _layer_entries(index, layer)
            else:
                yield from ((-1, plain, tensor) for _, tensor in _tensors(value))
        return
    parts: Any = list(cache.values()) if isinstance(cache, Mapping) else cache
    if not isinstance(parts, (list, tuple)):
        parts = [parts]
    for index, part in enumerate(parts):
        owner = -1 if isinstance(part, Tensor) else index  # a bare tensor in a flat list spans the layers, as RWKV's do
        yield from ((owner, plain, tensor) for _, tensor in _tensors(part))


def find_module_state(model: nn.Module, forward: Callable[[], object]) -> tuple[tuple[str, str], ...]:
    """(module name, attribute) of every plain tensor attribute that each forward pass writes.

    RecurrentGemma keeps its recurrent and conv state there, outside the cache; parameters and buffers are none.
    `forward` is called twice: a constant that the first pass builds and later ones reuse is no state.
    """
    forward()
    before = {slot: (tensor, None if tensor.is_inference() else tensor._version) for slot, tensor in _attributes(model)}
    forward()
    return tuple(slot for slot, tensor in _attributes(model) if slot not in before or _written(tensor, *before[slot]))


def read_module_state(model: nn.Module, slots: Iterable[tuple[str, str]]) -> dict[str, Tensor]:
    """`module.attribute` -> tensor, the live one, for the `slots` of `find_module_state` that hold one now."""
    held = {f"{module}.{name}": getattr(model.get_submodule(module), name) for module, name in slots}
    return {name: value for name, value in held.items() if isinstance(value, Tensor)}


def held_entries(held: Mapping[str, Tensor]) -> Iterator[Entry]:
    """The entries of `read_module_state`'s answer; the layer is the first number in a module's name."""
    for name, tensor in held.items():
        layer = next((int(part) for part in name.split(".") if part.isdigit()), -1)
        yield layer, "conv" if "conv" in name.rpartition(".")[2] else "recurrent", tensor


def profile(
    model: PreTrainedModel | PreTrainedConfig,
    dtype: torch.dtype = torch.bfloat16,
    longest: int = 16_384,
    on_run: Callable[[int, object], object] = lambda n_tokens, cache: None,
) -> CacheProfile:
    """The law of a model's cache, by running it and reading the tensors.

    A configuration is built on the meta device: every layer, no weights. A loaded model runs as it is, on its own
    device; state that it holds in its modules is put back afterwards.

    Args:
        model: a causal LM or its configuration.
        dtype: of the meta model; a loaded model keeps its own.
        longest: windows longer than this are not run to their end, and the profile says so.
        on_run: called with (tokens, live cache) after each run.

    Raises:
        UnsupportedModel: the forward pass takes no cache and returns no state.
    """
    if isinstance(model, PreTrainedConfig):
        return profile(meta_model(model, dtype), longest=longest, on_run=on_run)
    held = {slot: tensor.clone() for slot, tensor in _attributes(model)}
    windows = _windows(model)
    fit: tuple[int, ...] = _short_lengths(windows)
    full = [window for window in windows if window <= longest]
    prompts = iter(fit)
    runs: dict[int, CacheSize] = {}

    def run(n_tokens: int, slots: tuple[tuple[str, str], ...] = (), decode: int = 0) -> None:
        for total, state in prefill(model, n_tokens, decode):
            on_run(total, state)
            runs[total] = measure_named(
                [*entries(state, plain="recurrent"), *held_entries(read_module_state(model, slots))]
            )

    slots = find_module_state(model, lambda: run(next(prompts)))
    if slots:  # the first two runs did not know of the state outside the cache
        for n_tokens in fit:
            run(n_tokens, slots)
    run(CHECKED, slots)
    if full:
        run(max(full) + 1, slots, decode=1)
        fit = (*fit, max(full) + 1)
    for module, name in slots:
        setattr(model.get_submodule(module), name, held.get((module, name)))
    unfilled = [window for window in windows if window > longest]
    note = f"windows of {unfilled} tokens were not filled: the law holds below them" if unfilled else ""
    return _fit(runs, fit, str(model.dtype).removeprefix("torch."), note)


def _windows(model: PreTrainedModel) -> list[int]:
    """Sizes of the sliding windows that the cache's layers name, if any.

    They only choose where to look; what is really kept (transformers keeps window - 1 entries) is measured.
    """
    if _cache_argument(model) is None:
        return []
    layers = DynamicCache(config=model.config).layers
    return sorted({layer.get_max_length() for layer in layers if layer.get_max_length() > 0})


def _short_lengths(windows: list[int]) -> tuple[int, int]:
    """Two prompt lengths below every window, short because some architectures loop over tokens in Python."""
    long = max(2, min([7, *(window - 1 for window in windows)]))
    return max(1, long - 3), long


def _cache_argument(model: PreTrainedModel) -> str | None:
    """The argument that takes a cache; None where the model returns a state of its own (RWKV). Some take **kwargs."""
    accepted = inspect.signature(model.forward).parameters
    if "cache_params" in accepted:
        return "cache_params"
    anything = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in accepted.values())
    return "past_key_values" if "past_key_values" in accepted or (anything and "state" not in accepted) else None


def _fit(runs: Mapping[int, CacheSize], fit: tuple[int, ...], dtype: str, note: str) -> CacheProfile:
    """Laws per layer and kind from the lengths in `fit`, summed over layers, tried on every length in `runs`."""
    sizes = {
        n_tokens: {(layer.index, kind): size for layer in run.layers for kind, size in layer.by_kind.items()}
        for n_tokens, run in runs.items()
    }
    short, long, *beyond = fit
    laws: dict[tuple[Kind, int | None], Law] = {}
    misses = [note] if note else []
    for layer, kind in sorted(set().union(*sizes.values())):
        seen = {n: sizes[n].get((layer, kind), 0) for n in runs}
        per_token = (seen[long] - seen[short]) // (long - short)
        law = Law(kind, seen[short] - per_token * short, per_token)
        if beyond and per_token and seen[beyond[0]] < law.at(beyond[0]):
            law = Law(kind, law.fixed, per_token, (seen[beyond[0]] - law.fixed) // per_token)
        wrong = next((n for n in runs if law.at(n) != seen[n]), None)
        if wrong is not None:
            misses.append(f"layer {layer}, {kind}: {seen[wrong]} bytes at {wrong} tokens, the law says {law.at(wrong)}")
        same = laws.get((kind, law.window), Law(kind, 0, 0, law.window))
        laws[kind, law.window] = Law(kind, same.fixed + law.fixed, same.per_token + law.per_token, law.window)
    names = {layer.index: tuple(sorted(layer.by_kind)) for layer in runs[max(runs)].layers if layer.by_kind}
    return CacheProfile(
        laws=tuple(laws.values()),
        layers=tuple(names[index] for index in sorted(names)),
        lengths=tuple(sorted(runs)),
        dtype=dtype,
        exact=not misses,
        note="; ".join(misses[:3]),
    )


def meta_model(config: PreTrainedConfig, dtype: torch.dtype) -> PreTrainedModel:
    """Every layer of the architecture, no weights. Nothing in it may depend on a tensor's values: meta has none."""
    config = copy.deepcopy(config)
    config.pad_token_id = None  # GPT-2 looks for padding among the ids
    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(
            config,
            dtype=dtype,
            experts_implementation="batched_mm",  # grouped_mm takes only bf16 there, and eager reads the routing
        )
    model.eval()
    return model


def prefill(model: PreTrainedModel, n_tokens: int, decode: int = 0) -> Iterator[tuple[int, object]]:
    """(tokens so far, live cache) after a prompt of `n_tokens` from nothing, and after each of `decode` tokens more.

    Raises:
        UnsupportedModel: the forward pass takes no cache and returns no state.
    """
    argument = _cache_argument(model)
    cache = DynamicCache(config=model.config) if argument else None
    for total in range(n_tokens, n_tokens + decode + 1):
        ids_BT = torch.ones((1, n_tokens if total == n_tokens else 1), dtype=torch.long, device=model.device)
        with torch.no_grad():
            output = model(input_ids=ids_BT, use_cache=True, **({argument: cache} if argument else {}))
        state = cache if argument else output.get("state")
        if not any(True for _ in entries(state)):
            raise UnsupportedModel(
                f"{type(model).__name__} takes no cache and returns no state", "Use a model with a transformers cache."
            )
        yield total, state


def _layer_entries(index: int, layer: Any) -> Iterator[Entry]:
    """The tensors of one cache layer; everything in a class that is no transformers cache layer is `other`."""
    known = isinstance(layer, (CacheLayerMixin, LinearAttentionCacheLayerMixin))
    for name, value in vars(layer).items():
        for steps, tensor in _tensors(value):
            if not known:
                yield index, "other", tensor
            elif name in ("keys", "values"):
                yield index, _kv_kind(layer), tensor
            elif name.startswith("_quantized_"):
                yield index, "attention" if PACKED_STEPS.issuperset(steps) else "scale", tensor
            else:
                yield index, ATTRIBUTE_KINDS.get(name, "other"), tensor


def _kv_kind(layer: Any) -> Kind:
    """What the slots `keys` and `values` hold. MLA keeps one head: the latent, and the rotary part of another size."""
    if getattr(layer, "is_sliding", False):
        return "window"
    keys, values = layer.keys, layer.values
    if isinstance(keys, Tensor) and isinstance(values, Tensor) and keys.dim() == values.dim() == 4:
        if keys.shape[1] == values.shape[1] == 1 and keys.shape[-1] != values.shape[-1]:
            return "latent"
    return "attention"


def _tensors(value: object, steps: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Tensor]]:
    """(steps, plain tensor) for each one inside nested containers and wrapper tensors such as quanto's."""
    if isinstance(value, Tensor):
        if is_traceable_wrapper_subclass(value):
            for name in value.__tensor_flatten__()[0]:
                yield from _tensors(getattr(value, name), (*steps, name))
        else:
            yield steps, value
    elif isinstance(value, Mapping):
        for name, part in value.items():
            yield from _tensors(part, (*steps, str(name)))
    elif isinstance(value, (list, tuple)):
        for number, part in enumerate(value):
            yield from _tensors(part, (*steps, str(number)))


def _layer_size(index: int, tensors: list[tuple[Kind | None, Tensor]]) -> LayerSize:
    by_kind: Counter[Kind] = Counter()
    for kind, tensor in tensors:
        if kind is not None:
            by_kind[kind] += tensor.nbytes
    return LayerSize(index, dict(by_kind), sum(by_kind.values()), _resident(tensor for _, tensor in tensors))


def _resident(tensors: Iterable[Tensor]) -> int:
    """Bytes of the distinct storages; on the meta device too, where every data pointer is 0."""
    storages = {tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values())


def _attributes(model: nn.Module) -> Iterator[tuple[tuple[str, str], Tensor]]:
    for module, child in model.named_modules():
        for name, value in vars(child).items():
            if isinstance(value, Tensor):
                yield (module, name), value


def _written(tensor: Tensor, before: Tensor, version: int | None) -> bool:
    """Replaced, or changed in place. Tensors of inference mode keep no version: they count as written."""
    return tensor is not before or version is None or tensor._version != version
