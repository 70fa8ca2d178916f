"""Are rules still known? Four near misses ranked by likelihood, after a conversation that may have been compressed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from eval.scorers import softmax
from memkv.chat.policies import POLICIES, Policy, Probe
from memkv.chat.probing import rank
from memkv.live import LiveCache
from memkv.model import HybridModel
from memkv.turns import Message

__all__ = ["POLICIES", "Policy", "Probe", "Score", "ask_all", "conversation"]

REPLY = "Understood. I will keep these rules."
SMALL_TALK = (Message(role="user", content="Good morning."), Message(role="assistant", content="Good morning!"))


@dataclass(frozen=True)
class Score:
    """Results of probes.

    Attributes:
        right: whether the right option had the highest likelihood a token, one a probe.
        probability: share of the right option's likelihood a token among the four, one a probe.
    """

    right: tuple[bool, ...]
    probability: tuple[float, ...]

    @property
    def accuracy(self) -> float:
        """Share of probes answered."""
        return sum(self.right) / len(self.right)

    @property
    def confidence(self) -> float:
        """Mean probability of the right option: moves where accuracy does not."""
        return sum(self.probability) / len(self.probability)

    @classmethod
    def join(cls, scores: Iterable[Score]) -> Score:
        """All results as one."""
        kept = list(scores)
        return cls(sum((s.right for s in kept), ()), sum((s.probability for s in kept), ()))


def conversation(model: HybridModel, policy: Policy | None, filler: str = "") -> list[int]:
    """Tokens of a chat in which the policy was said (or only small talk, without one), up to a stable boundary."""
    messages = list(SMALL_TALK)
    if policy is not None:
        messages = [Message(role="user", content=policy.text), Message(role="assistant", content=REPLY)]
    if filler:
        messages += [Message(role="user", content=filler), Message(role="assistant", content="I have read it.")]
    return model.chat.encode(model.chat.stable(messages))


def ask_all(model: HybridModel, live: LiveCache, probes: Iterable[Probe]) -> Score:
    """Ask every probe after `live`, which is left as it was."""
    right, probability = [], []
    for probe in probes:
        means = rank(model, live, probe)
        right.append(means.index(max(means)) == probe.answer)
        probability.append(softmax(means)[probe.answer])
    return Score(tuple(right), tuple(probability))
