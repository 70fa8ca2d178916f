"""What is worded as a rule and a policy passes by: kept word for word beside its notes, until a message changes it.

The registry alone (`pinned.py`) keeps a rule for good, also one that was taken back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from memkv.compaction.allocate import Commitment, Prices, allocate
from memkv.compaction.base import NEW, Context, Item, word_overlap
from memkv.compaction.declare import MADE_FROM
from memkv.compaction.matching import TAKES_BACK, meant, replaced
from memkv.compaction.notes import BULLET, NOTED_RIGHT, Loss, bare
from memkv.compaction.pinned import pinned_rules
from memkv.compaction.windows import quoted, sentences

BINDS = 0.5  # share of sentences worded as rules that bind, measured on dev; who pins a rule himself is sure of it


def with_worded(
    context: Context, notes: Sequence[Item], room: int
) -> tuple[tuple[Item, ...], tuple[Item, ...], tuple[Loss, ...]]:
    """Rules, notes and losses when new sentences worded as rules compete with the notes for `room` tokens."""
    chat = context.model.chat
    known = context.standing("rule")
    found = [rule for rule in pinned_rules(context) if rule not in known and not TAKES_BACK.search(rule.text)]
    found = [rule for rule in found if all(word_overlap(bare(note.text), rule.text) < MADE_FROM for note in notes)]
    found = [replace(rule, n=NEW, sure=BINDS) for rule in found]
    holding = in_force(context, (*known, *found), notes)
    found = [rule for rule in found if rule in holding]
    commitments = [Commitment(note=bare(note.text), noted=NOTED_RIGHT) for note in notes]
    commitments += [Commitment(verbatim=rule.text, binds=BINDS) for rule in found]
    prices = [Prices(0, chat.count(f"{note.text}\n")) for note in notes]
    prices += [Prices(chat.count(f"{BULLET}{rule.text}\n"), 0) for rule in found]
    forms = allocate(commitments, prices, room)
    kept = [item for item, form in zip((*notes, *found), forms, strict=True) if form in ("note", "verbatim")]
    passed = [item for item, form in zip((*notes, *found), forms, strict=True) if form == "store"]
    rules = [item for item in (*known, *kept) if item.kind == "rule" and item in holding]
    return (
        tuple(rules),
        tuple(item for item in kept if item.kind == "summary"),
        tuple(Loss(bare(item.text), 1.0) for item in passed),
    )


def in_force(context: Context, rules: Sequence[Item], notes: Sequence[Item]) -> list[Item]:
    """The rules but for those found by their wording that a later message takes back or says anew."""
    holding = list(rules)
    for message in context.messages():
        if message.role != "user":
            continue
        new = {bare(item.text).casefold() for item in (*holding, *notes) if message.n in item.sources}
        for sentence in map(quoted, sentences(message.text)):
            earlier: dict[int | None, str] = {
                at: rule.text
                for at, rule in enumerate(holding)
                if rule.sure is not None and max(rule.sources, default=0) < message.n
            }
            over = None
            if TAKES_BACK.search(sentence):
                over = meant(sentence, earlier, fewest=2)
            elif any(sentence.casefold() in text for text in new):
                over = replaced(sentence, message.text, earlier)
            if over is not None:
                del holding[over]
    return holding
