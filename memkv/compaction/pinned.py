"""Pinning: rules stay word for word, the rest of the old messages leaves."""

from __future__ import annotations

from memkv.compaction.base import Compaction, Context, Item, keep_recent
from memkv.compaction.rules import find_rules


class Pinned:
    """Keep every rule of the registry verbatim, then the newest messages that fit (arXiv 2606.22528)."""

    name = "pinned"

    def compact(self, context: Context, aim: int, most: int) -> Compaction:
        """See `CompactionStrategy.compact`."""
        standing = (*context.standing("system"), *pinned_rules(context), *context.standing("summary"))
        return keep_recent(context, standing, aim, most)


def pinned_rules(context: Context) -> tuple[Item, ...]:
    """The rules pinned so far and those that the users' messages state, numbered from `context.next_n`."""
    known = {rule.text for rule in context.standing("rule")}
    rules = list(context.standing("rule"))
    for message in context.messages():
        if message.role != "user":
            continue
        for text in find_rules(message.text):
            if text not in known:
                known.add(text)
                number = context.next_n + len(rules) - len(context.standing("rule"))
                rules.append(Item(number, "rule", "", text, (message.n,)))
    return tuple(rules)
