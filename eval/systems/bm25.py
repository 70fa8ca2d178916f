"""BM25 retrieval by bm25s."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import bm25s

from eval.systems.base import Case, Limits, Memory
from eval.systems.retrieval import Retrieval, Shelf, chunked, retrieving


class BM25(Retrieval):
    """Okapi BM25 over words, English stop words left out."""

    kind = "bm25"

    def remember(self, case: Case, limits: Limits) -> Memory:
        """See `System.remember`. The index is built once, at the end: its weights depend on all chunks."""
        chunks = [chunk for chunks in chunked(case, self.chunk_tokens) for chunk in chunks]
        index = WordIndex([chunk.text for chunk in chunks])
        shelf = Shelf(case.model, chunks, limits)
        # What comes up depends on the question, so the memory has no text that the model sees as a whole.
        return retrieving(shelf, lambda query: shelf.fill(index.rank(query)), {"index": index.nbytes}, text=None)


class WordIndex:
    """A BM25 index of texts."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._count = len(texts)
        self._index: bm25s.BM25 | None = None
        words = bm25s.tokenize(list(texts), stopwords="en", show_progress=False)
        if words.vocab:  # bm25s cannot index texts of stop words only
            self._index = bm25s.BM25()
            self._index.index(words, show_progress=False)

    def matches(self, query: str) -> list[int]:
        """Numbers of the texts that share a word with `query`, best first; of equals the newer first."""
        words = bm25s.tokenize([query], stopwords="en", return_ids=False, show_progress=False)[0]
        if self._index is None or not words:
            return []
        scores = self._index.get_scores(words)
        return sorted((number for number in range(self._count) if scores[number] > 0), key=lambda n: (-scores[n], -n))

    def rank(self, query: str) -> list[int]:
        """Numbers of all texts: those that match, then the rest from the newest on, to fill what room is left."""
        matching = self.matches(query)
        found = frozenset(matching)
        return [*matching, *(n for n in reversed(range(self._count)) if n not in found)]

    @property
    def nbytes(self) -> int:
        """Bytes of the index as bm25s writes it."""
        if self._index is None:
            return 0
        with TemporaryDirectory(prefix="memkv-eval-") as folder:
            self._index.save(folder, show_progress=False)
            return sum(file.stat().st_size for file in Path(folder).iterdir())
