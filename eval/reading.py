"""Questions after a memory: every distinct context is prefilled once, forked for its probes, and never disturbed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from statistics import median

from eval.rows import Answer
from eval.scenarios import Probe, Scenario
from eval.scorers import choose, complies
from eval.systems.base import Memory
from memkv.live import LiveCache
from memkv.model import HybridModel
from memkv.scoring import Branch, score
from memkv.turns import Message


@dataclass(frozen=True)
class Reading:
    """What came of asking.

    Attributes:
        answers: one a probe, in order.
        active_bytes: measured live cache in front of a question; the largest.
        context_tokens: tokens in front of a question; the mean.
        prefilled: tokens read. `generated`: tokens written.
        unshared: tokens that would have been read, had each probe been answered from scratch.
        first_token: seconds from a question to the first logits of its answer, bringing the memory back included;
            the median over contexts.
        seconds: in all.
    """

    answers: tuple[Answer, ...]
    active_bytes: int
    context_tokens: float
    prefilled: int
    generated: int
    unshared: int
    first_token: float
    seconds: float


@dataclass
class Group:
    """Probes that are asked after one context."""

    messages: list[Message]
    searching: float  # seconds from the first question to these messages
    probes: list[Probe] = field(default_factory=list)


def read_probes(
    model: HybridModel, memory: Memory, scenario: Scenario, probes: Sequence[Probe] | None = None
) -> Reading:
    """Ask every probe; `memory` is left as it was.

    Raises:
        InvalidInput: likelihoods that are no numbers, or a context beyond the model's positions.
    """
    started = time.perf_counter()
    groups: dict[tuple[tuple[str, str], ...], Group] = {}
    chat = model.chat
    probes = scenario.probes if probes is None else probes
    for probe in probes:
        began = time.perf_counter()
        messages = memory.messages(dated(scenario, probe))
        searching = time.perf_counter() - began
        said = () if memory.live is not None else tuple((each["role"], each["content"]) for each in messages)
        groups.setdefault(said, Group(messages, searching)).probes.append(probe)
    answers: dict[str, Answer] = {}
    active, waits, contexts = 0, [], 0
    prefilled = generated = unshared = 0
    question_seconds = 0.0
    for number, group in enumerate(groups.values()):
        began = time.perf_counter()
        live, read_now = memory.before(model, group.messages)
        wait = memory.load_seconds if memory.live is not None else time.perf_counter() - began
        active = max(active, live.size().payload)
        contexts += len(live) * len(group.probes)
        prefilled += read_now
        read = chat.stable(group.messages)
        stems = {p.id: question_tokens(model, read, group.messages, dated(scenario, p)) for p in group.probes}
        if number == 0:  # one question is much like the next, so one is enough to know what reading it alone takes
            began = time.perf_counter()
            model.extend(live.fork(), stems[group.probes[0].id])
            question_seconds = time.perf_counter() - began
        waits.append(group.searching + wait)
        ranked = [probe for probe in group.probes if probe.kind != "generate"]
        branches = [Branch(tuple(stems[p.id]), tuple(tuple(chat.encode(o)) for o in p.options)) for p in ranked]
        for probe, branch, sums in zip(ranked, branches, score(model, live, branches), strict=True):
            scores = tuple(total / len(leaf) for total, leaf in zip(sums, branch.leaves, strict=True))
            chosen = choose(scores, probe.answer, probe.id)
            rounded = tuple(round(value, 4) for value in scores)
            answers[probe.id] = Answer(
                probe.id, probe.rule, probe.kind, rounded, chosen.right, round(chosen.probability, 4)
            )
            prefilled += branch.tokens
            unshared += len(live) + branch.tokens
        for probe in group.probes:
            if probe.kind == "generate" and probe.check is not None:
                text, count = write(model, live, stems[probe.id], probe.max_tokens)
                right = complies(text, probe.check)
                answers[probe.id] = Answer(probe.id, probe.rule, probe.kind, (), right, float(right), text)
                prefilled, generated = prefilled + len(stems[probe.id]), generated + count
                unshared += len(live) + len(stems[probe.id])
    return Reading(
        answers=tuple(answers[probe.id] for probe in probes),
        active_bytes=active,
        context_tokens=contexts / max(1, len(probes)),
        prefilled=prefilled,
        generated=generated,
        unshared=unshared,
        first_token=median(waits) + question_seconds if waits else 0.0,
        seconds=time.perf_counter() - started,
    )


def dated(scenario: Scenario, probe: Probe) -> str:
    """The question with the day on which it is asked, as the scenario's sessions begin."""
    day = date.fromisoformat(scenario.asked_on)
    return f"[{day:%A}, {day.day} {day:%B %Y}] {probe.question}"


def question_tokens(
    model: HybridModel, read: str, messages: Sequence[Message], question: str, opening: str = ""
) -> list[int]:
    """Tokens of a question behind `read`, the stable text of `messages`, and of the reply as far as it is given."""
    asked = [*messages, Message(role="user", content=question)]
    return model.chat.encode_rest(read, model.chat.render(asked, open_reply=True) + opening)


def write(model: HybridModel, live: LiveCache, question: Sequence[int], max_tokens: int) -> tuple[str, int]:
    """A greedy reply on a fork, and how many tokens it took."""
    fork = live.fork()
    model.extend(fork, question)
    tokens = list(model.generate(fork, max_tokens, stop_ids=model.chat.stop_ids))
    return model.chat.decode(tokens).strip(), len(tokens)
