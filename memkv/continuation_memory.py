"""Answers of the continuation self-check, kept under `MEMKV_HOME` so that it runs once per model and version."""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
from pathlib import Path

import transformers

from memkv.config import memkv_home
from memkv.continuation import Continuation
from memkv.errors import ConfigError


def answer_file(key: str) -> Path:
    """One small file an answer: two processes never edit the same one. The library's version is part of the name."""
    return memkv_home() / "continuation" / f"{key}-transformers{transformers.__version__}.json"


def recall_continuation(key: str) -> Continuation | None:
    """The remembered answer; None where there is none or it cannot be read (then the check simply runs again)."""
    try:
        return Continuation(**json.loads(answer_file(key).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def remember_continuation(key: str, found: Continuation) -> None:
    """Write the answer atomically.

    Raises:
        ConfigError: the home folder cannot be written to.
    """
    path = answer_file(key)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
            json.dump(dataclasses.asdict(found), file)
        os.replace(file.name, path)
    except OSError as error:
        raise ConfigError(
            f"Cannot write to {path.parent}: {error.strerror}", "Set MEMKV_HOME to a folder that you can write to."
        ) from error
