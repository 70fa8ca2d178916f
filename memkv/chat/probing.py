"""Ask what a model still knows, by likelihood and without disturbing the conversation."""

from __future__ import annotations

from torch import Tensor

from memkv.chat.policies import Probe
from memkv.live import LiveCache
from memkv.model import HybridModel
from memkv.turns import Message

# Any conversation that is at a turn boundary renders its next question alike, so one exchange stands for it.
EXCHANGE = (Message(role="user", content="x"), Message(role="assistant", content="y"))


def read_question(model: HybridModel, live: LiveCache, question: str) -> Tensor:
    """Ask, and open a reply; returns the logits of its first token (V)."""
    asked = model.chat.render([*EXCHANGE, Message(role="user", content=question)], open_reply=True)
    return model.extend(live, model.chat.encode_rest(model.chat.stable(EXCHANGE), asked))


def rank(model: HybridModel, live: LiveCache, probe: Probe) -> list[float]:
    """Log-likelihood a token (nats) of each option, asked on a fork of `live`."""
    fork = live.fork()
    read_question(model, fork, probe.question)
    options = [model.chat.encode(option) for option in probe.options]
    sums = model.log_probs(fork, options)
    return [total / len(option) for total, option in zip(sums, options, strict=True)]


def knows(model: HybridModel, live: LiveCache, probe: Probe) -> bool:
    """Whether the right option is the likeliest."""
    ranks = rank(model, live, probe)
    return ranks.index(max(ranks)) == probe.answer
