"""Codecs: smaller snapshots inside a byte budget. `codec("int4")`, `codec("snapkv+int4", model)`."""

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
    """The codec of that name with its defaults; `snapkv+int4` evicts, then quantizes. `model` is for those that read.

    Raises:
        ConfigError: unknown name (the known ones are named), a method that reads without a model, or a chain of
            anything but an evictor and a quantizer.
    """
    stages = [stage(name.strip().lower(), model) for name in text.split("+")]
    return stages[0] if len(stages) == 1 else Chain(stages)


def stage(name: str, model: HybridModel | None) -> KVCompressor:
    """One method by name; errors as in `codec`."""
    if name == Identity.name:
        return Identity()
    if name == StreamingLLM.name:
        return StreamingLLM()
    if name in QUANTIZERS:
        return QUANTIZERS[name]()
    if name not in READERS:
        raise ConfigError(f"There is no codec {name!r}", f"Known: {', '.join(NAMES)}, and chains like snapkv+int4.")
    if model is None:
        raise ConfigError(f"The codec {name} reads with the model", f"Call codec({name!r}, model).")
    return READERS[name](model)  # type: ignore[call-arg]


def decompress(snapshot: CacheSnapshot) -> CacheSnapshot:
    """Undo quantization, by what the layers say about themselves; what was evicted stays away.

    Raises:
        DamagedBlob: the tensors are not what the layers' meta says.
    """
    layers = tuple(decode_layer(layer, QUANTIZERS) if QUANTIZED in layer.meta else layer for layer in snapshot.layers)
    return dataclasses.replace(snapshot, layers=layers)
