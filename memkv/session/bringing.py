"""What comes back before a message: memories of earlier conversations, and what left this one's context.

Memories come as cache where that gives the same tokens as their text, else as text.
"""

from __future__ import annotations

from collections.abc import Sequence

from memkv.compaction import to_messages
from memkv.model import HybridModel
from memkv.session.long_term import Found, LongTerm
from memkv.session.opening import RESERVE, SMALLEST_EXCHANGE, tokens_within
from memkv.session.page_fault import bring_back
from memkv.session.records import Draft
from memkv.store import TenantStore

RECALLED_SHARE = 0.125  # of the context budget that may be spent on what one message brings back


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
    """Put what earlier conversations than `name` said about the message before it; the tokens that came as cache."""
    profile = long_term.model.profile
    present = {item.n for item in draft.items}
    found = long_term.find(text, name, present, profile.at(max(0, room)) - profile.at(0))
    back = {item.text for item in draft.items if item.kind == "memory"}
    return bring_in(long_term, draft, [each for each in found if each.text not in back])


def bring_in(long_term: LongTerm, draft: Draft, found: Sequence[Found]) -> int:
    """Append what was found to the draft's items, and to its cache if it can be spliced; the tokens that were.

    The cache then holds what reading the items' text would give, token for token. What cannot be spliced is read with
    the message that follows.
    """
    model, chat = long_term.model, long_term.model.chat
    splicer = long_term.splicer if found else None
    for each in found:
        draft.bring(each, "text" if splicer is None else "cache")
    if splicer is None:
        return 0
    segments = [long_term.fetch(each) for each in found]
    joined = [token for segment in segments for token in segment.snapshot.token_ids]
    whole = chat.encode(chat.stable(to_messages(model, draft.items)))
    head = whole[: len(whole) - len(joined)]
    if not head or [*head, *joined] != whole or head[: len(draft.live)] != draft.live.token_ids:
        return 0  # the template puts them together in another way
    if new := head[len(draft.live) :]:
        model.extend(draft.live, new)
    draft.live = splicer.splice(draft.live, segments)
    return len(joined) - sum(segment.repair for segment in segments)
