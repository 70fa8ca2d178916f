"""FP8 E4M3 (Micikevicius et al. 2022, arXiv 2209.05433)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from memkv.compress.quantizer import DTYPES, Axis, Parts, Quantizer, dtype_name, not_finite

LARGEST = 448.0  # of E4M3


class FP8(Quantizer):
    """One byte a number: 4 bits of exponent, 3 of mantissa, and one scale for each channel of each head.

    Scales are powers of two, so that dividing by them is exact and the only rounding is E4M3's own (1/16 of the number
    at most, above 2^-6 of the scale). Floating point needs no groups along tokens or a window in full precision.
    """

    name: ClassVar[str] = "fp8"

    def encode(self, tensor_BHTD: Tensor, axis: Axis) -> tuple[Parts, dict[str, Any]] | None:
        """See `Quantizer.encode`; both axes are scaled per channel."""
        dtype = dtype_name(tensor_BHTD)
        if tensor_BHTD.numel() == 0:
            return None
        largest_BH1D = tensor_BHTD.abs().amax(2, keepdim=True).float()
        if not torch.isfinite(largest_BH1D).all():
            raise not_finite()
        mantissa, exponent = torch.frexp(largest_BH1D / LARGEST)
        # The next power of two; one that is a power of two itself stays, so that quantizing again changes nothing.
        scale_BH1D = torch.ldexp(torch.ones_like(largest_BH1D), exponent - (mantissa == 0.5).int())
        scale_BH1D = scale_BH1D.clamp_(min=torch.finfo(tensor_BHTD.dtype).tiny).to(tensor_BHTD.dtype)
        codes = torch.empty_like(tensor_BHTD, dtype=torch.float8_e4m3fn)
        for code, rows, scale in zip(
            codes.flatten(0, 1), tensor_BHTD.flatten(0, 1), scale_BH1D.flatten(0, 1), strict=True
        ):
            code.copy_(rows / scale)
        return {"codes": codes, "scale": scale_BH1D}, {"dtype": dtype, "shape": list(tensor_BHTD.shape)}

    @staticmethod
    def decode(parts: Mapping[str, Tensor], meta: Mapping[str, Any]) -> Tensor:
        """See `Quantizer.decode`.

        Raises:
            ValueError: tensors of another shape or dtype than `meta` says.
        """
        codes, scale, dtype = parts["codes"], parts["scale"], DTYPES[meta["dtype"]]
        batch, heads, tokens, channels = meta["shape"]
        if codes.dtype != torch.float8_e4m3fn or scale.dtype != dtype:
            raise ValueError(f"codes are {codes.dtype} and scales {scale.dtype}")
        if codes.shape != (batch, heads, tokens, channels) or scale.shape != (batch, heads, 1, channels):
            raise ValueError(f"codes are {tuple(codes.shape)} and scales {tuple(scale.shape)}")
        out_BHTD = codes.to(dtype)
        return out_BHTD.mul_(scale)
