"""Whether a memory holds a rule that is in force: the user worded it as one, and no later memory says it anew."""

from __future__ import annotations

from collections.abc import Sequence

from memkv.compaction.matching import replaced
from memkv.compaction.rules import find_rules
from memkv.recall.stretch import own_words
from memkv.store import Memory


def standing(stretches: Sequence[Sequence[Memory]]) -> list[bool]:
    """Of each stretch of messages, whether one of its rules stands after all that the others say.

    What the user only quotes binds nobody. A rule is shadowed by a later one that shares much with it, in a message
    that speaks of a change.
    """
    said = sorted(
        (message.created, message.n, place, message.text)
        for place, stretch in enumerate(stretches)
        for message in stretch
        if message.role == "user"
    )
    in_force: list[tuple[int, str]] = []  # place of the stretch, rule
    for _, _, place, text in said:
        for rule in find_rules(own_words(text)):
            known: dict[int | None, str] = {number: old for number, (_, old) in enumerate(in_force)}
            if (shadowed := replaced(rule, text, known)) is not None:
                del in_force[shadowed]
            in_force.append((place, rule))
    holding = {place for place, _ in in_force}
    return [place in holding for place in range(len(stretches))]
