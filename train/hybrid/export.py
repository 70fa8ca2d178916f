"""What a run ends in: the mixers as a small file that goes onto the base, and the whole hybrid as a checkpoint."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import BambaForCausalLM

from memkv.fingerprint import weights_hash
from memkv.hybrids.mixers import Record, save_mixers
from memkv.hybrids.whole import assembled
from memkv.model import HybridModel
from train.hybrid.distil import changed

WHOLE = "hybrid"


def export(base: HybridModel, hybrid: BambaForCausalLM, folder: Path, recipe: str) -> tuple[Path, Path]:
    """Write `mixers.safetensors` and the folder `hybrid`, which any transformers can load. Returns both paths.

    The whole hybrid is made from the small file, so that both are the same model.
    """
    record = Record(base.name, weights_hash(base.hf, torch.bfloat16), tuple(hybrid.config.attn_layer_indices), recipe)
    small = save_mixers(folder, changed(hybrid), record)
    whole = assembled(base.hf, folder)
    whole.save_pretrained(folder / WHOLE)
    if base.tokenizer is not None:
        base.tokenizer.save_pretrained(folder / WHOLE)
    return small, folder / WHOLE
