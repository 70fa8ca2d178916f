"""A stretch of conversation as a cache of its own, that can be put behind any other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from memkv.snapshot import CacheSnapshot


@dataclass(frozen=True)
class Segment:
    """What was read of one stretch, alone behind a lead that is not part of it.

    Attributes:
        snapshot: entries of the stretch's tokens (where a sliding layer still holds them), convolution and recurrent
            state at its end, and its token ids.
        first: position at which it was read: tokens of the lead.
        repair: tokens at its beginning that are read again where it is put.
        starts: recurrent state behind lead and repaired tokens, as `layers.3.recurrent.0`.
        transitions: what the rest of the stretch does to that state (D, see `memkv.splice.recurrence`).
    """

    snapshot: CacheSnapshot
    first: int
    repair: int
    starts: Mapping[str, Tensor]
    transitions: Mapping[str, Tensor]

    def __len__(self) -> int:
        """Tokens."""
        return len(self.snapshot.token_ids)

    @property
    def payload(self) -> int:
        """Bytes that the numbers need, those for the composition included."""
        return self.snapshot.payload + sum(each.numel() * each.element_size() for each in self._composition())

    def _composition(self) -> Iterator[Tensor]:
        yield from self.starts.values()
        yield from self.transitions.values()
