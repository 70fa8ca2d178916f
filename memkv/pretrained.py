"""Names -> weights: the two models that come with memkv, a local folder, or a hub id; all through one function."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, TypeVar

import torch
from huggingface_hub import constants as hub
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from memkv.embedded import EMBEDDED, converted_folder, no_progress_bars
from memkv.errors import ModelUnavailable
from memkv.hybrids.shipped import HYBRID, HYBRIDS, hybrid_folder
from memkv.made_once import Notify

__all__ = ["EMBEDDED", "HYBRID", "HYBRIDS", "load", "load_config", "resolve"]

Loaded = TypeVar("Loaded")

HUB_TIMEOUT_S = 5.0

# What reading a model's files raises when they are absent, damaged or of a kind that transformers does not know.
UNREADABLE = (OSError, ValueError, RuntimeError, KeyError, ImportError, EOFError, SafetensorError, UnpicklingError)


def load(
    name: str | Path = EMBEDDED,
    dtype: torch.dtype = torch.bfloat16,
    device: str | torch.device = "cpu",
    notify: Notify | None = None,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model, in evaluation mode, and its tokenizer. No code from a model's repository is ever run.

    Args:
        name: `smollm2-135m`, `smollm2-hybrid` (or `-15`, `-22`), a folder with config, weights and tokenizer, or a hub
            id, of which the copy in the Hugging Face cache is used if there is one.
        dtype: precision of the weights.
        device: where to put them.
        notify: told in one sentence about work that takes seconds (the one conversion of the embedded model).

    Raises:
        ModelUnavailable: unknown name, missing or damaged files, or a hub that cannot be reached.
    """
    return _local_first(name, notify, lambda source, local: _read(source, dtype, device, local=local))


def load_config(name: str | Path = EMBEDDED, notify: Notify | None = None) -> PreTrainedConfig:
    """The configuration alone; besides what `load` takes, the path of a configuration file (JSON).

    Raises:
        ModelUnavailable: as `load`.
    """
    if str(name).strip() and Path(name).is_file():
        return _read_config(Path(name), local=True)
    return _local_first(name, notify, lambda source, local: _read_config(source, local=local))


def resolve(name: str | Path, notify: Notify | None = None) -> Path | str:
    """A folder for a model that comes with memkv and for a local path, the hub id itself for anything else.

    Raises:
        ModelUnavailable: a path to a folder that is not there, or no embedded model to convert.
    """
    text = str(name)
    if text == EMBEDDED:
        return converted_folder(notify)
    if text in HYBRIDS:
        return hybrid_folder(text, notify)
    path = Path(text).expanduser()
    if text.strip() and path.is_dir():
        return path
    looks_like_path = isinstance(name, Path) or text.startswith((".", "~", os.sep)) or text.count("/") > 1
    if looks_like_path or not text.strip():
        raise ModelUnavailable(
            f"No folder {text!r}", f"Name a folder with config.json and weights, a hub id, or {EMBEDDED!r}."
        )
    return text


def _local_first(name: str | Path, notify: Notify | None, read: Callable[[Path | str, bool], Loaded]) -> Loaded:
    """Read the local folder; for a hub id its folder in the Hugging Face cache, and the hub only if that fails.

    The cached folder is named itself: given the id, transformers asks the hub for an adapter even with
    `local_files_only`, and without a network that takes it half a minute.
    """
    source = resolve(name, notify)
    if isinstance(source, Path):
        return read(source, True)
    try:
        cached = try_to_load_from_cache(source, "config.json")
    except HFValidationError as error:
        raise _unavailable(source, error) from error
    incomplete = None
    if isinstance(cached, str):
        try:
            return read(Path(cached).parent, True)
        except ModelUnavailable as error:
            incomplete = error
    _require_hub(source, incomplete)
    return read(source, False)


def _read_config(source: Path | str, *, local: bool) -> PreTrainedConfig:
    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(
            str(source), local_files_only=local, trust_remote_code=False
        )
    except UNREADABLE as error:
        raise _unavailable(source, error) from error
    return config


def _read(
    source: Path | str, dtype: torch.dtype, device: str | torch.device, *, local: bool
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Weights and tokenizer, every weight accounted for: transformers would only warn and draw random ones."""
    try:
        with no_progress_bars() if local else nullcontext():
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                str(source), dtype=dtype, local_files_only=local, trust_remote_code=False, output_loading_info=True
            )
            tokenizer = AutoTokenizer.from_pretrained(str(source), local_files_only=local, trust_remote_code=False)
    except UNREADABLE as error:
        raise _unavailable(source, error) from error
    model, report = loaded
    absent = sorted(report["missing_keys"])
    if absent:
        raise ModelUnavailable(
            f"{source}: {len(absent)} weights are missing, {absent[0]} first",
            "Fetch the model again, every file of it.",
        )
    ready: PreTrainedModel = model.to(device).eval()
    return ready, tokenizer


def _unavailable(source: Path | str, error: BaseException) -> ModelUnavailable:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return ModelUnavailable(
        f"Cannot load {str(source)!r}: {reason.rstrip('.')}",
        f"Check the folder's files or the hub id; {EMBEDDED!r} always works offline.",
    )


def _require_hub(name: str, incomplete: ModelUnavailable | None) -> None:
    """Ask the hub once, briefly: transformers would retry for half a minute, with a warning each time.

    Raises:
        ModelUnavailable: no answer within five seconds, or `HF_HUB_OFFLINE` is set.
    """
    works = f"Without a network these work: {EMBEDDED!r}, a local folder, and hub ids already in {hub.HF_HUB_CACHE}."
    if hub.HF_HUB_OFFLINE:
        raise ModelUnavailable(
            f"{name!r} is not complete in the local cache, and HF_HUB_OFFLINE is set", works
        ) from incomplete
    request = urllib.request.Request(hub.ENDPOINT, method="HEAD")
    try:
        urllib.request.urlopen(request, timeout=HUB_TIMEOUT_S).close()
    except urllib.error.HTTPError:
        return  # it answered; what it says about this name comes from transformers
    except OSError as error:
        raise ModelUnavailable(
            f"{name!r} is not complete in the local cache, and {hub.ENDPOINT} cannot be reached ({error})", works
        ) from (incomplete or error)
