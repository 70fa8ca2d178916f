"""Anybody's own compaction: called round by round, checked, and named when it is wrong."""

from __future__ import annotations

import pytest
from small_scenario import small_scenario
from tiny_chat import tiny_chat

from eval.systems.base import Case, Limits, bytes_of, prefill
from eval.systems.compact_function import CompactFunction
from memkv.errors import BudgetExceeded, ConfigError, InvalidInput

MODULE = """
calls = []

def last_two(messages, budget_bytes):
    calls.append(([dict(message) for message in messages], budget_bytes))
    kept = messages[-2:]
    for message in messages:
        message["content"] = "overwritten" if message not in kept else message["content"]
    return tuple(kept)

def nothing(messages, budget_bytes): return []
def everything(messages, budget_bytes): return messages
def text(messages, budget_bytes): return "a summary"
def none(messages, budget_bytes): return None
def strings(messages, budget_bytes): return ["a summary"]
def no_role(messages, budget_bytes): return [{"content": "x"}]
def more_keys(messages, budget_bytes): return [{"role": "user", "content": "x", "name": "y"}]
def odd_role(messages, budget_bytes): return [{"role": "tool", "content": "x"}]
def list_role(messages, budget_bytes): return [{"role": ["user"], "content": "x"}]
def parts(messages, budget_bytes): return [{"role": "user", "content": [{"type": "text"}]}]
def fails(messages, budget_bytes): raise KeyError("speaker")
def one_argument(messages): return messages
number = 5
"""


@pytest.fixture(scope="module")
def case():
    return Case(tiny_chat(), small_scenario())


@pytest.fixture(autouse=True)
def own_module(tmp_path, monkeypatch):
    (tmp_path / "own_compaction.py").write_text(MODULE, encoding="utf-8")
    (tmp_path / "broken_compaction.py").write_text("import no_such_thing", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)


def test_it_is_called_after_each_chunk_with_its_own_memory(case):
    import own_compaction

    own_compaction.calls.clear()
    limit = Limits(case.full.size().payload // 2)
    memory = CompactFunction("own_compaction:last_two").remember(case, limit)
    first, second = own_compaction.calls
    assert first == (case.messages[:4], limit.active)
    assert second == ([*case.messages[2:4], *case.messages[4:]], limit.active)
    assert memory.messages("anything") == case.messages[-2:]
    assert memory.at_rest["text"] == sum(len(message["content"].encode()) for message in case.messages[-2:])
    assert case.messages[0]["content"] == case.scenario.turns[0].text, "the function got copies"
    assert prefill(case.model, memory.messages("anything")).size().payload <= limit.active


def test_without_a_budget_it_is_told_what_there_is(case):
    memory = CompactFunction("own_compaction:everything").remember(case, Limits())
    assert memory.messages("anything") == case.messages
    assert CompactFunction("own_compaction:nothing").remember(case, Limits()).messages("anything") == []


def test_too_much_is_refused(case):
    limit = Limits(case.full.size().payload // 8)
    with pytest.raises(BudgetExceeded, match="own_compaction:everything") as refused:
        CompactFunction("own_compaction:everything").remember(case, limit)
    assert refused.value.smallest == bytes_of(case.model, case.messages[:4])


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("text", "a str"),
        ("none", "a NoneType"),
        ("strings", "message 0"),
        ("no_role", "message 0"),
        ("more_keys", "name"),
        ("odd_role", "'tool'"),
        ("list_role", "role"),
        ("parts", "content of type list"),
        ("fails", "KeyError: 'speaker'"),
        ("one_argument", "TypeError"),
    ],
)
def test_a_wrong_answer_is_named(case, name, says):
    with pytest.raises(InvalidInput, match=says) as refused:
        CompactFunction(f"own_compaction:{name}").remember(case, Limits(case.full.size().payload))
    assert refused.value.next_step


@pytest.mark.parametrize(
    "target",
    ["own_compaction", "own_compaction:", ":last_two", "own_compaction:absent", "own_compaction:number",
     "no_such_module:f", "broken_compaction:f", "", "..relative:f"],
)  # fmt: skip
def test_a_target_that_is_not_there_is_named(target):
    with pytest.raises(ConfigError) as refused:
        CompactFunction(target)
    assert refused.value.next_step
