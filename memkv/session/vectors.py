"""Vectors of all segments of a tenant: made where they are missing, and looked for what is new in the store."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from memkv.errors import NotFound, QuotaExceeded, StorageFull
from memkv.recall.choosing import STANDING
from memkv.recall.embedding import DIMENSIONS, NAME, embed
from memkv.recall.nearest import Address, Near, Nearest, as_bytes
from memkv.recall.stretch import searched
from memkv.store import StoredSegment, TenantStore

EMBEDDED_AT_ONCE = 256  # segments
VECTOR_BYTES = 4 * DIMENSIONS


class Vectors:
    """An index of one tenant's vectors. It is derived: the store has them, and the texts that they are of.

    Args:
        tenant: whose they are.
    """

    def __init__(self, tenant: TenantStore) -> None:
        self.tenant = tenant
        self._nearest = Nearest(DIMENSIONS, STANDING)

    def __len__(self) -> int:
        """How many."""
        return len(self._nearest)

    def look(self, preferred: Collection[Address]) -> None:
        """Read them from the store. Those that are missing, damaged or of another embedding model are made.

        Args:
            preferred: segments that come before others that are as near.
        """
        new = self.tenant.unembedded(NAME, VECTOR_BYTES)
        made = [  # stored as it goes, so that Ctrl-C loses little
            self.make(new[start : start + EMBEDDED_AT_ONCE]) for start in range(0, len(new), EMBEDDED_AT_ONCE)
        ]
        rows = [row for row in self.tenant.vectors(NAME) if row[2] and len(row[2]) % VECTOR_BYTES == 0]
        self._nearest = Nearest.of(DIMENSIONS, rows, preferred, STANDING)
        stored = {(session, first) for session, first, _ in rows}
        for addresses, vectors_ND in made:  # for which there was no room in the store
            left = [at for at, address in enumerate(addresses) if address not in stored]
            self._nearest.add([addresses[at] for at in left], vectors_ND[left], preferred)

    def search(self, text: str, k: int) -> list[Near]:
        """The `k` segments that are nearest to a text, nearest first."""
        return self._nearest.search(embed([text])[0], k)

    def make(self, segments: Sequence[StoredSegment]) -> tuple[list[Address], NDArray[np.float32]]:
        """Vectors (ND) of segments, each with its address; they are stored, if there is room for them.

        Segments of which nothing is left are passed by: they were forgotten this moment.
        """
        said = [self.tenant.stretch(segment.session, segment.first, segment.last) for segment in segments]
        found = {(each.session, each.first): searched(text) for each, text in zip(segments, said, strict=True) if text}
        addresses = [address for address, texts in found.items() for _ in texts]
        vectors_ND = embed([text for texts in found.values() for text in texts])
        ends = np.cumsum([len(texts) for texts in found.values()])[:-1]
        parts = np.split(vectors_ND, ends.astype(int))
        rows = [(*address, as_bytes(part)) for address, part in zip(found, parts, strict=False)]  # none of none
        with suppress(QuotaExceeded, StorageFull, NotFound):  # they are derived: whoever comes next makes them again
            self.tenant.keep_vectors(NAME, rows)
        return addresses, vectors_ND
