"""Questions are asked without disturbing the memory, each context is read once, and everything is counted."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from small_scenario import small_scenario
from tiny_chat import tiny_chat

from eval.reading import dated, question_tokens, read_probes
from eval.systems import system
from eval.systems.base import Case, Limits, Memory, constant, prefill
from memkv.errors import InvalidInput
from memkv.turns import Message


@pytest.fixture(scope="module")
def case() -> Case:
    return Case(tiny_chat("llama", "chatml"), small_scenario())


def test_a_context_that_all_probes_share_is_read_once(case: Case) -> None:
    memory = Memory(constant(case.messages), None, {})
    together = read_probes(case.model, memory, case.scenario)
    alone = [read_probes(case.model, memory, case.scenario, [probe]) for probe in case.scenario.probes]
    assert [answer.probe for answer in together.answers] == [probe.id for probe in case.scenario.probes]
    for answer, single in zip(together.answers, alone, strict=True):
        assert answer.scores == pytest.approx(single.answers[0].scores, abs=1e-3)
        assert answer.right == single.answers[0].right
    context = len(case.full)
    assert together.unshared == sum(single.unshared for single in alone)
    assert together.prefilled == together.unshared - context * (len(alone) - 1)
    assert together.context_tokens == context
    assert together.active_bytes == case.full.size().payload


def test_a_restored_cache_is_asked_like_one_that_was_prefilled(case: Case) -> None:
    read = read_probes(case.model, Memory(constant(case.messages), None, {}), case.scenario)
    before = case.full.size()
    kept = read_probes(case.model, Memory(constant(case.messages), None, {}, live=case.full), case.scenario)
    assert kept.answers == read.answers
    assert kept.prefilled == read.prefilled - len(case.full)
    assert case.full.size() == before, "the memory is left as it was"


def test_contexts_that_depend_on_the_question_are_told_apart(case: Case) -> None:
    seen: list[str] = []

    def chosen(question: str) -> list[Message]:
        seen.append(question)
        return case.messages[: 2 + 2 * (len(seen) % 2)]

    reading = read_probes(case.model, Memory(chosen, None, {}), case.scenario)
    assert seen == [dated(case.scenario, probe) for probe in case.scenario.probes]
    two, four = (len(prefill(case.model, case.messages[:count])) for count in (2, 4))
    assert two < reading.context_tokens < four
    assert reading.active_bytes == prefill(case.model, case.messages[:4]).size().payload


def test_no_memory_is_a_context_without_bytes(case: Case) -> None:
    reading = read_probes(case.model, system("none").remember(case, Limits()), case.scenario)
    assert (reading.active_bytes, reading.context_tokens) == (0, 0)
    assert reading.prefilled == reading.unshared


def test_the_day_of_asking_is_said_as_the_sessions_say_theirs(case: Case) -> None:
    question = dated(case.scenario, case.scenario.probes[0])
    assert question.startswith("[") and str(int(case.scenario.asked_on[-2:])) in question
    read = case.model.chat.stable(case.messages)
    tokens = question_tokens(case.model, read, case.messages, question)
    assert case.model.chat.decode(tokens).count(case.scenario.probes[0].question) == 1


def test_likelihoods_that_are_no_numbers_name_the_probe(case: Case) -> None:
    broken = tiny_chat("llama", "chatml")
    with torch.no_grad():
        broken.hf.lm_head.weight.fill_(math.nan)
    with pytest.raises(InvalidInput, match=case.scenario.probes[0].id):
        read_probes(broken, Memory(constant(case.messages), None, {}), case.scenario)


def test_written_answers_are_kept_and_checked(case: Case) -> None:
    reading = read_probes(case.model, Memory(constant(case.messages), None, {}), case.scenario)
    written = [answer for answer in reading.answers if answer.kind == "generate"]
    assert written and all(answer.written is not None and answer.scores == () for answer in written)
    limits = [probe.max_tokens for probe in case.scenario.probes if probe.kind == "generate"]
    assert 0 <= reading.generated <= sum(limits)
    nothing = dataclasses.replace(case.scenario, probes=())
    assert read_probes(case.model, Memory(constant(case.messages), None, {}), nothing).answers == ()
