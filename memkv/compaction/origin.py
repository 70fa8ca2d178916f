"""What an adapter was trained on, kept beside it, so that it is never used on other weights without a word."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import torch

from memkv.config import from_mapping
from memkv.errors import ConfigError, ModelUnavailable
from memkv.fingerprint import weights_hash
from memkv.model import HybridModel

FILE = "memkv.json"
ROUNDED = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Origin:
    """The base model: its name, and the hash of its weights in one precision.

    `reads`: the adapter was on while prompts were read; else from their last token on.
    """

    model: str
    weights: str
    dtype: str
    reads: bool = True


def write_origin(folder: Path, origin: Origin) -> None:
    """Put it beside the adapter."""
    (folder / FILE).write_text(json.dumps(dataclasses.asdict(origin)) + "\n", encoding="utf-8")


def read_origin(folder: Path) -> Origin | None:
    """The record beside an adapter, if there is one.

    Raises:
        ConfigError: the record is damaged.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"Cannot read {path}: {error}", "Copy the adapter's folder again.") from error
    return from_mapping(Origin, data if isinstance(data, dict) else {}, str(path))


def made_for(origin: Origin, model: HybridModel) -> bool:
    """Whether an adapter was trained on this model, whose weights are rounded to the record's precision if they can be.

    One in a precision that cannot passes: its hash says nothing.
    """
    running = model.fingerprint
    if running.dtype == "float32" and origin.dtype in ROUNDED:
        return weights_hash(model.hf, ROUNDED[origin.dtype]) == origin.weights
    return origin.dtype != running.dtype or origin.weights == running.weights


def check_origin(folder: Path, model: HybridModel) -> None:
    """Refuse an adapter of other weights. One without a record passes.

    Raises:
        ModelUnavailable: both are named.
        ConfigError: the record is damaged.
    """
    origin = read_origin(folder)
    if origin is not None and not made_for(origin, model):
        raise ModelUnavailable(
            f"The adapter in {folder} was trained for {origin.model} (weights {origin.weights}), this is {model.name} "
            f"(weights {model.fingerprint.weights})",
            "Use another compaction strategy, or train one for this model: train/README.md.",
        )
