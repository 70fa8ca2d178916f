"""The two processes of the demo that hold the conversation. Run by `memkv demo`; each prints JSON lines.

`teach` talks and is killed in the middle of a turn by its parent; `recall` starts from what is on disk.
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from memkv.chat.demo_text import FILLER
from memkv.chat.policies import POLICIES
from memkv.chat.probing import knows, read_question
from memkv.chat.terminal import emit
from memkv.compress import codec, decompress
from memkv.live import LiveCache
from memkv.model import HybridModel
from memkv.session import Session
from memkv.store import MemoryStore
from memkv.turns import Message

if TYPE_CHECKING:
    from memkv.snapshot import CacheSnapshot

SESSION, ANOTHER = "editorial", "another day"
SHORT_REPLY = 24  # tokens: the demo is about what is kept, so its replies are kept short
PROOF_TOKENS = 32
# A question that is asked before the kill and after the restore, answered token by token.
PROOF = "Which rules of our policy matter for this week's issue?"
# What somebody says in a new conversation, which never read the policy.
LATER = "I am back. What does our publishing policy say about anonymous sources, corrections and headlines?"
CODECS = ("identity", "fp8", "int8", "int4", "kvzip:0.5+int4")
POLICY = POLICIES[0]


def answers(model: HybridModel, live: LiveCache) -> list[bool]:
    """One result a probe."""
    return [knows(model, live, probe) for probe in POLICY.probes]


def proof(model: HybridModel, live: LiveCache) -> dict[str, Any]:
    """The next 32 greedy tokens after the same question, and a hash of the logits that chose the first."""
    fork = live.fork()
    logits_V = read_question(model, fork, PROOF)
    digest = hashlib.sha256(logits_V.float().numpy().tobytes()).hexdigest()[:16]
    tokens = list(model.generate(fork, PROOF_TOKENS))
    return {"logits": digest, "tokens": tokens, "text": model.chat.decode(tokens)}


def teach(store: str) -> None:
    """Teach the policy, talk about other things, then say one more thing during which the parent kills this process."""
    model = HybridModel.from_pretrained(notify=lambda text: emit({"step": "notice", "text": text}))
    with MemoryStore.open(store) as opened:
        session = Session(model, opened.tenant("demo"), SESSION)
        for text in (POLICY.text, *FILLER):
            reply = session.turn(text, max_new_tokens=SHORT_REPLY)
            emit(
                {
                    "step": "turn",
                    "reply": reply.text,
                    "read": reply.prefilled_tokens,
                    "reused": reply.reused_tokens,
                    "cache": reply.size.payload,
                    "disk": reply.stored_bytes,
                    "events": [event.kind for event in reply.events],
                }
            )
            if text == POLICY.text:
                emit({"step": "taught", "right": answers(model, session.fork())})
        emit({"step": "probes", "right": answers(model, session.fork())})
        emit({"step": "proof", **proof(model, session.fork()), "length": session.tokens})
        # Never finishes: the parent sends SIGKILL when the first word of this reply arrives.
        session.turn("And now something else: tell me about lighthouses.", on_text=said, max_new_tokens=256)


def said(text: str) -> None:
    """A piece of the reply that will not be finished."""
    emit({"step": "speaking", "text": text})


def recall(store: str) -> None:
    """Restore, prove that it is the same conversation, weigh the codecs, and time reading it all again."""
    model = HybridModel.from_pretrained()
    with MemoryStore.open(store) as opened:
        session = Session(model, opened.tenant("demo"), SESSION)
        emit({"step": "opened", **asdict(session.opened), "items": len(session.context)})
        emit({"step": "proof", **proof(model, session.fork()), "length": session.tokens})
        emit({"step": "probes", "right": answers(model, session.fork())})
        for name in CODECS:
            emit({"step": "codec", "codec": name, **weigh(model, model.capture(session.fork()), name)})
        emit({"step": "without", "right": answers(model, small_talk(model))})
        emit({"step": "first token", **first_token(model, session)})
        session.close()  # what was said becomes memories
        emit({"step": "another day", **another_day(model, opened)})


def weigh(model: HybridModel, snapshot: CacheSnapshot, name: str) -> dict[str, Any]:
    """Bytes under one codec, and the probes asked of what comes back from it."""
    smaller = codec(name, model=model).compress(snapshot, None)
    return {"bytes": smaller.payload, "right": answers(model, model.restore(decompress(smaller)))}


def small_talk(model: HybridModel) -> LiveCache:
    """A conversation in which the policy was never said: what the model answers by itself."""
    chat = model.chat
    live = model.new_cache()
    said = [Message(role="user", content="Good morning."), Message(role="assistant", content="Good morning!")]
    model.extend(live, chat.encode(chat.stable(said)))
    return live


def first_token(model: HybridModel, session: Session) -> dict[str, float]:
    """Seconds to the first token of the next reply: from the stored cache, and by reading all the text again."""
    tokens = session.fork().token_ids
    began = time.perf_counter()
    restored = Session(model, session.tenant, SESSION)
    opened = time.perf_counter() - began
    read_question(model, restored.fork(), PROOF)
    from_cache = time.perf_counter() - began
    began = time.perf_counter()
    again = model.new_cache()
    model.extend(again, tokens)
    read = time.perf_counter() - began
    read_question(model, again, PROOF)
    return {"restore": opened, "from_cache": from_cache, "prefill": read, "from_text": time.perf_counter() - began}


def another_day(model: HybridModel, store: MemoryStore) -> dict[str, Any]:
    """A new conversation about the same things: what came into its cache without being read, and the probes then."""
    # An eighth of it may be spent on memories: here one stretch of two exchanges.
    with Session(model, store.tenant("demo"), ANOTHER, context_budget="96 MiB") as session:
        reply = session.turn(LATER, max_new_tokens=SHORT_REPLY)
        came = [event.data for event in reply.events if event.kind == "recalled" and "of" in event.data]
        return {
            "memories": [{"session": each["of"]["session"], "score": each["score"]} for each in came],
            "spliced": reply.spliced_tokens,
            "read": reply.prefilled_tokens,
            "first_token": reply.first_token_seconds,
            "right": answers(model, session.fork()),
        }


def main(arguments: Sequence[str]) -> None:
    """`teach STORE` or `recall STORE`."""
    act, store = arguments
    {"teach": teach, "recall": recall}[act](store)


if __name__ == "__main__":
    main(sys.argv[1:])
