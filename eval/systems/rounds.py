"""A conversation through a compaction strategy of memkv, round by round: memory + new turns -> memory."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence

from eval.systems.base import Case, Limits, Memory, Spent, bytes_of, constant, prefill
from eval.systems.fitting import ANCHOR, json_bytes, room, text_bytes, text_of
from eval.systems.ledger import Fates, declared
from eval.systems.metered import Metered
from eval.systems.retrieval import DATE
from memkv.compaction import CompactionStrategy, Context, Item, to_messages
from memkv.compaction.base import RECALLED_HEADING, ledger_of
from memkv.config import format_bytes
from memkv.errors import BudgetExceeded
from memkv.live import LiveCache
from memkv.model import HybridModel
from memkv.recall.lost import Gone, touched
from memkv.turns import Message

RECALLED_SHARE, MOST_RECALLED = 0.25, 96  # of the budget in tokens, and tokens at most


def compact_rounds(
    case: Case, limits: Limits, strategy: CompactionStrategy, *, reads: bool, recall: bool = False
) -> Memory:
    """Compact after each chunk of the conversation; the memory is what is left after the last.

    Args:
        case: the conversation.
        limits: the budget.
        strategy: how to compact.
        reads: whether the strategy lets the model read and write; else no cache is built for it.
        recall: keep all messages at rest, and bring those back that a question touches and the ledger calls lost; a
            share of the budget is kept free for them.

    Raises:
        BudgetExceeded: not even an empty memory fits.
        InvalidInput: memory and new turns together are more than the model's positions.
    """
    room(case.model, limits)
    spent = Spent()
    model = Metered(case.model, spent)
    whole = sys.maxsize if limits.active is None else limits.active
    most = whole - kept_free(case.model, limits) if recall else whole
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
    if recall:
        texts = {numbers[index]: message["content"] for index, message in enumerate(case.messages)}
        present = {item.n for item in items}
        gone = [Gone(n, text, 1 - fates.probability(n, items)) for n, text in texts.items() if n not in present]
        return recalling(case, items, gone, whole, declared(case.scenario, fates, numbers, items), spent)
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


def kept_free(model: HybridModel, limits: Limits) -> int:
    """Bytes of a budget that are kept for what questions bring back."""
    tokens = room(model, limits)
    share = MOST_RECALLED if tokens is None else min(MOST_RECALLED, int(RECALLED_SHARE * tokens))
    return model.profile.at(share) - model.profile.at(0)


def recalling(
    case: Case, items: tuple[Item, ...], gone: Sequence[Gone], most: int, ledger: Mapping[str, float], spent: Spent
) -> Memory:
    """A memory that answers each question with its items and what the question brings back, within `most` bytes."""
    model = case.model

    def messages(question: str) -> list[Message]:
        """The items, and behind them what the question touches; less of it where it does not fit."""
        found = touched(DATE.sub("", question), gone, MOST_RECALLED, model.chat.count)
        while True:
            back = "\n".join([RECALLED_HEADING, *(f"> {stretch.text}" for stretch in found)])
            standing = [Item(0, "system", "", back)] if found else []
            said = messages_of(model, (*items, *standing))
            if not found or bytes_of(model, said) <= most:
                return said
            found = found[:-1]

    texts = [message["content"] for message in case.messages]
    return Memory(
        messages=messages,
        text=text_of(messages_of(model, items)),
        at_rest={
            "text": text_bytes([*texts, *(item.text for item in items)]),
            "metadata": json_bytes([(item.n, item.kind, item.role, item.sources) for item in items]),
        },
        ledger=ledger,
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
