"""Changes of what a context holds, on a draft: a smaller one, the one before that, one item in other words."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from memkv.compaction import Compaction, CompactionStrategy, Context, Item, to_messages
from memkv.config import format_bytes
from memkv.errors import BudgetExceeded, DidNotShrink, InvalidInput, NotFound
from memkv.model import HybridModel
from memkv.session.answering import read_anew
from memkv.session.opening import items_of
from memkv.session.records import Draft, as_memory
from memkv.session.room import check_message
from memkv.store import Memory, TenantStore

EDITED = ("rule", "summary")  # kinds of items that may be put in other words: what memkv keeps, not what was said


def compact(
    model: HybridModel,
    strategy: CompactionStrategy,
    draft: Draft,
    pinned: Sequence[Item],
    aim: int,
    most: int,
    trigger: str,
) -> Compaction:
    """Replace the draft's context by a smaller one with a cache of its own: of `aim` bytes, at worst of `most`.

    Args:
        model: of the session.
        strategy: how.
        draft: it is changed only if all goes well.
        pinned: rules that users pinned, whether or not the context holds them.
        aim: bytes of cache.
        most: bytes of cache.
        trigger: what it was done for, to be logged: `budget`, `positions` or `request`.

    Raises:
        DidNotShrink: the result would not be smaller.
        BudgetExceeded: what must stay is larger than `most`.
    """
    began = time.perf_counter()
    before_items, next_n = tuple(draft.items), draft.free_n
    present = {item.n for item in before_items}
    context = Context(model, (*before_items, *(item for item in pinned if item.n not in present)), draft.live, next_n)
    found = strategy.compact(context, aim, most)
    before = draft.live.size().payload
    live = read_anew(model, found.items)
    after = live.size().payload
    if after >= before:
        raise DidNotShrink(
            f"{strategy.name} would leave {format_bytes(after)} of {format_bytes(before)}, so nothing was changed",
            "Give a smaller budget, or another strategy (`/compact truncate` in the chat).",
        )
    new = [item for item in found.items if item.n >= next_n]
    draft.memories += [as_memory(item) for item in new]
    draft.live, draft.items = live, list(found.items)
    draft.log(
        "compaction",
        {
            "strategy": strategy.name,
            "trigger": trigger,
            "before": before,
            "after": after,
            "budget": aim,
            "seconds": round(time.perf_counter() - began, 3),
            "ledger": found.ledger.as_data(),
            "context": [item.n for item in before_items],
            "made": [item.n for item in new],
        },
    )
    return Compaction(found.items, before, after, found.ledger)


def undo(model: HybridModel, tenant: TenantStore, name: str, draft: Draft, budget: int) -> int:
    """Bring back the context that the last compaction replaced, with what was said since; bytes of its cache.

    Of what was forgotten since, nothing comes back.

    Raises:
        NotFound: there was no compaction, or the last one was undone, or is older than undoing is.
        BudgetExceeded: it would not fit `budget` bytes.
    """
    events = tenant.events(name)
    undone = {event.data["compaction"] for event in events if event.kind == "undone"}
    compactions = [event for event in events if event.kind == "compaction"]
    last = compactions[-1] if compactions else None
    if last is None or last.seq in undone or "context" not in last.data:
        raise NotFound("There is no compaction to undo", "The store still has every text: /memory lists them.")
    into = edits(tenant, name)
    earlier = [latest(n, into) for n in last.data["context"]]
    gone = {*earlier, *(latest(n, into) for n in last.data["made"])}
    since = [item for item in draft.items if item.n not in gone]
    items = [*items_of(tenant, name, earlier), *since]
    tokens = len(model.chat.encode(model.chat.stable(to_messages(model, items))))
    size = model.profile.at(tokens)
    if size > budget or tokens >= (model.max_tokens or tokens + 1):
        raise BudgetExceeded(
            f"The context before the compaction takes {format_bytes(size)} of cache, more than there is room for",
            f"Open the session with a context budget of at least {size} bytes, or pin what you miss.",
            smallest=size,
        )
    reread(model, draft, items)
    draft.log("undone", {"compaction": last.seq, "after": draft.live.size().payload})
    return draft.live.size().payload


def edit(model: HybridModel, draft: Draft, stored: Item, text: str, budget: int) -> int:
    """Put a rule or a summary in other words; the number of the new item, which stands in the old one's place.

    The old words stay in the store, as those of an item that is no longer in the context.

    Raises:
        InvalidInput: no words, or an item of another kind.
        BudgetExceeded: more words than `budget` bytes of cache hold.
    """
    if not text.strip():
        raise InvalidInput("The new text is empty", "Forget the item instead, or give its text.")
    check_message(model, budget, text, "", 1)
    if stored.kind not in EDITED:
        raise InvalidInput(
            f"Item {stored.n} is a {stored.kind}, and what was said stays as it was said",
            f"Forget it, or say what holds now; {' and '.join(f'a {kind}' for kind in EDITED)} can be edited.",
        )
    new = replace(stored, n=draft.free_n, text=text.strip(), sure=None)
    pinned = {"pinned": True} if stored.kind == "rule" else {}
    draft.memories.append(replace(as_memory(new), data={**pinned, "edited": stored.n}))
    draft.log("edited", {"memory": stored.n, "into": new.n})
    if any(item.n == stored.n for item in draft.items):
        reread(model, draft, [new if item.n == stored.n else item for item in draft.items])
    return new.n


def bring_back(draft: Draft, stored: Memory) -> None:
    """Quote an item in front of the next message.

    Raises:
        InvalidInput: it is in the context already, or has no text of its own.
    """
    quoted = any(item.kind == "recalled" and stored.n in item.sources for item in draft.items)
    if quoted or any(item.n == stored.n for item in draft.items):
        raise InvalidInput(f"Item {stored.n} is in the context", "There is nothing to bring back.")
    if not stored.text:
        raise InvalidInput(f"Item {stored.n} is a memory of another session", "Ask about it, and it comes back.")
    draft.log("recalled", {"memory": draft.free_n, "from": stored.n, "score": 1.0})
    draft.add("recalled", "", stored.text, sources=(stored.n,))


def pinned_by_hand(tenant: TenantStore, name: str) -> list[Item]:
    """Rules that users pinned, as they read now, also those that no compaction has put into the context yet."""
    edited = edits(tenant, name)
    mine = [rule for rule in tenant.memories(name, kind="rule") if rule.data.get("pinned") and rule.n not in edited]
    return [Item(rule.n, "rule", "", rule.text, rule.sources) for rule in mine]


def edits(tenant: TenantStore, name: str) -> dict[int, int]:
    """What was put in other words, and into what; known also where the new words were forgotten."""
    return {event.data["memory"]: event.data["into"] for event in tenant.events(name, "edited")}


def latest(n: int, into: Mapping[int, int]) -> int:
    """The number of an item's newest words."""
    while n in into:
        n = into[n]
    return n


def reread(model: HybridModel, draft: Draft, items: Sequence[Item]) -> None:
    """Give the draft these items, and a cache that has read them."""
    draft.live, draft.items = read_anew(model, items), list(items)
