"""The trained policy as a system: inside its budget, notes and ledger right, and what it lost brought back if asked."""

from __future__ import annotations

from pathlib import Path

import pytest
from peft import LoraConfig, get_peft_model
from small_scenario import small_scenario
from tiny_chat import tiny_chat
from tiny_models import tiny

import memkv.compaction.trained as trained
from eval.systems import system
from eval.systems.base import Case, Limits, prefill
from memkv.errors import ConfigError, ModelUnavailable

APPROVAL = "Anonymous sources must be approved by the night editor, unless the source is in danger."
HEADLINES = "Headlines now have at most seven words."
ANSWERS = {
    "Our policy": f"+ {APPROVAL}\n+ Headlines have at most nine words.",
    "Change of plan": "~ Headlines have at most seven words.",
}
QUESTION = "[Thursday, 12 March 2026] When a reply is started, which word stands first, Memo or another?"


@pytest.fixture(scope="module")
def adapter(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("policy") / "tiny-policy"
    get_peft_model(tiny("llama"), LoraConfig(target_modules="all-linear")).save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="module")
def case() -> Case:
    return Case(tiny_chat(), small_scenario())


@pytest.fixture(autouse=True)
def script(monkeypatch):
    def write(model, policy, notes, said, room):
        new = " ".join(said)
        return next((answer for said, answer in ANSWERS.items() if said in new), "No change."), {}

    monkeypatch.setattr(trained, "write", write)


def limits(case, share):
    return Limits(int(share * case.full.size().payload), 0)


@pytest.mark.parametrize("kind", ["trained", "pinned+trained", "trained+recall"])
@pytest.mark.parametrize("share", [0.1, 0.3, 0.6, 1.0])
def test_the_measured_cache_is_inside_the_budget(case, adapter, kind, share):
    limit = limits(case, share)
    memory = system(f"{kind}:{adapter}").remember(case, limit)
    assert prefill(case.model, memory.messages(QUESTION)).size().payload <= limit.active
    assert case.model.adapter is None


def test_notes_follow_the_rounds_and_the_ledger_knows(case, adapter):
    memory = system(f"trained:{adapter}").remember(case, limits(case, 0.6))
    assert f"- {APPROVAL}\n- {HEADLINES}" in memory.text
    assert "nine words" not in memory.text
    assert memory.ledger["r1"] > 0.5


def test_what_was_lost_comes_back_for_the_question_that_touches_it(case, adapter):
    memory = system(f"trained+recall:{adapter}").remember(case, limits(case, 0.6))
    assert "Start every reply with the word Memo." not in memory.text
    touching = "\n".join(message["content"] for message in memory.messages(QUESTION))
    other = "\n".join(message["content"] for message in memory.messages("[Thursday, 12 March 2026] How are you?"))
    assert "Start every reply with the word Memo." in touching
    assert "Start every reply with the word Memo." not in other
    everything = sum(len(turn.text.encode()) for turn in case.scenario.turns)
    assert memory.at_rest["text"] > everything, "what can be brought back is kept, and counted"


def test_the_same_notes_asked_of_the_model_as_it_is(case):
    assert system("notes").remember(case, limits(case, 0.6)).text


def test_a_policy_that_is_not_there_is_named(case, tmp_path):
    with pytest.raises(ModelUnavailable, match="nowhere"):
        system(f"trained:{tmp_path / 'nowhere'}").remember(case, limits(case, 0.6))
    with pytest.raises(ConfigError, match="trained:FOLDER"):
        system("trained:")
