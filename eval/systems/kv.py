"""memkv's own tier: the conversation's cache, compressed by a codec, stored, and restored without reading a token."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

from eval.systems.base import Case, Limits, Memory, Spent, constant
from memkv.compress import NAMES, QUANTIZERS, codec, decompress
from memkv.errors import ConfigError
from memkv.live import LiveCache
from memkv.model import HybridModel
from memkv.session.opening import token_bytes
from memkv.snapshot import CacheSnapshot
from memkv.snapshot_file import read_snapshot, to_buffers
from memkv.store import MemoryStore, NewMemory

SESSION = "case"
EXACT = "exact restore"


class StoredCache:
    """One codec. `snapkv+int4` evicts to the budget of live cache, then stores what is left in INT4.

    A cache that was quantized is exact in size at rest only: in use it takes full precision. An evicting codec sees the
    whole conversation once, at its end, so its peak is the full cache, whatever the number of rounds.

    Args:
        name: `exact restore`, or a codec of `memkv.compress` without a ratio.

    Raises:
        ConfigError: a chain of something else than an evictor and a quantizer.
    """

    sampled = False

    def __init__(self, name: str) -> None:
        self.name = name
        first, plus, second = name.partition("+")
        if plus and (first == EXACT or first in QUANTIZERS or second not in QUANTIZERS):
            raise ConfigError(f"{name!r} is not an evictor and a quantizer", "Write for example snapkv+int4.")
        keeps_all = first == EXACT or first in QUANTIZERS
        self._evictor = "identity" if keeps_all else first
        self._quantizer = first if first in QUANTIZERS else second

    @property
    def budgeted(self) -> bool:
        """Whether entries are evicted; without that, live bytes are those of the full context."""
        return self._evictor != "identity"

    def remember(self, case: Case, limits: Limits) -> Memory:
        """See `System.remember`."""
        model = case.model
        peak = case.full.size().payload
        kept = codec(self._evictor, model).compress(case.snapshot, limits.active if self.budgeted else None)
        if self._quantizer:
            kept = codec(self._quantizer).compress(kept, None)
        with TemporaryDirectory(prefix="memkv-eval-") as folder:
            at_rest = store(Path(folder), case, kept)
            began = time.perf_counter()
            live = load(Path(folder), model)
            seconds = time.perf_counter() - began
        return Memory(
            messages=constant(case.messages),
            text=None,
            at_rest=at_rest,
            live=live,
            load_seconds=seconds,
            spent=Spent(prefilled=len(case.full), peak=peak),
        )


def store(folder: Path, case: Case, kept: CacheSnapshot) -> dict[str, int]:
    """Commit text and cache as a session does; bytes on disk by kind."""
    texts = [NewMemory(turn.text, role=turn.role) for turn in case.scenario.turns]
    with MemoryStore.open(folder) as opened:
        tenant = opened.tenant("eval")
        tenant.create_session(SESSION)
        tenant.commit(
            SESSION,
            0,
            memories=texts,
            context=range(1, len(texts) + 1),
            tokens=token_bytes(kept.token_ids),
            fingerprint=asdict(kept.fingerprint),
            blob=to_buffers(kept),
        )
        used = tenant.usage()
    return {"kv": used.blobs, "text": used.text, "metadata": used.records + used.tokens}


def load(folder: Path, model: HybridModel) -> LiveCache:
    """Open the store as a new process would, and bring the cache back: verified, decompressed, restored."""
    with MemoryStore.open(folder) as opened:
        return model.restore(decompress(opened.tenant("eval").take_blob(SESSION, None, read_snapshot)))


KV_NAMES = (EXACT, *(name for name in NAMES if name != "identity"))
