"""Base of the quantizers: which tensors are quantized, how they are named, and the way back."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from memkv.compress.base import QUANTIZED, compressible, within
from memkv.errors import DamagedBlob, InvalidInput
from memkv.snapshot import CacheSnapshot, LayerState

# The dimension of BHTD along which numbers share a scale: "tokens" is one scale a channel, "channels" one a token.
Axis = Literal["tokens", "channels"]
Parts = dict[str, Tensor]

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


class Quantizer(ABC):
    """Keys get one scale per channel, values one per token (KIVI, arXiv 2402.02750).

    A latent layer (MLA) holds a latent and a rotary key part; both are read as keys, so both are scaled per channel.
    """

    name: ClassVar[str]

    @abstractmethod
    def encode(self, tensor_BHTD: Tensor, axis: Axis) -> tuple[Parts, dict[str, Any]] | None:
        """(tensors by short name, what `decode` must know), or None to leave the tensor as it is.

        Raises:
            InvalidInput: inf or NaN in the tensor.
        """

    @staticmethod
    @abstractmethod
    def decode(parts: Mapping[str, Tensor], meta: Mapping[str, Any]) -> Tensor:
        """The tensor (BHTD, its own dtype) back from what `encode` returned."""

    def compress(self, snapshot: CacheSnapshot, budget: int | None = None) -> CacheSnapshot:
        """See `KVCompressor.compress`."""
        layers = {}
        for index, layer in compressible(snapshot).items():
            try:
                layers[index] = self.encode_layer(layer)
            except InvalidInput as error:
                raise InvalidInput(f"Layer {index}: {error.message}", error.next_step) from error
        return within(snapshot.replace_layers(layers, self.name), budget, self.name)

    def encode_layer(self, layer: LayerState) -> LayerState:
        """One layer with `keys` and `values` exchanged for their quantized parts (`keys.codes`, `keys.steps`, ...)."""
        tensors, meta = dict(layer.tensors), {}
        for name in ("keys", "values"):
            encoded = self.encode(
                tensors[name], "channels" if name == "values" and layer.kind != "latent" else "tokens"
            )
            if encoded is not None:
                parts, description = encoded
                del tensors[name]
                tensors.update({f"{name}.{part}": tensor for part, tensor in parts.items()})
                meta[name] = {"codec": self.name, **description}
        return dataclasses.replace(layer, tensors=tensors, meta={**layer.meta, QUANTIZED: meta} if meta else layer.meta)


def decode_layer(layer: LayerState, quantizers: Mapping[str, type[Quantizer]]) -> LayerState:
    """Undo `encode_layer`.

    Raises:
        DamagedBlob: the tensors are not what the layer's meta says.
    """
    tensors = dict(layer.tensors)
    for name, meta in layer.meta[QUANTIZED].items():
        parts = {
            part.removeprefix(f"{name}."): tensors.pop(part) for part in list(tensors) if part.startswith(f"{name}.")
        }
        try:
            tensors[name] = quantizers[meta["codec"]].decode(parts, meta)
        except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RuntimeError) as error:
            raise DamagedBlob(
                f"The quantized {name} cannot be read: {type(error).__name__} {error}",
                "Rebuild the cache from the text.",
            ) from error
    return dataclasses.replace(layer, tensors=tensors, meta={k: v for k, v in layer.meta.items() if k != QUANTIZED})


def dtype_name(tensor: Tensor) -> str:
    """`bfloat16`, `float16` or `float32`.

    Raises:
        InvalidInput: another dtype.
    """
    name = str(tensor.dtype).removeprefix("torch.")
    if name not in DTYPES:
        raise InvalidInput(f"Tensors of {name} cannot be quantized", f"Load the model in one of {', '.join(DTYPES)}.")
    return name


def not_finite(what: str = "the tensor") -> InvalidInput:
    """The error for inf and NaN, which no scale can hold."""
    return InvalidInput(
        f"{what} holds inf or NaN", "The cache is damaged: rebuild it from the text, or run the model in float32."
    )
