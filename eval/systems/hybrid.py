"""Hybrid retrieval: dense and BM25 joined by reciprocal rank fusion, and standing rules brought back always."""

from __future__ import annotations

from collections.abc import Sequence

from eval.systems.base import Case, Limits, Memory
from eval.systems.bm25 import WordIndex
from eval.systems.dense import DenseIndex
from eval.systems.retrieval import CHUNK_TOKENS, Retrieval, Shelf, chunked, retrieving

K = 60  # of reciprocal rank fusion (Cormack, Clarke and Büttcher, SIGIR 2009)
STANDING = "Standing rules and instructions in force: what must, must never, may only, has to or should always be done"
# Of the budget; the rest is the question's own, which without this would never be searched for at tight budgets.
STANDING_SHARE = 0.5


class Hybrid(Retrieval):
    """Both searches for the question, after the hits of a query for standing rules.

    Args:
        chunk_tokens: most tokens a chunk.
        standing_share: most of the budget that the standing query may take.
    """

    kind = "hybrid"

    def __init__(self, chunk_tokens: int = CHUNK_TOKENS, standing_share: float = STANDING_SHARE) -> None:
        super().__init__(chunk_tokens)
        self._share = standing_share

    def remember(self, case: Case, limits: Limits) -> Memory:
        """See `System.remember`."""
        rounds = chunked(case, self.chunk_tokens)
        dense = DenseIndex.of(rounds)
        chunks = [chunk for chunks in rounds for chunk in chunks]
        words = WordIndex([chunk.text for chunk in chunks])
        shelf = Shelf(case.model, chunks, limits)

        def rank(query: str) -> list[int]:
            return fuse([dense.rank(query), words.matches(query)])

        standing = shelf.fill(rank(STANDING), share=self._share)
        return retrieving(
            shelf,
            lambda query: shelf.fill(rank(query), taken=standing),
            {"vectors": dense.nbytes, "index": words.nbytes},
            # What is in front of every question; the rest depends on the question.
            text=shelf.text(standing),
        )


def fuse(rankings: Sequence[Sequence[int]]) -> list[int]:
    """Numbers by the sum of 1 / (K + rank) over rankings, the first rank being 1; of equals the lower first."""
    scores: dict[int, float] = {}
    for ranking in rankings:
        for rank, number in enumerate(ranking, 1):
            scores[number] = scores.get(number, 0.0) + 1 / (K + rank)
    return sorted(scores, key=lambda number: (-scores[number], number))
