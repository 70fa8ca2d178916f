"""The question of a sample after a memory, answered greedily."""

from __future__ import annotations

from dataclasses import dataclass

from eval.reading import question_tokens
from eval.suites.sample import Sample
from eval.systems.base import Memory
from memkv.live import LiveCache
from memkv.model import HybridModel


@dataclass(frozen=True)
class Asked:
    """What came of one question.

    Attributes:
        text: the answer, without the sample's opening.
        active_bytes: measured live cache before the question is read.
        context_tokens: tokens before the question.
        prefilled: tokens read.
        generated: tokens written.
    """

    text: str
    active_bytes: int
    context_tokens: int
    prefilled: int
    generated: int


def ask(model: HybridModel, memory: Memory, sample: Sample) -> Asked:
    """Ask; `memory` is left as it was.

    Raises:
        InvalidInput: memory, question and answer are more than the model's positions.
    """
    messages = memory.messages(sample.question)
    live = memory.before(model, messages)[0].fork()
    before, active = len(live), live.size().payload
    question = question_tokens(model, model.chat.stable(messages), messages, sample.question, sample.opening)
    model.extend(live, question)
    text, count = write(model, live, sample)
    read = len(question) + (before if memory.live is None else 0)
    return Asked(text, active, before, read, count)


def write(model: HybridModel, live: LiveCache, sample: Sample) -> tuple[str, int]:
    """A greedy answer, and how many tokens it took."""
    tokens: list[int] = []
    text = ""
    for token in model.generate(live, sample.max_tokens, stop_ids=model.chat.stop_ids):
        tokens.append(token)
        text = model.chat.decode(tokens)
        if sample.first_line and "\n" in text.lstrip("\n"):
            break
    return text, len(tokens)
