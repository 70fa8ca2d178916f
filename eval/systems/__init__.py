"""Memory systems by name. A new one is one file here and one line in `SYSTEMS`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from eval.systems.base import Case, Limits, Memory, Spent, System
from eval.systems.bm25 import BM25
from eval.systems.curated import Curated
from eval.systems.dense import Dense
from eval.systems.extraction import ExtractionSummary
from eval.systems.full import FullContext
from eval.systems.hybrid import Hybrid
from eval.systems.kv import KV_NAMES, StoredCache
from eval.systems.memory_file import MemoryFile
from eval.systems.none import NoMemory
from eval.systems.recall import KIND as RECALLED
from eval.systems.recall import Recall
from eval.systems.recency import Recency
from eval.systems.registry import Registry
from eval.systems.summary import PromptedSummary
from eval.systems.trained import RECALL, TrainedPolicy
from memkv.compaction import TRAINED
from memkv.errors import ConfigError

__all__ = ["SYSTEMS", "Case", "Limits", "Memory", "Spent", "System", "system"]

SAMPLED = 0.7  # temperature

SYSTEMS: dict[str, Callable[[], System]] = {
    "none": NoMemory,
    "full": FullContext,
    "recency": Recency,
    "summary": PromptedSummary,
    "registry": Registry,
    "registry+summary": partial(PromptedSummary, pin_rules=True),
    "extraction summary": ExtractionSummary,
    "notes": partial(TrainedPolicy, "notes"),
    "sampled summary": partial(PromptedSummary, SAMPLED),
    "curated": Curated,
    "memory file": MemoryFile,
    "dense": Dense,
    "bm25": BM25,
    "hybrid": Hybrid,
    RECALLED: Recall,
}
# These take the size of their chunks in tokens behind their name: `hybrid 32`.
RETRIEVAL: dict[str, Callable[[int], System]] = {"dense": Dense, "bm25": BM25, "hybrid": Hybrid}


def system(name: str) -> System:
    """The system of that name.

    One of `SYSTEMS`; a retrieval with another chunk size (`dense 32`); recall of spliced caches (`recall kv 8`, `recall
    kv 8+int4`) and without notes (`recall whole`, `recall whole kv 8`); a trained policy (`trained`, `pinned+trained`,
    `trained+recall`, or with the folder of your own adapter `trained:FOLDER`); a stored cache (`exact restore`, `int4`,
    `snapkv+int4` ...).

    Raises:
        ConfigError: there is none; the known ones are named.
    """
    if name in SYSTEMS:
        return SYSTEMS[name]()
    kind, _, size = name.partition(" ")
    if kind in RETRIEVAL and size.isdecimal() and int(size) > 0:
        return RETRIEVAL[kind](int(size))
    if kind.partition("+")[0] == RECALLED:
        return Recall(name)
    if name.partition(":")[0].removesuffix(RECALL) in TRAINED:
        return TrainedPolicy(name)
    if name.partition("+")[0] in KV_NAMES:
        return StoredCache(name)
    known = ", ".join([*SYSTEMS, *TRAINED, *(f"{kind}:FOLDER" for kind in TRAINED), *KV_NAMES])
    raise ConfigError(f"There is no system {name!r}", f"Known: {known}, and chains of codecs like snapkv+int4.")
