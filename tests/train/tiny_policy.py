"""A tiny model with an adapter that changes what it writes."""

from __future__ import annotations

from pathlib import Path

import torch
from peft import PeftModel
from tiny_chat import tiny_chat

from train.policy import Base, Lora, load_base, new_adapter


def tiny_base(name: str, folder: Path) -> Base:
    """A model of that architecture, by way of a folder."""
    model = tiny_chat(name)
    model.hf.save_pretrained(str(folder / "tiny"))
    model.tokenizer.save_pretrained(str(folder / "tiny"))
    return load_base(str(folder / "tiny"), "float32", "cpu")


def adapted(base: Base) -> PeftModel:
    """With an adapter that is not 0, as a new one would be."""
    model = new_adapter(base, Lora(rank=4), seed=1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.1, generator=torch.Generator().manual_seed(len(name)))
    return model
