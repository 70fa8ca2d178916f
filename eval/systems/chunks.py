"""Chunks of a conversation for retrieval: pieces of one message each, without overlap, nothing left out."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from eval.scenarios import Turn
from memkv.errors import ConfigError

# Where a text may be cut, the best places first: paragraphs and list entries; sentences, but not after the number of a
# list entry; words; anywhere.
CUTS = (
    re.compile(r"\n\s*\n|\n(?=\s*(?:[-*•]|\d{1,2}[.):])\s)"),
    re.compile(r"(?<=[.!?])(?<!\s\d\.)(?<!\s\d\d\.)\s+(?=[A-Z\d\"“'\[])"),
    re.compile(r"\s+"),
    re.compile(r"(?<=.)", re.DOTALL),
)


@dataclass(frozen=True)
class Chunk:
    """A piece of a message. `message` and `part` count from 0; `tokens` is its own length."""

    message: int
    part: int
    role: str
    text: str
    tokens: int


def chunk_turns(turns: Sequence[Turn], size: int, count: Callable[[str], int], first: int = 0) -> list[Chunk]:
    """Chunks of at most `size` tokens, in order; the chunks of a message joined are the message.

    Args:
        turns: the messages; empty ones give none.
        size: most tokens a chunk; a single character with more is a chunk of its own.
        count: tokens of a text.
        first: number of the first message.

    Raises:
        ConfigError: a size below 1.
    """
    if size < 1:
        raise ConfigError(f"Chunks of {size} tokens hold nothing", "Use at least 1; 64 is the default.")
    return [
        Chunk(number, part, turn.role, text, count(text))
        for number, turn in enumerate(turns, first)
        for part, text in enumerate(split(turn.text, size, count))
        if text
    ]


def split(text: str, size: int, count: Callable[[str], int], level: int = 0) -> list[str]:
    """`text` in pieces of at most `size` tokens, cut at the best places that allow it."""
    if level == len(CUTS) or count(text) <= size:
        return [text]
    ends = [*(found.end() for found in CUTS[level].finditer(text) if found.end() < len(text)), len(text)]
    parts = [text[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]
    pieces: list[str] = []
    for piece in (piece for part in parts if part for piece in split(part, size, count, level + 1)):
        if pieces and count(pieces[-1] + piece) <= size:
            pieces[-1] += piece
        else:
            pieces.append(piece)
    return pieces
