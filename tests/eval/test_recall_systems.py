"""Recall of earlier sessions as a system: the same text, read or spliced."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from small_scenario import small_scenario
from tiny_chat import tiny_chat

from eval.reading import read_probes
from eval.scenarios import Meeting, Turn
from eval.systems import Case, Limits, system
from eval.systems.base import bytes_of
from memkv.compaction.base import MEMORIES
from memkv.errors import ConfigError
from memkv.turns import Message

NAMES = ("recall", "recall whole")
DAYS = ("2026-03-02", "2026-03-09")
TALK = "We spoke of the weather over the harbour for a long while, and of ducks. " * 4


@pytest.fixture(scope="module")
def case() -> Case:
    return Case(tiny_chat("llama"), small_scenario())


@pytest.mark.parametrize("share", [None, 0.5])
def test_spliced_with_everything_read_again_it_is_the_text(case, share):
    limits = Limits(None if share is None else int(share * case.full.size().payload))
    as_text, spliced = (system(name).remember(case, limits) for name in ("recall", "recall kv all"))
    question = case.scenario.probes[0].question
    messages = as_text.messages(question)
    assert messages == spliced.messages(question)
    (one, read), (other, again) = (each.before(case.model, messages) for each in (as_text, spliced))
    assert read == again == len(one), "all of it is read again"
    assert one.token_ids == other.token_ids
    assert torch.allclose(case.model.extend(one, [20]), case.model.extend(other, [20]), atol=1e-5)
    if limits.active is not None:
        assert one.size().payload <= limits.active


def test_it_answers_every_probe(case):
    memory = system("recall kv 4").remember(case, Limits())
    live, read = memory.before(case.model, memory.messages(case.scenario.probes[0].question))
    assert 0 < read < len(live)
    assert len(read_probes(case.model, memory, case.scenario).answers) == len(case.scenario.probes)
    assert set(memory.at_rest) == {"text", "vectors", "kv"}


RULE = "Headlines must have at most nine words."


def test_where_a_session_has_no_room_its_rules_come_and_later_ones_change_them(case):
    scenario = case.scenario
    said = [
        Turn("user", text) for text in (f"{TALK} {RULE}", f"{TALK} There is a change: {RULE.replace('nine', 'ten')}")
    ]
    meetings = [Meeting(day, (turn, Turn("assistant", "Noted."))) for day, turn in zip(DAYS, said, strict=True)]
    new = Case(case.model, replace(scenario, meetings=tuple(meetings)))
    limits = Limits(bytes_of(case.model, [Message(role="system", content=f"{MEMORIES}{'x' * 260}")]))
    noted, whole = (system(name).remember(new, limits).messages("How long are headlines?") for name in NAMES)
    assert [message["content"].count("ten words") for message in noted] == [0, 1] and whole == []


def test_stored_with_a_codec_it_takes_less_and_still_answers(case):
    whole, small = (system(name).remember(case, Limits()) for name in ("recall kv 4", "recall kv 4+int8"))
    assert small.at_rest["kv"] < 0.8 * whole.at_rest["kv"], "fp32, so that int8 is a third and its scales"
    assert len(read_probes(case.model, small, case.scenario).answers) == len(case.scenario.probes)


@pytest.mark.parametrize(
    "name", ["recall kv some", "recall kv 8+snapkv", "recall+int4", "recall kv 8+", "recall whole kv"]
)
def test_a_name_that_means_nothing_is_refused(name):
    with pytest.raises(ConfigError, match="recall kv 8"):
        system(name)
