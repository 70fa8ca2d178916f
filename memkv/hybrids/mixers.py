"""The mixers of a hybrid as a file: what differs from the base, int8 with one scale a row, and which base that is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from memkv.errors import ModelUnavailable
from memkv.made_once import hash_file

FILE = "mixers.safetensors"
SCALE = ".scale"
MIXER = ".mamba."  # in the names of a mixer's weights
LEAST_ROWS = 2  # a matrix is stored as int8; a vector as it is


@dataclass(frozen=True)
class Record:
    """What mixers were made of.

    Attributes:
        base: name of the model that they go into.
        weights: hash of its weights, rounded to bf16 (`memkv.fingerprint.weights_hash`).
        attention: layers that keep it.
        recipe: configuration and commit, for people.
        below: hash of the file that the mixers themselves are in, where this one only has what differs beside them.
    """

    base: str
    weights: str
    attention: tuple[int, ...]
    recipe: str = ""
    below: str = ""


def save_mixers(folder: Path, changed: Mapping[str, Tensor], record: Record) -> Path:
    """Write weights that differ from the base's, and the record. Returns the file.

    Args:
        folder: made if need be.
        changed: weights under Bamba's names.
        record: see `Record`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    packed: dict[str, Tensor] = {}
    for name, tensor in changed.items():
        if tensor.dim() < LEAST_ROWS:
            packed[name] = tensor.to(torch.float32).contiguous()
            continue
        codes, scale = quantized(tensor)
        packed[name], packed[name + SCALE] = codes, scale
    path = folder / FILE
    save_file(packed, path, metadata={"record": json.dumps(asdict(record))})
    return path


def quantized(tensor: Tensor) -> tuple[Tensor, Tensor]:
    """int8 codes, and a scale for each row."""
    rows = tensor.float().reshape(tensor.shape[0], -1)
    scale = rows.abs().amax(1, keepdim=True).clamp_min(1e-12) / 127
    return (rows / scale).round().to(torch.int8).reshape(tensor.shape), scale[:, 0].contiguous()


def read_mixers(folder: Path) -> tuple[dict[str, Tensor], Record]:
    """The weights in fp32, and the record.

    Raises:
        ModelUnavailable: no such file, or a damaged one.
    """
    try:
        with safe_open(folder / FILE, framework="pt") as file:
            stored = {name: file.get_tensor(name) for name in file.keys()}
            found = json.loads(file.metadata()["record"])
        record = Record(**{**found, "attention": tuple(found["attention"])})
        weights = {
            name: tensor.float() * stored[name + SCALE].reshape(-1, *[1] * (tensor.dim() - 1))
            if tensor.dtype == torch.int8
            else tensor
            for name, tensor in stored.items()
            if not name.endswith(SCALE)
        }
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ModelUnavailable(
            f"No mixers to read in {folder}: {error}",
            "Give a folder that train.hybridize wrote, or install memkv again.",
        ) from error
    return weights, record


def read_all(folder: Path, below: Path | None = None) -> tuple[dict[str, Tensor], Record]:
    """As `read_mixers`, with the mixers of another file where the record says that they are in one.

    Args:
        folder: of what is read.
        below: folder of the file that holds the mixers.

    Raises:
        ModelUnavailable: as `read_mixers`; or the file below is not the one that the record means.
    """
    weights, record = read_mixers(folder)
    if not record.below:
        return weights, record
    if below is None or not (below / FILE).is_file() or hash_file(below / FILE) != record.below:
        raise ModelUnavailable(
            f"What is in {folder} goes onto the mixers of another file, which is not in {below}",
            "Make them again with train.hybridize, or install memkv again.",
        )
    kept = tuple(f"model.layers.{layer}." for layer in record.attention)
    mixers = {
        name: tensor for name, tensor in read_mixers(below)[0].items() if MIXER in name and not name.startswith(kept)
    }
    return {**mixers, **weights}, record


def check_base(record: Record, weights: str) -> None:
    """Refuse mixers that were made for other weights.

    Raises:
        ModelUnavailable: both are named.
    """
    if record.weights != weights:
        raise ModelUnavailable(
            f"These mixers belong to {record.base} with weights {record.weights}, and this model has {weights}",
            "Use the base that they were made for, or make new ones: python -m train.hybridize.",
        )
