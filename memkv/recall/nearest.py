"""The nearest memories of one tenant, by FAISS. Derived from the store and made anew from it at every start."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

import faiss
import numpy as np
from numpy.typing import NDArray

from memkv.errors import InvalidInput

Address = tuple[str, int]  # session, number
Row = tuple[str, int, bytes]  # session, number, vectors
EXACT = 50_000  # vectors up to which all are looked at
LISTS, LOOKED_INTO = 128, 8
LEARNED_FROM, ROUNDS = 64, 4  # memories a list, and rounds of k-means
AT_ONCE = 512  # memories that are put in: what they take stays in the processor's caches


@dataclass(frozen=True)
class Near:
    """A memory, the cosine similarity of its nearest vector to what was asked, and that vector."""

    address: Address
    cosine: float
    vector_D: NDArray[np.float32] = field(repr=False, compare=False)


class Nearest:
    """Vectors of length 1 under the addresses of memories, one or more each.

    Up to EXACT vectors each is looked at. Of more, those in the lists nearest to the question are: the index (IVF) is
    made anew at every start, which is why there are few lists (`make bench` has time and recall).

    Args:
        dimensions: of a vector.
        bonus: by so much a preferred memory comes before one that is as near; a dimension more, in which the question
            has the bonus and preferred ones have 1, lets the one search see to it.
    """

    def __init__(self, dimensions: int, bonus: float = 0.0) -> None:
        self._index: faiss.Index = faiss.IndexFlatIP(dimensions + 1)
        self._bonus = bonus
        self._addresses: list[Address] = []

    @classmethod
    def of(
        cls,
        dimensions: int,
        stored: Iterable[Row],
        preferred: Collection[Address] = (),
        bonus: float = 0.0,
    ) -> Nearest:
        """An index of stored vectors (`TenantStore.vectors`), of each memory joined.

        Raises:
            InvalidInput: vectors of another length.
        """
        found = cls(dimensions, bonus)
        rows, each = list(stored), 4 * dimensions
        if sum(len(vectors) for _, _, vectors in rows) // each > EXACT:
            found._index = in_lists(as_vectors([vectors for _, _, vectors in spread(rows)], dimensions))
        for start in range(0, len(rows), AT_ONCE):  # the whole would be copied twice
            some = rows[start : start + AT_ONCE]
            vectors_ND = as_vectors([vectors for _, _, vectors in some], dimensions)
            addresses = [place for session, n, own in some for place in [(session, n)] * (len(own) // each)]
            found.add(addresses, vectors_ND, preferred)
        return found

    def __len__(self) -> int:
        """Vectors in it."""
        return len(self._addresses)

    def add(
        self, addresses: Sequence[Address], vectors_ND: NDArray[np.float32], preferred: Collection[Address] = ()
    ) -> None:
        """More vectors, each with the address of its memory."""
        if addresses:
            longer_ND = np.zeros((len(vectors_ND), vectors_ND.shape[1] + 1), np.float32)
            longer_ND[:, :-1] = vectors_ND
            if preferred:
                longer_ND[:, -1] = [address in preferred for address in addresses]
            self._index.add(longer_ND)
            self._addresses += addresses

    def search(self, vector_D: NDArray[np.float32], k: int) -> list[Near]:
        """The `k` memories whose vectors are nearest, nearest first; of equals the earlier first."""
        asked_1D = np.append(vector_D, np.float32(self._bonus)).reshape(1, -1)
        count = k
        while True:
            count = min(2 * count, len(self))
            if count < 1:
                return []
            scores, numbers = self._index.search(asked_1D, count)
            found: dict[Address, Near] = {}
            for _, number in sorted(zip(-scores[0], numbers[0], strict=True)):
                if number >= 0 and self._addresses[number] not in found:  # -1 where the lists hold no more
                    vector = np.asarray(self._index.reconstruct(int(number)))[:-1]
                    found[self._addresses[number]] = Near(self._addresses[number], float(vector @ vector_D), vector)
            if len(found) >= k or count == len(self):
                return list(found.values())[:k]


def spread(rows: Sequence[Row]) -> Sequence[Row]:
    """As many of them, evenly taken, as lists are learned from."""
    return rows[:: -(-len(rows) // (LEARNED_FROM * LISTS))]


def in_lists(some_ND: NDArray[np.float32]) -> faiss.IndexIVFScalarQuantizer:
    """An empty index of LISTS lists of numbers in fp16, for vectors like these with a dimension more."""
    width = some_ND.shape[1] + 1
    index = faiss.IndexIVFScalarQuantizer(
        faiss.IndexFlatIP(width), width, LISTS, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT, False
    )
    index.cp.niter, index.cp.min_points_per_centroid, index.nprobe = ROUNDS, 1, LOOKED_INTO
    index.train(np.hstack([some_ND, np.zeros((len(some_ND), 1), np.float32)]))
    index.make_direct_map()  # to give a vector back by its number
    return index


def as_vectors(stored: Sequence[bytes], dimensions: int) -> NDArray[np.float32]:
    """Stored vectors (ND).

    Raises:
        InvalidInput: some have another length.
    """
    if any(len(each) % (4 * dimensions) for each in stored):
        raise InvalidInput(f"Stored vectors have not {dimensions} dimensions", "Leave them out, and embed them again.")
    return np.frombuffer(b"".join(stored), dtype="<f4").reshape(-1, dimensions)


def as_bytes(vectors_ND: NDArray[np.float32]) -> bytes:
    """Vectors as they are stored."""
    return vectors_ND.astype("<f4").tobytes()
