"""A model that counts what is read and written with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

from eval.systems.base import Spent
from memkv.live import LiveCache
from memkv.model import HybridModel, Progress
from memkv.sampling import Sampling


class Metered:
    """`model` with a meter: tokens and the largest cache go into `spent`; everything else is the model's own."""

    def __init__(self, model: HybridModel, spent: Spent) -> None:
        self._model, self._spent = model, spent

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def extend(self, live: LiveCache, token_ids: Sequence[int], progress: Progress | None = None) -> Tensor:
        """See `HybridModel.extend`."""
        logits_V = self._model.extend(live, token_ids, progress)
        self._spent.prefilled += len(token_ids)
        self._note(live)
        return logits_V

    def generate(
        self, live: LiveCache, max_new_tokens: int, sampling: Sampling | None = None, stop_ids: Sequence[int] = ()
    ) -> Iterator[int]:
        """See `HybridModel.generate`."""
        for token in self._model.generate(live, max_new_tokens, sampling, stop_ids):
            self._spent.generated += 1
            yield token
        self._note(live)

    def take_over(self, live: LiveCache) -> LiveCache:
        """A fork of a cache that several systems share, counted as if it had been read for this one alone."""
        self._spent.prefilled += len(live)
        self._note(live)
        return live.fork()

    def _note(self, live: LiveCache) -> None:
        self._spent.peak = max(self._spent.peak, live.size().payload)
