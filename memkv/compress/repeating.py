"""Queries of a model that repeats its context: the questions that reconstruct all of it (KVzip, arXiv 2505.23416)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from memkv.compress.reading import Heard, listen
from memkv.live import LiveCache
from memkv.model import HybridModel

REPEAT = "\n\nRepeat the previous context exactly."
REPEAT_PART = "\n\nRepeat the part of the previous context exactly, starting with"
# Tokens of the chunk before, after REPEAT_PART.
LEAD = 8


@dataclass(frozen=True)
class Repetition:
    """One chunk of the context read once more: tokens `start` to `end`, and what was heard, by layer."""

    start: int
    end: int
    heard: dict[int, Heard]


def repeat(model: HybridModel, token_ids: Sequence[int], chunk: int) -> Iterator[Repetition]:
    """Read the context, then for each `chunk` of it a request to repeat and the chunk itself.

    A model without a tokenizer gets the chunk without a request.

    Raises:
        InvalidInput: context, request and chunk together are longer than the model's positions.
    """
    live = model.new_cache()
    model.extend(live, token_ids)
    for start in range(0, len(token_ids), chunk):
        part = token_ids[start : start + chunk]
        fork: LiveCache = live.fork()
        request = [*encode(model, REPEAT_PART), *token_ids[start - LEAD : start]] if start else encode(model, REPEAT)
        heard = listen(model, fork, [*request, *encode(model, "\n"), *part])
        yield Repetition(start, start + len(part), heard)


def encode(model: HybridModel, text: str) -> list[int]:
    """Token ids of `text`; none where there is no tokenizer."""
    return [] if model.tokenizer is None else list(model.tokenizer.encode(text, add_special_tokens=False))
