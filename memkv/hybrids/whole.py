"""The whole hybrid: a base with a file of mixers put onto it."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import BambaForCausalLM, PreTrainedModel

from memkv.errors import ModelUnavailable
from memkv.fingerprint import weights_hash
from memkv.hybrids.mapping import to_bamba
from memkv.hybrids.mixers import MIXER, check_base, read_all

LORA_A, LORA_B = ".lora_A", ".lora_B"


@torch.no_grad()
def assembled(base: PreTrainedModel, folder: Path, below: Path | None = None) -> BambaForCausalLM:
    """The hybrid, in the base's precision.

    Args:
        base: that the mixers were made for; it is left as it is.
        folder: with the mixers.
        below: folder of the mixers, where the other has only what differs beside them.

    Raises:
        ModelUnavailable: no mixers there, damaged ones, or ones of another base.
    """
    weights, record = read_all(folder, below)
    check_base(record, weights_hash(base, torch.bfloat16))
    hybrid = to_bamba(base, record.attention)
    places = dict(hybrid.named_parameters())
    mixers = {name for name in places if MIXER in name}
    try:
        for name, tensor in weights.items():
            if name.endswith(LORA_A):
                matrix = places[name.removesuffix(LORA_A) + ".weight"]
                change = weights[name.removesuffix(LORA_A) + LORA_B] @ tensor
                matrix.copy_(matrix.float() + change)
            elif not name.endswith(LORA_B):
                places[name].copy_(tensor)
                mixers.discard(name)
    except (KeyError, RuntimeError) as error:
        raise ModelUnavailable(
            f"The mixers in {folder} do not fit this base: {error}", "Make them again: python -m train.hybridize."
        ) from error
    if mixers:
        raise ModelUnavailable(
            f"The mixers in {folder} lack {len(mixers)} weights, {min(mixers)} first",
            "Make them again: python -m train.hybridize.",
        )
    return hybrid
