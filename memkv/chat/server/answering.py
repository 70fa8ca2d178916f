"""A checked request answered, on the model's thread: by a session, or by a conversation that nobody keeps."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from memkv.chat.server.desk import Desk, Key, Stop
from memkv.chat.server.views import by_kind
from memkv.chat.server.wire import Answered, Asked
from memkv.compaction import Item
from memkv.errors import InvalidInput
from memkv.session.answering import answer, read_for, settle
from memkv.session.records import Draft
from memkv.session.room import check_message
from memkv.store import Memory
from memkv.turns import Message

OnText = Callable[[str], None]
OnRead = Callable[[int, int], None]


def by_session(
    desk: Desk, key: Key, options: Mapping[str, Any], asked: Asked, on_text: OnText, on_read: OnRead, stop: Stop
) -> Answered:
    """Let a session answer; it begins with this message if there is none.

    Raises:
        InvalidInput: what was sent as its history is not its own.
        MemkvError: as `Session.turn`; the session is as it was before.
    """
    stop.check()
    began = time.perf_counter()
    tenant = desk.store.tenant(key[0])
    there = tenant.exists(key[1])
    memories = tenant.memories(key[1]) if there else []
    begun = any(memory.kind in ("message", "system") for memory in memories)
    system = {} if begun or not asked.system else {"system": asked.system}
    held = desk.held(key)
    opened_before = None if held is None else held.opened
    try:
        session = desk.session(key, {**options, **system}, create=True)
        if begun:
            check_history(key[1], memories, asked)
        waited = time.perf_counter() - began
        reply = session.turn(
            asked.text,
            on_text=checking(stop, on_text),
            max_new_tokens=asked.most,
            sampling=asked.sampling,
            progress=checking(stop, on_read),
            history=() if begun else asked.before,
            stops=asked.stops,
        )
    except BaseException:
        if not there:
            desk.discard_empty(key)
        raise
    events = [{"kind": event.kind, "data": dict(event.data)} for event in reply.events]
    opened = session.opened
    # What this request itself had to read of the earlier talk, as no stored cache fitted, was not reused.
    again = min(reply.reused_tokens, opened.prefilled_tokens) if opened is not opened_before else 0
    account = {
        "name": session.name,
        "opened": opened.how,
        "reason": opened.reason,
        "budget": session.context_budget,
        "stored_bytes": reply.stored_bytes,
        "messages": [item.n for item in session.context[-2:]],
        "events": events,
    }
    return Answered(
        reply.text, reply.reused_tokens - again, reply.spliced_tokens, reply.prefilled_tokens + again,
        reply.generated_tokens,
        reply.size.payload, by_kind(reply.size), waited + reply.first_token_seconds, waited + reply.seconds,
        reply.ended,
        reply.interrupted, account,
    )  # fmt: skip


def check_history(name: str, memories: Sequence[Memory], asked: Asked) -> None:
    """Refuse a history that is not the end of what session `name` holds, or another system prompt than its own.

    Of a reply that was cut off the client may know less than the session.

    Raises:
        InvalidInput: the first message that differs is named.
    """
    own = next((memory.text for memory in memories if memory.kind == "system"), "")
    if asked.system and asked.system != own:
        raise InvalidInput(
            f"Session {name!r} has begun with another system prompt", "Leave it out, or name a new session."
        )
    said = [memory for memory in memories if memory.kind == "message"]
    sent = asked.before
    tail = said[len(said) - len(sent) :] if len(sent) <= len(said) else said
    differ = (at for at, pair in enumerate(zip(tail, sent, strict=False), 1) if not same(*pair))
    place = next(differ, len(tail) + 1 if len(sent) > len(tail) else 0)
    if place:
        raise InvalidInput(
            f"The history that was sent is not how session {name!r} ends, from message {place} of it on",
            "Send the new message alone, or name a new session.",
        )


def same(stored: Memory, sent: Message) -> bool:
    """Whether a message that was sent is the one that the session holds."""
    cut_off = bool(stored.data.get("interrupted"))
    text = sent["content"]
    return stored.role == sent["role"] and (stored.text == text or (cut_off and stored.text.startswith(text)))


def plainly(desk: Desk, tenant: str, asked: Asked, on_text: OnText, on_read: OnRead, stop: Stop) -> Answered:
    """Answer a conversation that no session keeps. What its beginning left in memory is not read again.

    Raises:
        InvalidInput, BudgetExceeded: it does not fit the model's positions, or the caches that the server may hold.
        Cancelled: it was stopped before there was an answer.
    """
    stop.check()
    began = time.perf_counter()
    model = desk.model
    model.chat.new_moment()
    system = [Message(role="system", content=asked.system)] if asked.system else []
    question = Message(role="user", content=asked.text)
    messages = [*system, *asked.before, question]
    before = "\n".join(message["content"] for message in messages[:-1])
    check_message(model, desk.limits.live_bytes, asked.text, before, asked.most)
    live, known = desk.take_plain(tenant, messages)
    items = as_items(messages)
    draft = Draft(live, items, len(items) + 1)
    reused = len(live)
    answered = answer(
        model, draft, items[:known], checking(stop, on_text), asked.most, asked.sampling, checking(stop, on_read),
        asked.stops,
    )  # fmt: skip
    if answered.interrupted and not answered.text:
        raise KeyboardInterrupt
    draft.add("message", "assistant", answered.text)
    settle(model, draft, answered)
    desk.keep_plain(tenant, [*messages, Message(role="assistant", content=answered.text)], draft.live)
    size = draft.live.size()
    return Answered(
        answered.text, reused, 0, read_for(draft, answered, reused), answered.tokens, size.payload,
        by_kind(size), answered.first_token - began, time.perf_counter() - began, answered.ended, answered.interrupted,
    )  # fmt: skip


def as_items(messages: Sequence[Message]) -> list[Item]:
    """Messages as what a context holds."""
    found = []
    for n, message in enumerate(messages, 1):
        kind = "system" if message["role"] == "system" else "message"
        found.append(Item(n, kind, message["role"], message["content"]))
    return found


def checking(stop: Stop, callback: Callable[..., None]) -> Callable[..., None]:
    """The callback, behind a look at whether to stop."""

    def called(*arguments: Any) -> None:
        stop.check()
        callback(*arguments)

    return called
