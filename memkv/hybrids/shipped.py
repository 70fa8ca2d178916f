"""The hybrid that comes with memkv: mixers in the package, put onto the embedded model once."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from memkv.embedded import EMBEDDED, converted_folder, no_progress_bars
from memkv.errors import ModelUnavailable
from memkv.hybrids.mixers import FILE
from memkv.hybrids.whole import assembled
from memkv.made_once import Notify, hash_file, made_once

HYBRID = "smollm2-hybrid"
MIXERS = Path(__file__).parent / "weights" / HYBRID

# Raise it when `assembled` changes: the folder's name holds it, so that an older one is not used.
MAKER = 1


def hybrid_folder(notify: Notify | None = None, mixers: Path = MIXERS) -> Path:
    """The folder with the hybrid's weights and the embedded model's tokenizer; put together now if need be.

    Args:
        notify: told about what takes seconds.
        mixers: folder of the mixers, made for the embedded model.

    Raises:
        ModelUnavailable: no mixers, or damaged ones, or ones of another base; or the base is not there.
        StorageFull: no room for the 310 MB.
    """
    file = mixers / FILE
    if not file.is_file():
        raise ModelUnavailable(f"There is no {file}", "Install memkv again, or make one: python -m train.hybridize.")
    base = converted_folder(notify)

    def make(folder: Path) -> None:
        with no_progress_bars():
            hf = AutoModelForCausalLM.from_pretrained(str(base), dtype=torch.bfloat16, local_files_only=True)
            assembled(hf, mixers).save_pretrained(folder)
            AutoTokenizer.from_pretrained(str(base), local_files_only=True).save_pretrained(folder)

    key = f"{base.name}/{hash_file(file)}/{MAKER}"
    return made_once(HYBRID, key, make, notify or (lambda _: None), f"once, about 5 s, of {EMBEDDED} and its mixers")
