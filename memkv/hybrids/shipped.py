"""The hybrids that come with memkv: mixers in the package, put onto the embedded model once."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from memkv.embedded import EMBEDDED, converted_folder, no_progress_bars
from memkv.errors import ModelUnavailable
from memkv.hybrids.mixers import FILE
from memkv.hybrids.whole import assembled
from memkv.made_once import Notify, hash_file, made_once

HYBRID = "smollm2-hybrid"  # 7 layers of 30 keep their attention
HYBRIDS = (HYBRID, f"{HYBRID}-15", f"{HYBRID}-22")  # the further ones have the mixers of the first
WEIGHTS = Path(__file__).parent / "weights"

# Raise it when `assembled` changes: the folder's name holds it, so that an older one is not used.
MAKER = 1


def hybrid_folder(name: str = HYBRID, notify: Notify | None = None, weights: Path = WEIGHTS) -> Path:
    """The folder with a hybrid's weights and the embedded model's tokenizer; put together now if need be.

    Args:
        name: one of HYBRIDS.
        notify: told about what takes seconds.
        weights: where the folders of the mixers lie, made for the embedded model.

    Raises:
        ModelUnavailable: no mixers, or damaged ones, or ones of another base; or the base is not there.
        StorageFull: no room for the 310 MB.
    """
    mixers = weights / name
    file = mixers / FILE
    if not file.is_file():
        raise ModelUnavailable(f"There is no {file}", "Install memkv again, or make one: python -m train.hybridize.")
    base = converted_folder(notify)

    def make(folder: Path) -> None:
        with no_progress_bars():
            hf = AutoModelForCausalLM.from_pretrained(str(base), dtype=torch.bfloat16, local_files_only=True)
            assembled(hf, mixers, weights / HYBRID).save_pretrained(folder)
            AutoTokenizer.from_pretrained(str(base), local_files_only=True).save_pretrained(folder)

    key = f"{base.name}/{hash_file(file)}/{MAKER}"
    return made_once(name, key, make, notify or (lambda _: None), f"once, about 5 s, of {EMBEDDED} and its mixers")
