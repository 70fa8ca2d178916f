"""One architecture, measured on the meta device: its cache's law, its weights, and what the codecs make of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

import torch
from transformers import AutoConfig, PreTrainedConfig

from memkv.cache_size import CacheProfile, CacheSize, Entry, Kind, entries, measure_named, meta_model, profile
from memkv.compress import FP8, INT4
from memkv.compress.quantizer import Quantizer
from memkv.errors import ModelUnavailable, UnsupportedModel
from memkv.snapshot import CacheSnapshot, Fingerprint, LayerState

CONFIGS = resources.files("memkv.reference") / "configs"
CODECS: dict[str, Quantizer] = {"fp8": FP8(), "int4": INT4()}
# Tokens at which codecs run on real tensors. Multiples of 64, as are the lengths that the law is used for, so that the
# last group of scales is cut at the same place in each.
CODEC_LENGTHS = (256, 512)
# What the codecs shrink. Windows are bounded and recurrent state travels whole.
COMPRESSED: tuple[Kind, ...] = ("attention", "latent")


Shape = tuple[str, int, int, int]  # kind, heads, channels of keys, channels of values


@dataclass(frozen=True)
class QuantizedLaw:
    """Bytes that a codec makes of the growing attention KV: `fixed + per_token * n`, exact for multiples of 64."""

    fixed: int
    per_token: float

    def at(self, n_tokens: int) -> int:
        """Bytes at `n_tokens`, which are rounded up to a multiple of 64."""
        return round(self.fixed + self.per_token * 64 * -(-n_tokens // 64))


@dataclass(frozen=True)
class Measured:
    """One architecture as measured. `weights` in bytes; `sample` is a cache of a few tokens; `codecs` by name."""

    name: str
    config: PreTrainedConfig
    source: str
    profile: CacheProfile
    sample: CacheSize
    weights: int
    codecs: Mapping[str, QuantizedLaw]

    def quantized_at(self, codec: str, n_tokens: int) -> int:
        """Bytes of the whole cache at `n_tokens` when `codec` has shrunk the growing part."""
        kinds = self.profile.by_kind_at(n_tokens)
        rest = sum(size for kind, size in kinds.items() if kind not in COMPRESSED)
        return rest + (self.codecs[codec].at(n_tokens) if codec in self.codecs else 0)

    def quantized_per_token(self, codec: str) -> float:
        """Bytes that each further token costs under `codec`."""
        return self.codecs[codec].per_token if codec in self.codecs else 0.0

    @property
    def state_numbers(self) -> int:
        """How many numbers the sample holds, whatever their dtypes."""
        return sum(size // getattr(torch, dtype).itemsize for dtype, size in self.sample.by_dtype.items())

    def layers_with(self, kind: Kind) -> int:
        """How many layers hold state of that kind."""
        return sum(kind in kinds for kinds in self.profile.layers)


def names() -> list[str]:
    """The reference configurations that ship with memkv."""
    return sorted(path.name.removesuffix(".json") for path in CONFIGS.iterdir() if path.name.endswith(".json"))


def reference_config(name: str, **changes: Any) -> tuple[PreTrainedConfig, str]:
    """(configuration, where it was published), with some fields changed.

    Raises:
        ModelUnavailable: not one of `names()`.
    """
    if name not in names():
        raise ModelUnavailable(f"{name!r} is no reference configuration", f"There are: {', '.join(names())}.")
    fields = json.loads((CONFIGS / f"{name}.json").read_text(encoding="utf-8"))
    known = {field: value for field, value in fields.items() if not field.startswith("_")}  # those are ours
    return AutoConfig.for_model(**{**known, **changes}), str(fields["_source"])


def measure_config(
    name: str, config: PreTrainedConfig, source: str = "", dtype: torch.dtype = torch.bfloat16, longest: int = 131_072
) -> Measured:
    """Build the whole architecture without weights, run it, read its cache, and run the codecs on tensors like those.

    Raises:
        UnsupportedModel: it is no causal LM, keeps no cache, or cannot run without weights.
    """
    try:
        model = meta_model(config, dtype)
        seen: list[list[Entry]] = []
        law = profile(model, longest=longest, on_run=lambda _, cache: seen.append(list(entries(cache, "recurrent"))))
    except (ValueError, TypeError, RuntimeError, AttributeError) as error:
        raise UnsupportedModel(
            f"{name} ({config.model_type}) cannot be run without weights: {type(error).__name__} {error}",
            "Check its configuration; a loaded model is measured with memkv.cache_size.profile(model).",
        ) from error
    layers = _growing_shapes(seen[0])
    return Measured(
        name=name,
        config=config,
        source=source,
        profile=law,
        sample=measure_named(seen[0]),
        weights=sum(parameter.nbytes for parameter in model.parameters()),
        codecs={codec: quantized_law(CODECS[codec], layers, dtype) for codec in CODECS} if layers else {},
    )


def quantized_law(codec: Quantizer, layers: Mapping[Shape, int], dtype: torch.dtype) -> QuantizedLaw:
    """The law of `codec` over `layers` (shape -> how many), from real tensors of one layer of each shape."""
    fixed, per_token = 0, 0.0
    for shape, count in layers.items():
        short, long = (_codec_bytes(codec, shape, n_tokens, dtype) for n_tokens in CODEC_LENGTHS)
        slope = (long - short) / (CODEC_LENGTHS[1] - CODEC_LENGTHS[0])
        fixed += count * round(short - slope * CODEC_LENGTHS[0])
        per_token += count * slope
    return QuantizedLaw(fixed, per_token)


def _codec_bytes(codec: Quantizer, shape: Shape, n_tokens: int, dtype: torch.dtype) -> int:
    kind, heads, key_channels, value_channels = shape
    noise = torch.Generator().manual_seed(0)
    tensors = {
        name: torch.empty(1, heads, n_tokens, channels, dtype=dtype).uniform_(-1, 1, generator=noise)
        for name, channels in (("keys", key_channels), ("values", value_channels))
    }
    layer = LayerState(kind="latent" if kind == "latent" else "full", seen=n_tokens, tensors=tensors)
    return codec.compress(CacheSnapshot((layer,), (), Fingerprint("", "", "", "", "", "", ""))).payload


def _growing_shapes(found: list[Entry]) -> Counter[Shape]:
    """Shape -> how many layers, for the layers whose attention KV grows."""
    grows: dict[int, list[tuple[Kind | None, torch.Tensor]]] = {}
    for index, kind, tensor in found:
        if kind in COMPRESSED:
            grows.setdefault(index, []).append((kind, tensor))
    shapes: Counter[Shape] = Counter()
    for (kind, keys_BHTD), (_, values_BHTD) in grows.values():
        shapes[str(kind), keys_BHTD.shape[1], keys_BHTD.shape[3], values_BHTD.shape[3]] += 1
    return shapes
