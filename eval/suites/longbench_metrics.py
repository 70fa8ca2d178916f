"""LongBench's metrics for its English and code datasets: an answer and one reference -> 0 to 1.

As published (Bai et al., arXiv 2308.14508; metrics.py of github.com/THUDM/LongBench). ROUGE-L and edit similarity are
those of the packages `rouge` 1.0.1 and `fuzzywuzzy` 0.18.0, which LongBench calls and which nobody maintains any more;
tests compare with them where they are installed.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from difflib import SequenceMatcher

Metric = Callable[[str, str, Sequence[str]], float]  # (answer, reference, all classes)

ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)
NUMBER = re.compile(r"\d+")


def f1(answer: str, reference: str, classes: Sequence[str] = ()) -> float:
    """F1 over words, without case, punctuation and articles, as in SQuAD (arXiv 1606.05250)."""
    said, wanted = words(answer), words(reference)
    same = sum((Counter(said) & Counter(wanted)).values())
    return 2 * same / (len(said) + len(wanted)) if same else 0.0


def words(text: str) -> list[str]:
    """Words in lower case, without punctuation and articles."""
    return ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split()


def rouge_l(answer: str, reference: str, classes: Sequence[str] = ()) -> float:
    """ROUGE-L F1 of a whole summary (Lin 2004), with words counted once, as `rouge` 1.0.1 does by default.

    For every pair of sentences the words of a longest common subsequence are taken; their union is what both share.
    """
    said, wanted = sentences(answer), sentences(reference)
    if not said or not wanted:
        return 0.0
    shared = {word for right in wanted for left in said for word in common(right, left)}
    precision = len(shared) / len({word for sentence in said for word in sentence})
    recall = len(shared) / len({word for sentence in wanted for word in sentence})
    return 2 * precision * recall / (precision + recall + 1e-8)


def sentences(text: str) -> list[list[str]]:
    """Words of what lies between full stops; a piece of blanks alone counts as one empty word, as in `rouge`."""
    return [" ".join(piece.split()).split(" ") for piece in text.split(".") if piece]


def common(wanted: Sequence[str], said: Sequence[str]) -> list[str]:
    """The words of one longest common subsequence; among several the one that `rouge` finds."""
    lengths = [[0] * (len(said) + 1) for _ in range(len(wanted) + 1)]
    for i, right in enumerate(wanted, 1):
        for j, left in enumerate(said, 1):
            same = right == left
            lengths[i][j] = lengths[i - 1][j - 1] + 1 if same else max(lengths[i - 1][j], lengths[i][j - 1])
    found, i, j = [], len(wanted), len(said)
    while i and j:
        if wanted[i - 1] == said[j - 1]:
            found.append(wanted[i - 1])
            i, j = i - 1, j - 1
        elif lengths[i - 1][j] > lengths[i][j - 1]:
            i -= 1
        else:
            j -= 1
    return found


def classified(answer: str, reference: str, classes: Sequence[str]) -> float:
    """Whether the right class is named, divided by the number of classes named."""
    named = [name for name in classes if name in answer]
    # A class whose name is part of the right one's is not counted. The list changes under the loop, which passes over
    # the entry behind one that was taken out: published scores were made so.
    for name in named:
        if name in reference and name != reference:
            named.remove(name)
    return 1 / len(named) if reference in named else 0.0


def counted(answer: str, reference: str, classes: Sequence[str] = ()) -> float:
    """Share of the numbers in the answer that are the right one."""
    numbers = NUMBER.findall(answer)
    return numbers.count(reference) / len(numbers) if numbers else 0.0


def retrieved(answer: str, reference: str, classes: Sequence[str] = ()) -> float:
    """Share of the numbers in the answer that are the right paragraph's; the reference reads `Paragraph 12`."""
    wanted = re.search(r"Paragraph (\d+)", reference)
    return counted(answer, wanted[1]) if wanted else 0.0


def edit_similarity(answer: str, reference: str, classes: Sequence[str] = ()) -> float:
    """Similarity of the first line that is code, in steps of 0.01."""
    lines = answer.lstrip("\n").split("\n")
    code = next((line for line in lines if not any(mark in line for mark in ("`", "#", "//"))), "")
    return round(100 * SequenceMatcher(None, code, reference).ratio()) / 100
