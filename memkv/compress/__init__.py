"""Codecs: smaller snapshots inside a byte budget. `codec("int4")`, `codec("snapkv:0.5+int4", model)`."""

from __future__ import annotations

import dataclasses

from memkv.compress.base import QUANTIZED, KVCompressor, budget_from_ratio
from memkv.compress.chain import Chain
from memkv.compress.evictor import Evictor
from memkv.compress.expected import ExpectedAttention
from memkv.compress.fp8 import FP8
from memkv.compress.h2o import H2O
from memkv.compress.identity import Identity
from memkv.compress.int4 import INT4
from memkv.compress.int8 import INT8
from memkv.compress.kvzip import KVzip
from memkv.compress.matching import AttentionMatching
from memkv.compress.quantizer import Quantizer, decode_layer
from memkv.compress.reading import ReadingEvictor
from memkv.compress.snapkv import SnapKV
from memkv.compress.streaming import StreamingLLM
from memkv.errors import ConfigError
from memkv.model import HybridModel
from memkv.snapshot import CacheSnapshot

__all__ = [
    "FP8",
    "H2O",
    "INT4",
    "INT8",
    "AttentionMatching",
    "Chain",
    "Evictor",
    "ExpectedAttention",
    "Identity",
    "KVCompressor",
    "KVzip",
    "Quantizer",
    "SnapKV",
    "StreamingLLM",
    "budget_from_ratio",
    "codec",
    "decompress",
]

QUANTIZERS: dict[str, type[Quantizer]] = {"fp8": FP8, "int8": INT8, "int4": INT4}
READERS: dict[str, type[ReadingEvictor]] = {
    "snapkv": SnapKV,
    "h2o": H2O,
    "expected": ExpectedAttention,
    "kvzip": KVzip,
    "matching": AttentionMatching,
}
NAMES = (Identity.name, *QUANTIZERS, StreamingLLM.name, *READERS)


def codec(text: str, model: HybridModel | None = None) -> KVCompressor:
    """The codec of that name: `int4`, `snapkv`, `snapkv:0.5` (at most half of the entries), `snapkv:0.5+int4`.

    A chain evicts, then quantizes. `model` is for the methods that read: snapkv, h2o, expected, kvzip, matching.

    Raises:
        ConfigError: unknown name (the known ones are named), a method that reads without a model, a bad ratio, or a
            chain of anything but an evictor and a quantizer.
    """
    stages = [stage(name.strip().lower(), model) for name in text.split("+")]
    return stages[0] if len(stages) == 1 else Chain(stages)


def stage(text: str, model: HybridModel | None) -> KVCompressor:
    """One method by its name and, for an evictor, its ratio; errors as in `codec`."""
    name, colon, share = text.partition(":")
    if name not in NAMES:
        raise ConfigError(f"There is no codec {name!r}", f"Known: {', '.join(NAMES)}, and chains like snapkv+int4.")
    if name == Identity.name or name in QUANTIZERS:
        if colon:
            raise ConfigError(f"{name} takes no ratio", f"Write {name}.")
        return Identity() if name == Identity.name else QUANTIZERS[name]()
    ratio = parse_ratio(share) if colon else 1.0
    if name == StreamingLLM.name:
        return StreamingLLM(ratio=ratio)
    if model is None:
        raise ConfigError(f"The codec {name} reads with the model", f"Call codec({text!r}, model).")
    return READERS[name](model, ratio=ratio)  # type: ignore[call-arg]


def parse_ratio(text: str) -> float:
    """The share after the colon.

    Raises:
        ConfigError: not a number within 0 (excluded) and 1.
    """
    try:
        ratio = float(text)
    except ValueError:
        ratio = 0.0
    if not 0 < ratio <= 1:
        raise ConfigError(f"{text!r} is not a share within 0 and 1", "Write for example snapkv:0.5.")
    return ratio


def decompress(snapshot: CacheSnapshot) -> CacheSnapshot:
    """Undo quantization, by what the layers say about themselves; what was evicted stays away.

    Raises:
        DamagedBlob: the tensors are not what the layers' meta says.
    """
    layers = tuple(decode_layer(layer, QUANTIZERS) if QUANTIZED in layer.meta else layer for layer in snapshot.layers)
    return dataclasses.replace(snapshot, layers=layers)
