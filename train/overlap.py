"""What two splits have in common: runs of words in everything that families say, ask and answer.

The talk around the rules and the frames that introduce them are the grammar, which the splits share; what a rule is
about, how it is worded, its values and its questions must not be.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from eval.generate import DOMAINS
from eval.making.family import Family, families

WORD = re.compile(r"[\w']+|\{value\}")


def shared(first: str, second: str, n: int) -> set[tuple[str, ...]]:
    """Runs of `n` words that families of both splits hold, values left open."""
    return grams(first, n) & grams(second, n)


def grams(split: str, n: int) -> set[tuple[str, ...]]:
    """All runs of `n` words of a split's families."""
    found: set[tuple[str, ...]] = set()
    for domain in DOMAINS:
        for family in families(domain, split):
            for text in texts(family):
                words = [word.lower() for word in WORD.findall(text)]
                found |= {tuple(words[at : at + n]) for at in range(len(words) - n + 1)}
    return found


def texts(family: Family) -> Iterator[str]:
    """Everything that a family says."""
    yield from (family.topic, *family.values, *family.say, *family.implicit)
    yield from (family.ask, family.answer, family.tempt, family.act)
    for exempt in family.exceptions:
        yield from (exempt.say, exempt.case, exempt.act)
