"""Which stretches of text that left the context a question touches: words weighed by how rare they are.

As text for now: the sentence that shares most with the question, and what stands around it, is put before the question
again. No index is kept; a session's lost messages are few enough to be looked through.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from memkv.compaction.base import content_words
from memkv.compaction.rules import unwrapped

STEM = 6  # letters by which words are compared: approve, approves, approved
TOUCHES = 0.5  # share of the question's weight that a sentence must hold, times the probability that it was lost
FEWEST = 2  # words that a sentence must share with the question
LONGEST = 96  # tokens of one stretch
SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")


@dataclass(frozen=True)
class Gone:
    """A message that is not in the context. `lost` is the probability that nothing there says it any more."""

    n: int
    text: str
    lost: float


@dataclass(frozen=True)
class Stretch:
    """What is brought back of message `n`. `score` is the share of the question's weight that it holds."""

    n: int
    text: str
    score: float


def touched(question: str, gone: Sequence[Gone], room: int, count: Callable[[str], int]) -> list[Stretch]:
    """The stretches that `question` touches, in the order in which they were said: the best that fit `room` tokens.

    Args:
        question: what is asked.
        gone: messages out of the context.
        room: tokens in all.
        count: tokens of a text.
    """
    asked = stems(question)
    parts = [(each, sentence) for each in gone for sentence in sentences(each.text)]
    if not asked or not parts:
        return []
    seen = Counter(stem for _, sentence in parts for stem in stems(sentence))
    # Words that stand nowhere in what was lost say nothing of it: "could you please ...".
    weight = {stem: math.log(1 + len(parts) / seen[stem]) for stem in asked if seen[stem]}
    total = sum(weight.values())
    ranked: list[tuple[float, Gone, str]] = []
    for each, sentence in parts:
        shared = weight.keys() & stems(sentence)
        score = each.lost * sum(weight[stem] for stem in shared) / total if len(shared) >= FEWEST else 0.0
        if score >= TOUCHES:
            ranked.append((score, each, sentence))
    ranked.sort(key=lambda found: (-found[0], -found[1].n))
    chosen: list[Stretch] = []
    left = room
    for score, each, sentence in ranked:
        if any(stretch.n == each.n and sentence in stretch.text for stretch in chosen):
            continue
        text = around(each.text, sentence, min(left, LONGEST), count)
        if text:
            chosen.append(Stretch(each.n, text, round(score, 4)))
            left -= count(text)
    return sorted(chosen, key=lambda stretch: stretch.n)  # what was said last stands nearest to the question


def sentences(text: str) -> list[str]:
    """Parts of a text that end in a full stop, or with their line."""
    return [part for part in SENTENCE.split(unwrapped(text)) if part.strip()]


def stems(text: str) -> set[str]:
    """What words are compared by."""
    return {word[:STEM] for word in content_words(text)}


def around(text: str, sentence: str, most: int, count: Callable[[str], int]) -> str:
    """The sentence with the one before and the one after, as far as `most` tokens allow; empty if it does not fit."""
    parts = sentences(text)
    at = parts.index(sentence)
    for first, last in ((at - 1, at + 2), (at, at + 2), (at, at + 1)):
        stretch = " ".join(parts[max(0, first) : last])
        if count(stretch) <= most:
            return stretch
    return ""
