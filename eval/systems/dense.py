"""Dense retrieval: embeddings by sentence-transformers, an exact inner-product index by FAISS."""

from __future__ import annotations

from collections.abc import Sequence

import faiss

from eval.systems.base import Case, Limits, Memory
from eval.systems.chunks import Chunk
from eval.systems.retrieval import Retrieval, Shelf, chunked, retrieving
from memkv.recall.embedding import DIMENSIONS, embed


class Dense(Retrieval):
    """Cosine similarity of all-MiniLM-L6-v2 embeddings."""

    kind = "dense"

    def remember(self, case: Case, limits: Limits) -> Memory:
        """See `System.remember`."""
        rounds = chunked(case, self.chunk_tokens)
        index = DenseIndex.of(rounds)
        shelf = Shelf(case.model, [chunk for chunks in rounds for chunk in chunks], limits)
        # What comes up depends on the question, so the memory has no text that the model sees as a whole.
        return retrieving(shelf, lambda query: shelf.fill(index.rank(query)), {"vectors": index.nbytes}, text=None)


class DenseIndex:
    """Normalised vectors of texts, searched without approximation."""

    def __init__(self) -> None:
        self._index = faiss.IndexFlatIP(DIMENSIONS)

    @classmethod
    def of(cls, rounds: Sequence[Sequence[Chunk]]) -> DenseIndex:
        """An index of all chunks, embedded round by round as they come."""
        index = cls()
        for chunks in rounds:
            index.add([chunk.text for chunk in chunks])
        return index

    def add(self, texts: Sequence[str]) -> None:
        """Embed and append `texts`."""
        if texts:
            self._index.add(embed(texts))

    def rank(self, query: str) -> list[int]:
        """Numbers of all texts, nearest first; of equals the earlier first."""
        if not self._index.ntotal:
            return []
        scores, numbers = self._index.search(embed([query]), self._index.ntotal)
        return [int(number) for _, number in sorted(zip(-scores[0], numbers[0], strict=True))]

    @property
    def nbytes(self) -> int:
        """Bytes of the index as FAISS writes it."""
        return int(faiss.serialize_index(self._index).nbytes)
