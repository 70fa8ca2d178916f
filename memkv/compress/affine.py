"""Asymmetric integer quantization: a number is `low + code * step`, with one low and one step for each group.

Lows and steps have the tensor's own dtype. A group's low is one of its numbers, so it is exact; the step is rounded up,
so that the largest number is still in range and no number moves by more than half a step.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from memkv.compress.quantizer import DTYPES, Axis, Parts, dtype_name, not_finite

# One (batch, head) at a time goes through a float32 buffer: 2,048 tokens of 64 channels are 512 KiB, which stays in a
# core's own cache. Whole layers at once were half as fast.


def groups(rows_TD: Tensor, axis: Axis, group: int) -> Iterator[tuple[Tensor, slice, int]]:
    """Views of `rows_TD` whose dimension `dim` is one group: (view, where its lows and steps lie, dim).

    Along tokens the last group may be shorter; along channels all have `group` channels.
    """
    tokens, channels = rows_TD.shape
    if axis == "channels":
        yield rows_TD.view(tokens, channels // group, group), slice(0, tokens), 2
        return
    whole = tokens // group
    if whole:
        yield rows_TD[: whole * group].view(whole, group, channels), slice(0, whole), 1
    if tokens % group:
        yield rows_TD[whole * group :][None], slice(whole, whole + 1), 1


def scale_shape(tokens: int, channels: int, axis: Axis, group: int) -> tuple[int, int]:
    """Shape of the lows and of the steps of one (batch, head)."""
    return (tokens, channels // group) if axis == "channels" else (-(-tokens // group), channels)


def quantize(tensor_NTD: Tensor, bits: int, axis: Axis, group: int) -> Parts:
    """`codes` (N, rows, D; uint8, at 4 bits two tokens a byte), `lows` and `steps`.

    At 4 bits token t of the first half shares a byte with token t of the second half: both halves are contiguous,
    and a head may have any number of channels. Inf and NaN show in the lows or steps.
    """
    count, tokens, channels = tensor_NTD.shape
    levels, half = 2**bits - 1, -(-tokens // 2)
    dtype = tensor_NTD.dtype
    codes = tensor_NTD.new_empty(count, half if bits == 4 else tokens, channels, dtype=torch.uint8)
    lows = tensor_NTD.new_empty(count, *scale_shape(tokens, channels, axis, group))
    steps = torch.empty_like(lows)
    buffer = tensor_NTD.new_zeros(2 * half, channels, dtype=torch.float32)
    info = torch.finfo(dtype)
    for index in range(count):
        buffer[:tokens].copy_(tensor_NTD[index])
        for view, where, dim in groups(buffer[:tokens], axis, group):
            # Two reductions: `aminmax` is ten times slower than both on CPU (torch 2.13).
            low, high = view.amin(dim, keepdim=True), view.amax(dim, keepdim=True)
            # Not below the smallest normal number: a constant group has codes 0, and nothing is divided by 0.
            step = ((high - low) * ((1 + info.eps) / levels)).clamp_(min=info.tiny).to(dtype)
            view.sub_(low).mul_(step.float().reciprocal()).round_().clamp_(max=levels)
            lows[index, where], steps[index, where] = low.squeeze(dim), step.squeeze(dim)
        packed = buffer[:half].add_(buffer[half:], alpha=16) if bits == 4 else buffer[:tokens]
        codes[index].copy_(packed)
    return {"codes": codes, "lows": lows, "steps": steps}


def dequantize(parts: Parts, out_NTD: Tensor, bits: int, axis: Axis, group: int) -> None:
    """Write the numbers behind `parts` into `out_NTD`."""
    codes, lows, steps = parts["codes"], parts["lows"], parts["steps"]
    count, tokens, channels = out_NTD.shape
    half = -(-tokens // 2)
    buffer = out_NTD.new_empty(2 * half, channels, dtype=torch.float32)
    for index in range(count):
        if bits == 4:
            buffer[:half].copy_(codes[index] & 15)
            buffer[half:].copy_(codes[index] >> 4)
        else:
            buffer[:tokens].copy_(codes[index])
        for view, where, dim in groups(buffer[:tokens], axis, group):
            view.mul_(steps[index, where].unsqueeze(dim).float()).add_(lows[index, where].unsqueeze(dim).float())
        out_NTD[index].copy_(buffer[:tokens])


def encode(
    tensor_BHTD: Tensor, bits: int, axis: Axis, group: int, sinks: int, residual: int
) -> tuple[Parts, dict[str, Any]] | None:
    """Quantize all but the first `sinks` tokens, kept as `head` (BHTD), and the newest `residual`, kept as `tail`.

    None if there are no others.

    Raises:
        InvalidInput: inf or NaN anywhere.
    """
    batch, heads, tokens, channels = tensor_BHTD.shape
    end = tokens - residual
    dtype = dtype_name(tensor_BHTD)
    if end <= sinks or tensor_BHTD.numel() == 0:
        return None
    if axis == "channels":
        group = channel_group(channels, group)
    parts = quantize(tensor_BHTD.flatten(0, 1)[:, sinks:end], bits, axis, group)
    parts["head"], parts["tail"] = tensor_BHTD[:, :, :sinks].clone(), tensor_BHTD[:, :, end:].clone()
    # Lows and steps show what is among the codes.
    if not all(torch.isfinite(parts[name]).all() for name in ("head", "tail", "lows", "steps")):
        raise not_finite()
    meta = {"dtype": dtype, "shape": [batch, heads, tokens, channels], "axis": axis, "group": group}
    return parts, meta


def decode(parts: Parts, meta: dict[str, Any], bits: int) -> Tensor:
    """Undo `encode`.

    Raises:
        ValueError: tensors of another shape or dtype than `meta` says.
    """
    batch, heads, tokens, channels = meta["shape"]
    dtype, axis, group = DTYPES[meta["dtype"]], meta["axis"], int(meta["group"])
    if axis not in ("tokens", "channels"):
        raise ValueError(f"axis {axis!r}")
    head, tail = parts["head"], parts["tail"]
    start, end = head.shape[2], tokens - tail.shape[2]
    scales = (batch * heads, *scale_shape(end - start, channels, axis, group))
    rows = -(-(end - start) // 2) if bits == 4 else end - start
    expected = {
        "codes": ((batch * heads, rows, channels), torch.uint8),
        "lows": (scales, dtype),
        "steps": (scales, dtype),
        "head": ((batch, heads, start, channels), dtype),
        "tail": ((batch, heads, tail.shape[2], channels), dtype),
    }
    for name, (shape, kind) in expected.items():
        if tuple(parts[name].shape) != shape or parts[name].dtype != kind:
            raise ValueError(f"{name} is {tuple(parts[name].shape)} {parts[name].dtype}, not {shape} {kind}")
    out_BHTD = tail.new_empty(batch, heads, tokens, channels)
    dequantize(parts, out_BHTD.flatten(0, 1)[:, start:end], bits, axis, group)
    out_BHTD[:, :, :start], out_BHTD[:, :, end:] = head, tail
    return out_BHTD


def channel_group(channels: int, largest: int) -> int:
    """Channels that share a scale: an equal part of the head of at most `largest`, or all of an indivisible head."""
    for count in range(-(-channels // largest), channels // (largest // 2) + 1):
        if channels % count == 0:
            return channels // count
    return channels
