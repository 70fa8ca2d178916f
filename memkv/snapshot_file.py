"""A snapshot as the bytes of a safetensors file, and back, no tensor copied on the way.

Any safetensors reader opens the file. memkv reads it strictly: safetensors parses safely but lets duplicate keys pass
and says nothing of what the tensors must be. Checksums are the store's business; here everything is checked that a
file with a right checksum but a hostile author could get wrong.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from memkv.errors import DamagedBlob, InvalidInput
from memkv.snapshot import FORMAT_VERSION, CacheSnapshot, Fingerprint, LayerState

DTYPES: dict[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}

LENGTH_BYTES = 8
MAX_HEADER = 16 * 2**20  # a header grows with layers, not with tokens: 100 layers take about 50 KB
ALIGNMENT = 64  # so that tensors start on cache lines for readers that map the file
TOKENS = "token_ids"
# Puts the next bytes of the file into a buffer.
Fill = Callable[[memoryview], None]

KINDS = frozenset({"full", "sliding", "latent", "indexed", "linear", "hybrid", "hybrid_sliding", "empty"})


def to_buffers(snapshot: CacheSnapshot) -> list[memoryview]:
    """The file's bytes as a header and one buffer a tensor, none of them copied.

    Raises:
        InvalidInput: a tensor of a dtype that safetensors has no name for.
    """
    tensors = {TOKENS: torch.tensor(snapshot.token_ids, dtype=torch.int32), **dict(snapshot.named_tensors())}
    # Widest elements first, so that every tensor starts at a multiple of its own element size.
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0]))
    header: dict[str, Any] = {"__metadata__": {"memkv": json.dumps(describe(snapshot))}}
    buffers: list[memoryview] = []
    offset = 0
    for name, tensor in ordered:
        if tensor.dtype not in NAMES:
            raise InvalidInput(f"{name} has dtype {tensor.dtype}, which cannot be stored", "Convert it first.")
        size = tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + size],
        }
        buffers.append(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(LENGTH_BYTES + len(text)) % ALIGNMENT)
    return [memoryview(len(text).to_bytes(LENGTH_BYTES, "little") + text), *buffers]


def describe(snapshot: CacheSnapshot) -> dict[str, Any]:
    """Everything about a snapshot that is not a tensor."""
    return {
        "format": FORMAT_VERSION,
        "codecs": list(snapshot.codecs),
        "fingerprint": dataclasses.asdict(snapshot.fingerprint),
        "layers": [{"kind": layer.kind, "seen": layer.seen, "meta": dict(layer.meta)} for layer in snapshot.layers],
    }


def read_snapshot(fill: Fill, length: int) -> CacheSnapshot:
    """The snapshot in a file of `length` bytes, whose next bytes `fill` puts into a buffer.

    Each tensor is read to where it stays, in storage of its own: the allocator can reuse memory, and a layer that the
    conversation replaces is freed alone.

    Raises:
        DamagedBlob: not a memkv snapshot, truncated, or inconsistent; the message says where.
    """
    try:
        return parse(fill, length)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError, OverflowError, RuntimeError) as error:
        raise damaged(f"its header is inconsistent ({type(error).__name__}: {error})") from error


def from_buffer(data: memoryview) -> CacheSnapshot:
    """The snapshot in `data`, copied out of it. Raises as `read_snapshot`."""
    done = 0

    def fill(buffer: memoryview) -> None:
        nonlocal done
        buffer[:] = data[done : done + len(buffer)]
        done += len(buffer)

    return read_snapshot(fill, len(data))


def parse(fill: Fill, length: int) -> CacheSnapshot:
    """`read_snapshot` before unexpected errors get their name."""
    if length < LENGTH_BYTES:
        raise damaged("it is shorter than a header")
    size = int.from_bytes(take_bytes(fill, LENGTH_BYTES), "little")
    if size > min(MAX_HEADER, length - LENGTH_BYTES):
        raise damaged(f"its header claims {size} bytes")
    header = json.loads(take_bytes(fill, size), object_pairs_hook=no_duplicates)
    about = json.loads(header.pop("__metadata__")["memkv"], object_pairs_hook=no_duplicates)
    if about["format"] != FORMAT_VERSION:
        raise damaged(f"it has format {about['format']}, this memkv reads {FORMAT_VERSION}")
    tensors = read_tensors(header, fill, length - LENGTH_BYTES - size)
    tokens = tensors.pop(TOKENS)
    if tokens.dtype != torch.int32 or tokens.dim() != 1:
        raise damaged("its token ids are not a list of 32-bit integers")
    layers = read_layers(about["layers"], tensors, len(tokens))
    held = {name.removeprefix("held."): tensor for name, tensor in tensors.items() if name.startswith("held.")}
    if len(held) + sum(len(layer.tensors) for layer in layers) != len(tensors):
        raise damaged("it holds tensors that belong to no layer")
    codecs = about["codecs"]
    fingerprint = about["fingerprint"]
    if not all(isinstance(text, str) for text in (*codecs, *fingerprint.values())):
        raise damaged("its fingerprint is not text")
    return CacheSnapshot(layers, tuple(tokens.tolist()), Fingerprint(**fingerprint), held, tuple(codecs))


def take_bytes(fill: Fill, count: int) -> bytes:
    """The next `count` bytes."""
    buffer = bytearray(count)
    fill(memoryview(buffer))
    return bytes(buffer)


def read_tensors(header: Mapping[str, Any], fill: Fill, length: int) -> dict[str, Tensor]:
    """Tensors by name; their offsets must cover `length` bytes without gap or overlap, as safetensors demands."""
    tensors: dict[str, Tensor] = {}
    end = 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        start, stop = entry["data_offsets"]
        dtype, shape = DTYPES[entry["dtype"]], entry["shape"]
        if not all(type(n) is int and n >= 0 for n in (start, stop, *shape)):
            raise damaged(f"{name} has a shape or offset that is no count")
        # Before anything is allocated: no file makes memkv take more memory than the file has bytes.
        if start != end or stop - start != math.prod(shape) * dtype.itemsize or stop > length:
            raise damaged(f"the bytes of {name} are not where its header says")
        tensors[name] = torch.empty(shape, dtype=dtype)
        if stop > start:
            fill(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
        end = stop
    if end != length:
        raise damaged(f"{length - end} bytes follow the last tensor")
    return tensors


def read_layers(described: list[Any], tensors: Mapping[str, Tensor], tokens: int) -> tuple[LayerState, ...]:
    """Layer states from their descriptions and the tensors named `layers.N.*`."""
    named: dict[int, dict[str, Tensor]] = {index: {} for index in range(len(described))}
    for name, tensor in tensors.items():
        if name.startswith("layers."):
            _, number, rest = name.split(".", 2)
            named[int(number)][rest] = tensor
    layers = []
    for index, entry in enumerate(described):
        if entry["kind"] not in KINDS or entry["seen"] != tokens or not isinstance(entry["meta"], dict):
            raise damaged(f"layer {index} is described inconsistently")
        layers.append(LayerState(entry["kind"], entry["seen"], named[index], entry["meta"]))
    return tuple(layers)


def no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """JSON objects with a key twice are ambiguous, and ambiguity is how parsers get fooled."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise damaged("its header names a key twice")
    return found


def damaged(what: str) -> DamagedBlob:
    """The error for a snapshot that cannot be used."""
    return DamagedBlob(f"The snapshot is damaged: {what}", "The cache will be rebuilt from the stored text.")
