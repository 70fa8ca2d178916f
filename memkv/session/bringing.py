"""Memories into a draft's cache: as cache where that gives the same tokens as the text, else as text."""

from __future__ import annotations

from collections.abc import Sequence

from memkv.compaction import to_messages
from memkv.session.long_term import Found, LongTerm
from memkv.session.records import Draft


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
