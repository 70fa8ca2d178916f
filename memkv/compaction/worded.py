"""What is worded as a rule and a policy passes by: kept word for word beside its notes, until a message changes it.

The registry alone (`pinned.py`) keeps a rule for good, also one that was taken back.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from memkv.compaction.allocate import Commitment, Prices, allocate
from memkv.compaction.base import NEW, Context, Item
from memkv.compaction.matching import ALIKE, likeness, meant, replaced, takes_back
from memkv.compaction.notes import BULLET, NOTED_RIGHT, Loss, bare
from memkv.compaction.rules import BULLET as BULLET_OF_LIST
from memkv.compaction.rules import find_rules
from memkv.compaction.windows import QUOTE, quoted, sentences

BINDS = 0.5  # share of sentences worded as rules that bind, measured on dev; who pins a rule himself is sure of it


def with_worded(
    context: Context, notes: Sequence[Item], room: int
) -> tuple[tuple[Item, ...], tuple[Item, ...], tuple[Loss, ...]]:
    """Rules, notes and losses when sentences worded as rules compete with the notes for `room` tokens."""
    holding = in_force(context, notes)
    by_hand = [rule for rule in holding if rule.sure is None]
    rivals = [*notes, *(rule for rule in holding if rule.sure is not None)]
    commitments = [
        Commitment(note=bare(item.text), noted=NOTED_RIGHT)
        if item.kind == "summary"
        else Commitment(verbatim=item.text, binds=BINDS)
        for item in rivals
    ]
    tokens = [context.model.chat.count(f"{BULLET}{bare(item.text)}\n") for item in rivals]
    forms = allocate(commitments, [Prices(each, each) for each in tokens], room)
    kept = [item for item, form in zip(rivals, forms, strict=True) if form in ("note", "verbatim")]
    passed = [item for item, form in zip(rivals, forms, strict=True) if form == "store"]
    rules = tuple(item for item in (*by_hand, *kept) if item.kind == "rule")
    left = tuple(Loss(bare(item.text), 1.0) for item in passed)
    return rules, tuple(item for item in kept if item.kind == "summary"), left


def in_force(context: Context, notes: Sequence[Item]) -> list[Item]:
    """The rules that stand, and new ones found by their wording that no note says, after all that was said of them.

    What was found by its wording goes where a later message takes it back or says it anew; what a user pinned stays.
    """
    said = [bare(note.text) for note in notes]
    holding = list(context.standing("rule"))
    for message in context.messages():
        if message.role != "user":
            continue
        worded = set(find_rules(message.text))
        noted = {bare(note.text) for note in notes if message.n in note.sources}
        for sentence in sentences(message.text):
            if sentence.startswith(QUOTE):
                continue  # somebody else's words
            text = BULLET_OF_LIST.sub("", sentence)
            over = outdated(text, message, noted, worded, holding)
            if over is not None:
                del holding[over]
            known = any(rule.text == text for rule in holding)
            if text in worded and not known and not takes_back(text) and not any(like(text, note) for note in said):
                holding.append(Item(NEW, "rule", "", text, (message.n,), sure=BINDS))
    return holding


def outdated(
    text: str, message: Item, noted: Collection[str], worded: Collection[str], holding: Sequence[Item]
) -> int | None:
    """Place of the rule that a sentence takes back or says anew, of those that were found in earlier messages."""
    earlier: dict[int | None, str] = {
        at: rule.text
        for at, rule in enumerate(holding)
        if rule.sure is not None and max(rule.sources, default=0) < message.n
    }
    if takes_back(text):
        return meant(text, earlier, fewest=2)
    new = text in worded or quoted(text) in noted
    return replaced(text, message.text, earlier) if new and text not in earlier.values() else None


def like(text: str, other: str) -> bool:
    """Whether two texts are one sentence but for slips, whichever has more before it."""
    return max(likeness(text, other), likeness(other, text)) >= ALIKE
