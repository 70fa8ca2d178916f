"""A conversation through a compaction strategy of memkv, round by round: memory + new turns -> memory."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence

from eval.systems.base import Case, Limits, Memory, Spent, bytes_of, constant, prefill
from eval.systems.fitting import ANCHOR, json_bytes, room, text_bytes, text_of
from eval.systems.ledger import Fates, declared
from eval.systems.metered import Metered
from memkv.compaction import CompactionStrategy, Context, Item, to_messages
from memkv.compaction.base import ledger_of
from memkv.config import format_bytes
from memkv.errors import BudgetExceeded
from memkv.live import LiveCache
from memkv.model import HybridModel
from memkv.turns import Message


def compact_rounds(case: Case, limits: Limits, strategy: CompactionStrategy, *, reads: bool) -> Memory:
    """Compact after each chunk of the conversation; the memory is what is left after the last.

    Args:
        case: the conversation.
        limits: the budget.
        strategy: how to compact.
        reads: whether the strategy lets the model read and write; else no cache is built for it.

    Raises:
        BudgetExceeded: not even an empty memory fits.
        InvalidInput: memory and new turns together are more than the model's positions.
    """
    room(case.model, limits)
    spent = Spent()
    model = Metered(case.model, spent)
    most = sys.maxsize if limits.active is None else limits.active
    items: tuple[Item, ...] = ()
    numbers: dict[int, int] = {}  # index of a message in the conversation -> its number among the items
    fates = Fates()
    next_n = 1
    for chunk in case.scenario.chunks:
        for turn in chunk:
            kind = "system" if turn.role == "system" else "message"
            item = Item(next_n, kind, turn.role, turn.text)
            items = (*items, item)
            numbers[len(numbers)] = next_n
            fates.add(item)
            next_n += 1
        live = read(model, case, items) if reads else model.new_cache()
        # Where standing items do not fit, strategies raise; here they are cut: a shorter memory is a result too.
        done = strategy.compact(Context(model, items, live, next_n), most, sys.maxsize)
        kept = cut_to_fit(case.model, done.items, most)
        fates.follow(done.ledger if kept == done.items else ledger_of(items, kept))
        items = kept
        next_n = max([next_n, *(item.n + 1 for item in items)])
    messages = messages_of(case.model, items)
    return Memory(
        messages=constant(messages),
        text=text_of(messages),
        transcript=all(item.kind == "message" for item in items),
        at_rest={
            "text": text_bytes([item.text for item in items]),
            "metadata": json_bytes([(item.n, item.kind, item.role, item.sources) for item in items]),
        },
        ledger=declared(case.scenario, fates, numbers, items),
        spent=spent,
    )


def read(model: Metered, case: Case, items: Sequence[Item]) -> LiveCache:
    """The cache of a context; the first chunk is read once for all systems."""
    messages = to_messages(model, items)
    if messages == case.messages[: len(case.scenario.chunks[0])]:
        return model.take_over(case.first)
    return prefill(model, messages)


def messages_of(model: HybridModel, items: Sequence[Item]) -> list[Message]:
    """Items as the messages in front of a question, also where a template takes no instructions by themselves."""
    if not items:
        return []
    anchor = [Item(0, "message", message["role"], message["content"]) for message in ANCHOR]
    return to_messages(model, items) or to_messages(model, [*items, *anchor])


def cut_to_fit(model: HybridModel, items: tuple[Item, ...], most: int) -> tuple[Item, ...]:
    """`items` within `most` bytes of cache: a summary loses its last words, then the oldest rules leave.

    Raises:
        BudgetExceeded: what is neither summary nor rule is larger.
    """
    while (size := bytes_of(model, messages_of(model, items))) > most:
        index = next((i for i, item in enumerate(items) if item.kind == "summary"), None)
        index = next((i for i, item in enumerate(items) if item.kind == "rule"), None) if index is None else index
        if index is None:
            raise BudgetExceeded(
                f"What must stay in the context takes {format_bytes(size)}, the budget is {format_bytes(most)}",
                f"Use a budget of at least {size} bytes.",
                smallest=size,
            )
        words = items[index].text.rsplit(None, 1) if items[index].kind == "summary" else []
        shorter = (dataclasses.replace(items[index], text=words[0]),) if len(words) == 2 else ()
        items = (*items[:index], *shorter, *items[index + 1 :])
    return items
