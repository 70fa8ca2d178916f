"""What the same context would take on known architectures: measured once, by running them without weights."""

from __future__ import annotations

import threading

import torch

from memkv.cache_size import CacheProfile, meta_model, profile
from memkv.reference.measured import reference_config

LONGEST = 131_072  # tokens that are told apart from more
SHOWN = ("llama-3-8b", "gemma-3-27b", "deepseek-v3", "bamba-9b")


class References:
    """Profiles of some architectures, measured at the first question."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._profiles: dict[str, CacheProfile] = {}

    def at(self, tokens: int) -> dict[str, int]:
        """Bytes of cache at so many tokens, by name."""
        with self._lock:
            for name in SHOWN:
                if name not in self._profiles:
                    config, _ = reference_config(name)
                    self._profiles[name] = profile(meta_model(config, torch.bfloat16), longest=LONGEST)
        return {name: law.at(tokens) if tokens else 0 for name, law in self._profiles.items()}
