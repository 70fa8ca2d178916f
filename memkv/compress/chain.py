"""Evict, then quantize what is left."""

from __future__ import annotations

from collections.abc import Sequence

from memkv.compress.base import KVCompressor
from memkv.compress.evictor import Evictor
from memkv.compress.quantizer import Quantizer
from memkv.errors import ConfigError
from memkv.snapshot import CacheSnapshot


class Chain:
    """An evictor and a quantizer in that order: as many entries are kept as fit the budget once quantized."""

    def __init__(self, stages: Sequence[KVCompressor]) -> None:
        """Compose `[evictor, quantizer]`.

        Raises:
            ConfigError: other stages, or in another order.
        """
        if len(stages) != 2 or not isinstance(stages[0], Evictor) or not isinstance(stages[1], Quantizer):
            names = "+".join(stage.name for stage in stages)
            raise ConfigError(f"{names!r} is not an evictor and a quantizer", "Write for example snapkv+int4.")
        self.evictor, self.quantizer = stages[0], stages[1]

    @property
    def name(self) -> str:
        """For example `snapkv+int4`."""
        return f"{self.evictor.name}+{self.quantizer.name}"

    def compress(self, snapshot: CacheSnapshot, budget: int | None = None) -> CacheSnapshot:
        """See `KVCompressor.compress`."""
        return self.evictor.compress(snapshot, budget, then=self.quantizer)
