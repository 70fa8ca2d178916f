"""What a running model is, as text: the key under which its caches may be continued."""

from __future__ import annotations

import json
from collections.abc import Iterable

import torch
from blake3 import blake3
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

CHECK_CHARS = 16


def short_hash(data: bytes) -> str:
    """First 16 hex digits of blake3."""
    return blake3(data).hexdigest()[:CHECK_CHARS]


def hash_tensors(tensors: Iterable[tuple[str, Tensor]], dtype: torch.dtype | None = None) -> str:
    """Hash of names, shapes, dtypes and every byte; tied tensors are read once. About 5 GB/s on two cores.

    With `dtype`, as if the floating-point tensors were rounded to it.
    """
    hasher = blake3(max_threads=blake3.AUTO)
    seen: set[int] = set()
    for name, tensor in sorted(tensors, key=lambda pair: pair[0]):
        kind = dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype
        hasher.update(f"{name}{tuple(tensor.shape)}{kind}".encode())
        if tensor.data_ptr() in seen:
            continue
        seen.add(tensor.data_ptr())
        hasher.update(tensor.to(kind).detach().contiguous().cpu().reshape(-1).view(torch.uint8).numpy().data)
    return hasher.hexdigest()[:CHECK_CHARS]


def weights_hash(model: PreTrainedModel, dtype: torch.dtype | None = None) -> str:
    """Hash of the base weights, adapters left out; with `dtype`, of the weights rounded to it."""
    named = [(name, tensor) for name, tensor in model.state_dict(keep_vars=True).items() if "lora_" not in name]
    return hash_tensors(((name.replace(".base_layer", ""), tensor) for name, tensor in named), dtype)


def adapter_hash(model: PreTrainedModel, name: str) -> str:
    """Hash of one PEFT adapter's tensors."""
    return hash_tensors((key, value) for key, value in model.state_dict(keep_vars=True).items() if f".{name}." in key)


def tokenizer_hash(tokenizer: PreTrainedTokenizerBase | None) -> str:
    """Hash of the tokenizer's vocabulary and rules; `none` without a tokenizer."""
    if tokenizer is None:
        return "none"
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        # Truncation and padding are settings of the last call, not part of what the tokenizer is.
        rules = {k: v for k, v in json.loads(backend.to_str()).items() if k not in ("truncation", "padding")}
    else:
        rules = tokenizer.get_vocab()
    return short_hash(json.dumps(rules, sort_keys=True).encode())


def rope_text(config: PreTrainedConfig) -> str:
    """The rotary parameters, which decide what a cached key means."""
    text = config.get_text_config(decoder=True)
    names = ("rope_parameters", "rope_scaling", "rope_theta")
    rope = {name: getattr(text, name) for name in names if name in vars(text)}
    return short_hash(json.dumps(rope, sort_keys=True, default=str).encode()) if any(rope.values()) else "none"


def layout_text(kinds: Iterable[str]) -> str:
    """Layer kinds, run-length coded: `full*30` or `linear*3 full linear`."""
    runs: list[tuple[str, int]] = []
    for kind in kinds:
        runs = [*runs[:-1], (kind, runs[-1][1] + 1)] if runs and runs[-1][0] == kind else [*runs, (kind, 1)]
    return " ".join(kind if count == 1 else f"{kind}*{count}" for kind, count in runs)
