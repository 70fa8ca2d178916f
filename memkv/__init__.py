"""memkv: the tier between a KV cache and weights: conversations that survive their process, in measured bytes.

The names below load on first use, so that `import memkv` is quick and has no side effects.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from memkv.cache_size import CacheProfile, CacheSize, measure, profile
    from memkv.model import HybridModel
    from memkv.session import Session
    from memkv.snapshot import CacheSnapshot
    from memkv.store import MemoryStore

__version__ = "0.1.0"

HOMES = {
    "CacheProfile": "memkv.cache_size",
    "CacheSize": "memkv.cache_size",
    "CacheSnapshot": "memkv.snapshot",
    "HybridModel": "memkv.model",
    "MemoryStore": "memkv.store",
    "Session": "memkv.session",
    "measure": "memkv.cache_size",
    "profile": "memkv.cache_size",
}

__all__ = [
    "CacheProfile",
    "CacheSize",
    "CacheSnapshot",
    "HybridModel",
    "MemoryStore",
    "Session",
    "measure",
    "profile",
]


def __getattr__(name: str) -> Any:
    """Load a public name from its module (PEP 562)."""
    if name not in HOMES:
        raise AttributeError(f"module 'memkv' has no attribute {name!r}")
    return getattr(import_module(HOMES[name]), name)
