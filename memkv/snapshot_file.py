"""A snapshot as the bytes of a safetensors file, and back, without copying a tensor.

Any safetensors reader opens the file. memkv reads it strictly: safetensors parses safely but lets duplicate keys pass
and says nothing of what the tensors must be. Checksums are the store's business; here everything is checked that a
file with a right checksum but a hostile author could get wrong.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
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
ALIGNMENT = 64  # so that tensors start on cache lines when the file is read into an aligned buffer
TOKENS = "token_ids"
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


def from_buffer(data: memoryview) -> CacheSnapshot:
    """The snapshot in `data`; its tensors are views of `data`, which must stay unchanged.

    Raises:
        DamagedBlob: not a memkv snapshot, truncated, or inconsistent; the message says where.
    """
    try:
        return parse(data)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError, OverflowError, RuntimeError) as error:
        raise damaged(f"its header is inconsistent ({type(error).__name__}: {error})") from error


def parse(data: memoryview) -> CacheSnapshot:
    """`from_buffer` before unexpected errors get their name."""
    if len(data) < LENGTH_BYTES:
        raise damaged("it is shorter than a header")
    length = int.from_bytes(data[:LENGTH_BYTES], "little")
    if length > min(MAX_HEADER, len(data) - LENGTH_BYTES):
        raise damaged(f"its header claims {length} bytes")
    header = json.loads(bytes(data[LENGTH_BYTES : LENGTH_BYTES + length]), object_pairs_hook=no_duplicates)
    about = json.loads(header.pop("__metadata__")["memkv"], object_pairs_hook=no_duplicates)
    if about["format"] != FORMAT_VERSION:
        raise damaged(f"it has format {about['format']}, this memkv reads {FORMAT_VERSION}")
    tensors = read_tensors(header, data[LENGTH_BYTES + length :])
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


def read_tensors(header: Mapping[str, Any], data: memoryview) -> dict[str, Tensor]:
    """Views into `data` by name; offsets must cover it without gap or overlap, as safetensors demands."""
    tensors: dict[str, Tensor] = {}
    end = 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        start, stop = entry["data_offsets"]
        dtype, shape = DTYPES[entry["dtype"]], entry["shape"]
        if not all(type(n) is int and n >= 0 for n in (start, stop, *shape)):
            raise damaged(f"{name} has a shape or offset that is no count")
        size = math.prod(shape) * dtype.itemsize
        if start != end or stop - start != size or stop > len(data):
            raise damaged(f"the bytes of {name} are not where its header says")
        end = stop
        if size == 0:
            tensors[name] = torch.empty(shape, dtype=dtype)
        else:
            flat = torch.frombuffer(data, dtype=torch.uint8, count=size, offset=start)
            aligned = flat if flat.data_ptr() % dtype.itemsize == 0 else flat.clone()
            tensors[name] = aligned.view(dtype).reshape(shape)
    if end != len(data):
        raise damaged(f"{len(data) - end} bytes follow the last tensor")
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
