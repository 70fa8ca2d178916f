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
from memkv.turns import UNFINISHED

OnText = Callable[[str], None]


@dataclass(frozen=True)
class Answer:
    """A reply and where it began.

    `all_in_text` is whether every generated token shows in `text`, `first_token` a `time.perf_counter` reading.
    `before` is the cache at the stable boundary before the reply, `stable` the text that it had read, `opened` that
    text with the template's opening of a reply, and `prompt` the tokens up to there. `ended` is whether the model ended
    it, or one of the texts that do.
    """

    text: str
    tokens: int
    all_in_text: bool
    interrupted: bool
    ended: bool
    first_token: float
    prompt: int
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
    stops: Sequence[str] = (),
) -> Answer:
    """Read what the draft's cache, which `has_read` some of the draft's items, has not; then reply.

    Ctrl-C while the reply is written ends it there; before that it is raised. So does any of the texts in `stops`,
    which the reply then lacks; what might become one is not shown before it is clear that it does not.
    """
    chat = model.chat
    now = to_messages(model, draft.items)
    stable = chat.stable(now)
    read(model, draft.live, chat.stable(to_messages(model, has_read)), stable, progress)
    before = draft.live.fork()
    opened = chat.render(now, open_reply=True)
    read(model, draft.live, stable, opened)
    prompt = len(draft.live)
    tokens: list[int] = []
    shown, first, interrupted, stop = "", 0.0, False, -1
    try:
        for token in model.generate(draft.live, max_new_tokens, sampling, chat.stop_ids):
            first = first or time.perf_counter()
            tokens.append(token)
            text = chat.decode(tokens)
            if text.endswith(UNFINISHED):
                continue
            stop = min((at for each in stops if (at := text.find(each)) >= 0), default=-1)
            safe = text[:stop] if stop >= 0 else text[: len(text) - held_back(text, stops)]
            if on_text is not None and len(safe) > len(shown):
                on_text(safe[len(shown) :])
                shown = safe
            if stop >= 0:
                break
        reply = chat.decode(tokens).rstrip(UNFINISHED)
        if on_text is not None and stop < 0 and len(reply) > len(shown):
            on_text(reply[len(shown) :])  # what might have become a stop
    except KeyboardInterrupt:
        interrupted = True
    reply = chat.decode(tokens).rstrip(UNFINISHED)
    if stop >= 0:
        reply = reply[:stop]
    # Ctrl-C may come when a token is read but not handed out: then the cache is ahead of the text.
    all_in_text = stop < 0 and chat.all_in_text(tokens) and len(draft.live) == prompt + len(tokens)
    ended = not interrupted and (stop >= 0 or len(tokens) < max_new_tokens)
    began = first or time.perf_counter()
    return Answer(reply, len(tokens), all_in_text, interrupted, ended, began, prompt, before, stable, opened)


def held_back(text: str, stops: Sequence[str]) -> int:
    """How many characters at the end of a text are the beginning of one of `stops`."""
    return max((n for stop in stops for n in range(1, len(stop)) if text.endswith(stop[:n])), default=0)


def read_for(draft: Draft, answered: Answer, had: int) -> int:
    """Tokens that were read for an exchange, beyond those that the cache had: for the reply, and to settle behind it.

    A template that keeps less of a reply than was written leaves less than was read; that is none less.
    """
    return answered.prompt - had + max(0, len(draft.live) - answered.prompt - answered.tokens)


def log_turn(draft: Draft, answered: Answer, reused: int, spliced: int) -> int:
    """Log an exchange, which is the draft's last two items; the tokens that were read for it."""
    prefilled = read_for(draft, answered, reused + spliced)
    draft.log(
        "turn",
        {
            "memories": [item.n for item in draft.items[-2:]],
            "reused_tokens": reused,
            "spliced_tokens": spliced,
            "prefilled_tokens": prefilled,
            "generated_tokens": answered.tokens,
            "cache_bytes": draft.live.size().payload,
            "interrupted": answered.interrupted,
        },
    )
    return prefilled


def settle(model: HybridModel, draft: Draft, answered: Answer) -> None:
    """Bring the cache to the stable boundary after the reply, which is the draft's last item.

    Where the template leaves the reply as it was generated, the cache goes on; else it falls back to before the reply
    and reads what the template makes of it. A recurrent state cannot be cropped, so falling back is the only other way.
    """
    settled = model.chat.stable(to_messages(model, draft.items))
    as_generated = answered.opened + answered.text
    if settled.startswith(as_generated) and answered.all_in_text and not draft.live.broken:
        read(model, draft.live, as_generated, settled)
    else:
        draft.live = answered.before
        read(model, draft.live, answered.stable, settled)


def read_anew(model: HybridModel, items: Sequence[Item], progress: Progress | None = None) -> LiveCache:
    """A cache that has read the items of a context, and nothing else."""
    live = model.new_cache()
    read(model, live, "", model.chat.stable(to_messages(model, items)), progress)
    return live


def read(model: HybridModel, live: LiveCache, has: str, whole: str, progress: Progress | None = None) -> None:
    """Extend a cache that has read the text `has` to `whole`, which starts with it, if there is anything to add."""
    tokens = model.chat.encode_rest(has, whole)
    if tokens:
        model.extend(live, tokens, progress)
