"""The nearest memories of one tenant, by FAISS. Derived from the store and made anew from it at every start."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import faiss
import numpy as np
from numpy.typing import NDArray

from memkv.errors import InvalidInput

Address = tuple[str, int]  # session, number


@dataclass(frozen=True)
class Near:
    """A memory, its cosine similarity to what was asked, and its own vector."""

    address: Address
    cosine: float
    vector_D: NDArray[np.float32] = field(repr=False, compare=False)


class Nearest:
    """Vectors of length 1 under the addresses of memories, searched without approximation.

    A hundred thousand of 384 dimensions are 147 MiB, which one pass over them reads in milliseconds: an approximate
    index would have to be built or kept on disk for that (`make bench` has the figures).
    """

    def __init__(self, dimensions: int) -> None:
        self._index = faiss.IndexFlatIP(dimensions)
        self._addresses: list[Address] = []

    @classmethod
    def of(cls, dimensions: int, stored: Iterable[tuple[str, int, bytes]]) -> Nearest:
        """An index of stored vectors (`TenantStore.vectors`).

        Raises:
            InvalidInput: a vector of another length.
        """
        found = cls(dimensions)
        rows = list(stored)
        found.add([(session, n) for session, n, _ in rows], as_vectors([vector for _, _, vector in rows], dimensions))
        return found

    def __len__(self) -> int:
        """Memories in it."""
        return len(self._addresses)

    def add(self, addresses: Sequence[Address], vectors_ND: NDArray[np.float32]) -> None:
        """More memories."""
        if addresses:
            self._index.add(vectors_ND)
            self._addresses += addresses

    def search(self, vector_D: NDArray[np.float32], k: int) -> list[Near]:
        """The `k` nearest, nearest first; of equals the earlier first."""
        if not self._addresses or k < 1:
            return []
        cosines, numbers = self._index.search(vector_D.reshape(1, -1), min(k, len(self)))
        ranked = sorted(zip(-cosines[0], numbers[0], strict=True))
        return [
            Near(self._addresses[number], -float(cosine), np.asarray(self._index.reconstruct(int(number))))
            for cosine, number in ranked
        ]


def as_vectors(stored: Sequence[bytes], dimensions: int) -> NDArray[np.float32]:
    """Stored vectors (ND).

    Raises:
        InvalidInput: one has another length.
    """
    if any(len(each) != 4 * dimensions for each in stored):
        raise InvalidInput(
            f"A stored vector has not {dimensions} dimensions", "Leave it out, and embed its text again."
        )
    return np.frombuffer(b"".join(stored), dtype="<f4").reshape(-1, dimensions)


def as_bytes(vector_D: NDArray[np.float32]) -> bytes:
    """A vector as it is stored."""
    return vector_D.astype("<f4").tobytes()
