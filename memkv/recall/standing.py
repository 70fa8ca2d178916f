"""Whether a memory holds a rule that is in force: the user worded it as one, and no later memory ends or changes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from memkv.compaction.matching import meant, replaced, takes_back
from memkv.compaction.rules import find_rules
from memkv.compaction.windows import sentences
from memkv.recall.stretch import own_words
from memkv.store import Memory

Standing = Literal[-1, 0, 1]


def standing(stretches: Sequence[Sequence[Memory]]) -> list[Standing]:
    """Of each stretch of messages 1 where one of its rules stands after all that the others say, 0 where it has none.

    -1 where it has some and later ones took them all back or changed them. What the user only quotes binds nobody.
    """
    said = sorted(
        (message.created, message.n, place, own_words(message.text))
        for place, stretch in enumerate(stretches)
        for message in stretch
        if message.role == "user"
    )
    in_force: list[tuple[int, str]] = []  # place of the stretch, rule
    had: set[int] = set()
    for _, _, place, text in said:
        for sentence in sentences(text):
            if takes_back(sentence):
                forget(in_force, meant(sentence, numbered(in_force), fewest=2))
        for rule in find_rules(text):
            if takes_back(rule):
                continue
            forget(in_force, replaced(rule, text, numbered(in_force)))
            in_force.append((place, rule))
            had.add(place)
    holding = {place for place, _ in in_force}
    return [1 if place in holding else -1 if place in had else 0 for place in range(len(stretches))]


def numbered(rules: Sequence[tuple[int, str]]) -> dict[int | None, str]:
    """Rules by their number, as `matching` takes them."""
    return {number: rule for number, (_, rule) in enumerate(rules)}


def forget(rules: list[tuple[int, str]], number: int | None) -> None:
    """Take one out, if any is meant."""
    if number is not None:
        del rules[number]
