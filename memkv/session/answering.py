"""One exchange on a live cache: read what is new, generate, and come to rest at a stable turn boundary."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from memkv.compaction import Item, to_messages
from memkv.live import LiveCache
from memkv.model import HybridModel, Progress
from memkv.sampling import Sampling
from memkv.session.records import Draft

OnText = Callable[[str], None]


@dataclass(frozen=True)
class Answer:
    """A reply and where it began.

    `all_in_text` is whether every generated token shows in `text`, `first_token` a `time.perf_counter` reading.
    `before` is the cache at the stable boundary before the reply, `stable` the text that it had read, `opened` that
    text with the template's opening of a reply.
    """

    text: str
    tokens: int
    all_in_text: bool
    interrupted: bool
    first_token: float
    before: LiveCache
    stable: str
    opened: str


def answer(
    model: HybridModel,
    draft: Draft,
    has_read: Sequence[Item],
    on_text: OnText | None,
    max_new_tokens: int,
    sampling: Sampling | None,
    progress: Progress | None,
) -> Answer:
    """Read what the draft's cache, which `has_read` some of the draft's items, has not; then reply.

    Ctrl-C while the reply is written ends it there; before that it is raised.
    """
    chat = model.chat
    now = to_messages(model, draft.items)
    stable = chat.stable(now)
    read(model, draft.live, unread(model, has_read, stable), progress)
    before = draft.live.fork()
    opened = chat.render(now, open_reply=True)
    read(model, draft.live, opened[len(stable) :])
    tokens: list[int] = []
    shown, first, interrupted = "", 0.0, False
    try:
        for token in model.generate(draft.live, max_new_tokens, sampling, chat.stop_ids):
            first = first or time.perf_counter()
            tokens.append(token)
            text = chat.decode(tokens)
            # An unfinished UTF-8 sequence decodes to the replacement character: wait for its rest.
            if on_text is not None and not text.endswith("\ufffd"):
                on_text(text[len(shown) :])
                shown = text
    except KeyboardInterrupt:
        interrupted = True
    reply = chat.decode(tokens)
    all_in_text = chat.all_in_text(tokens)
    return Answer(reply, len(tokens), all_in_text, interrupted, first or time.perf_counter(), before, stable, opened)


def settle(model: HybridModel, draft: Draft, answered: Answer) -> None:
    """Bring the cache to the stable boundary after the reply, which is the draft's last item.

    Where the template leaves the reply as it was generated, the cache goes on; else it falls back to before the reply
    and reads what the template makes of it. A recurrent state cannot be cropped, so falling back is the only other way.
    """
    settled = model.chat.stable(to_messages(model, draft.items))
    as_generated = answered.opened + answered.text
    if settled.startswith(as_generated) and answered.all_in_text and not draft.live.broken:
        rest = settled[len(as_generated) :]
    else:
        draft.live = answered.before
        rest = settled[len(answered.stable) :]
    read(model, draft.live, rest)


def unread(model: HybridModel, has_read: Sequence[Item], stable: str) -> str:
    """The part of `stable` that a cache of `has_read` lacks; both are rendered now, by the same template."""
    return stable[len(model.chat.stable(to_messages(model, has_read))) :]


def read(model: HybridModel, live: LiveCache, text: str, progress: Progress | None = None) -> None:
    """Extend by text; nothing to do where the template adds nothing."""
    tokens = model.chat.encode(text)
    if tokens:
        model.extend(live, tokens, progress)
