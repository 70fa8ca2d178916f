"""What comes back before a message: memories of earlier conversations, and what left this one's context.

Memories come as cache where that gives the same tokens as their text, else as text.
"""

from __future__ import annotations

from collections.abc import Sequence

from memkv.compaction import Item, to_messages
from memkv.compaction.base import BROUGHT_BACK
from memkv.model import HybridModel
from memkv.session.long_term import Found, LongTerm, Sought
from memkv.session.page_fault import bring_back
from memkv.session.records import Draft
from memkv.session.room import RESERVE, SMALLEST_EXCHANGE, tokens_within
from memkv.store import TenantStore

RECALLED_SHARE = 0.125  # of the context budget that may be spent on what one message brings back
AS_TEXT = {
    "notes": "These are its notes of rules; the rest was not worth its room.",
    "part": "All of it is larger than what a message may bring back; these are its sentences that are near.",
}


def room_for_recall(model: HybridModel, draft: Draft, budget: int, text: str, max_new_tokens: int) -> int:
    """Tokens that may be brought back for a message within a context budget of `budget` bytes; 0 or less is none."""
    read = len(draft.live) + len(model.chat.encode(text)) + SMALLEST_EXCHANGE
    free = min(RECALLED_SHARE * budget, budget - model.profile.at(read))
    room = tokens_within(model, model.profile.at(0) + int(free)) if free > 0 else 0
    return room if model.max_tokens is None else min(room, model.max_tokens - read - max_new_tokens - RESERVE)


def bring_stretches(model: HybridModel, tenant: TenantStore, name: str, draft: Draft, text: str, room: int) -> None:
    """Put what the message touches, and the context of session `name` no longer holds, before it, as text."""
    items, brought = tuple(draft.items), draft.brought(name)
    for found in bring_back(model, tenant, name, items, brought, text, room):
        draft.log("recalled", {"memory": draft.free_n, "from": found.n, "score": found.score})
        draft.add("recalled", "", found.text, sources=(found.n,))


def bring_memories(long_term: LongTerm, draft: Draft, name: str, text: str, room: int) -> int:
    """Put what earlier conversations than `name` said about the message before it; the tokens that came as cache.

    If anything is raised, the draft is as it was.
    """
    profile = long_term.model.profile
    present = {item.n for item in draft.items if item.kind == "message"}
    back = {item.text for item in draft.items if item.kind in BROUGHT_BACK}
    budget = profile.at(max(0, room)) - profile.at(0)
    sought = long_term.find(text, name, present, budget, back)
    items, memories, events = list(draft.items), list(draft.memories), list(draft.events)
    try:
        spliced = bring_in(long_term, draft, sought.back)
    except BaseException:
        draft.items, draft.memories, draft.events = items, memories, events
        raise
    say_too_large(draft, sought, budget)
    return spliced


def say_too_large(draft: Draft, sought: Sought, room: int) -> None:
    """Log what was near enough to come back and takes more than `room` bytes: the nearest, and how many more."""
    for found in sought.too_large[:1]:
        took = {"score": found.score, "bytes": found.nbytes, "room": room, "more": len(sought.too_large) - 1}
        draft.log("memories_left", {"of": found.place, **took})


def bring_in(long_term: LongTerm, draft: Draft, found: Sequence[Found]) -> int:
    """Append what was found to the draft's items, and to its cache if it can be spliced; the tokens that were.

    The cache then holds what reading the items' text would give, token for token. What cannot be spliced is read with
    the message that follows, and the event says why.
    """
    whole = [each for each in found if each.form == "whole"]
    spliced = bring_whole(long_term, draft, whole) if whole else 0
    # What holds now stands behind what was said of it before, and nearest to the message: it is read with that.
    for each in found:
        if each.form != "whole":
            draft.bring(each, "text", AS_TEXT[each.form])
    return spliced


def up_to_whole(items: Sequence[Item]) -> tuple[Item, ...]:
    """The items that the cache holds once whole memories were spliced in: what was noted stands behind them, unread."""
    end = len(items)
    while end and items[end - 1].kind == "noted":
        end -= 1
    return tuple(items[:end])


def bring_whole(long_term: LongTerm, draft: Draft, whole: Sequence[Found]) -> int:
    """Append whole stretches, as `bring_in` does."""
    model, chat = long_term.model, long_term.model.chat
    splicer = long_term.splicer
    if splicer is None:
        for each in whole:
            draft.bring(each, "text", long_term.as_text)
        return 0
    fetched = [long_term.fetch(each) for each in whole]
    segments = [segment for segment, _ in fetched]
    items = [*draft.items, *(Item(0, "memory", "", each.text) for each in whole)]
    joined = [token for segment in segments for token in segment.snapshot.token_ids]
    read = chat.encode(chat.stable(to_messages(model, items)))
    head = read[: len(read) - len(joined)]
    fits = bool(head) and [*head, *joined] == read and head[: len(draft.live)] == draft.live.token_ids
    for each, (_, made_again) in zip(whole, fetched, strict=True):
        if fits:
            draft.bring(each, "cache", made_again)
        else:
            draft.bring(each, "text", "The chat template puts a memory together with what stands before it.")
    if not fits:
        return 0
    live = draft.live.fork()
    if new := head[len(live) :]:
        model.extend(live, new)
    draft.live = splicer.splice(live, segments)
    return len(joined) - sum(segment.repair for segment in segments)
