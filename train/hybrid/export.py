"""What a run ends in: the mixers as a small file that goes onto the base, and the whole hybrid as a checkpoint."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import BambaForCausalLM

from memkv.fingerprint import weights_hash
from memkv.hybrids.mixers import FILE, MIXER, Record, save_mixers
from memkv.hybrids.whole import assembled
from memkv.made_once import hash_file
from memkv.model import HybridModel
from train.hybrid.distil import changed

WHOLE = "hybrid"


def export(
    base: HybridModel, hybrid: BambaForCausalLM, folder: Path, recipe: str, below: Path | None = None
) -> tuple[Path, Path]:
    """Write `mixers.safetensors` and the folder `hybrid`, which any transformers can load. Returns both paths.

    The whole hybrid is made from the small file, so that both are the same model.

    Args:
        base: what it was made of.
        hybrid: as it was trained.
        folder: of the result.
        recipe: the configuration, for people.
        below: result whose mixers this one has; they are not written again.
    """
    weights = changed(hybrid)
    if below is not None:
        weights = {name: each for name, each in weights.items() if MIXER not in name}
    record = Record(
        base.name, weights_hash(base.hf, torch.bfloat16), tuple(hybrid.config.attn_layer_indices), recipe,
        hash_file(below / FILE) if below else "",
    )  # fmt: skip
    small = save_mixers(folder, weights, record)
    whole = assembled(base.hf, folder, below)
    whole.save_pretrained(folder / WHOLE)
    if base.tokenizer is not None:
        base.tokenizer.save_pretrained(folder / WHOLE)
    return small, folder / WHOLE
