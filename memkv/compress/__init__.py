"""Codecs: smaller snapshots inside a byte budget. `codec("int4")`, `codec("snapkv+int4", model)`."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from memkv.compress.base import QUANTIZED, KVCompressor, budget_from_ratio
from memkv.compress.fp8 import FP8
from memkv.compress.identity import Identity
from memkv.compress.int4 import INT4
from memkv.compress.int8 import INT8
from memkv.compress.quantizer import Quantizer, decode_layer
from memkv.errors import ConfigError
from memkv.snapshot import CacheSnapshot

if TYPE_CHECKING:
    from memkv.model import HybridModel

__all__ = ["FP8", "INT4", "INT8", "Identity", "KVCompressor", "budget_from_ratio", "codec", "decompress"]

QUANTIZERS: dict[str, type[Quantizer]] = {"fp8": FP8, "int8": INT8, "int4": INT4}


def codec(text: str, model: HybridModel | None = None) -> KVCompressor:
    """The codec of that name with its defaults.

    Raises:
        ConfigError: unknown name; the known ones are named.
    """
    name = text.strip().lower()
    if name == Identity.name:
        return Identity()
    if name not in QUANTIZERS:
        raise ConfigError(f"There is no codec {name!r}", f"Known: {', '.join([Identity.name, *QUANTIZERS])}.")
    return QUANTIZERS[name]()


def decompress(snapshot: CacheSnapshot) -> CacheSnapshot:
    """Undo quantization, by what the layers say about themselves; what was evicted stays away.

    Raises:
        DamagedBlob: the tensors are not what the layers' meta says.
    """
    layers = tuple(decode_layer(layer, QUANTIZERS) if QUANTIZED in layer.meta else layer for layer in snapshot.layers)
    return dataclasses.replace(snapshot, layers=layers)
