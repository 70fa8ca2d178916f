"""memkv's own tier as a system: exact without a codec, inside its budget with one, every byte at rest counted."""

from __future__ import annotations

import pytest
from small_scenario import small_scenario
from tiny_chat import tiny_chat

from eval.reading import read_probes
from eval.systems import system
from eval.systems.base import Case, Limits
from memkv.errors import BudgetExceeded, ConfigError


@pytest.fixture(scope="module")
def case() -> Case:
    return Case(tiny_chat("llama", "chatml"), small_scenario())


def test_exact_restore_answers_as_the_full_context_does(case: Case) -> None:
    full = read_probes(case.model, system("full").remember(case, Limits()), case.scenario)
    memory = system("exact restore").remember(case, Limits())
    restored = read_probes(case.model, memory, case.scenario)
    assert restored.answers == full.answers
    assert restored.active_bytes == full.active_bytes
    assert memory.text is None and memory.load_seconds > 0
    assert memory.at_rest["kv"] > full.active_bytes, "the blob holds all tensors and a header"
    assert memory.at_rest["text"] == sum(len(turn.text.encode()) for turn in case.scenario.turns)
    assert memory.at_rest["metadata"] > 0


@pytest.mark.parametrize("name", ["int4", "int8", "fp8"])
def test_quantizers_save_bytes_at_rest_only(case: Case, name: str) -> None:
    memory = system(name).remember(case, Limits())
    assert not system(name).budgeted
    assert memory.live is not None and memory.live.size().payload == case.full.size().payload
    assert memory.at_rest["kv"] < system("exact restore").remember(case, Limits()).at_rest["kv"]


@pytest.mark.parametrize("name", ["streaming", "snapkv", "snapkv+int4", "expected+int4", "h2o", "kvzip", "matching"])
@pytest.mark.parametrize("share", [0.25, 0.6])
def test_evictors_keep_to_the_budget_of_live_bytes(case: Case, name: str, share: float) -> None:
    budget = int(share * case.full.size().payload)
    memory = system(name).remember(case, Limits(budget))
    assert system(name).budgeted
    reading = read_probes(case.model, memory, case.scenario)
    assert 0.8 * budget < reading.active_bytes <= budget
    assert memory.spent.peak == case.full.size().payload, "it saw everything once"
    assert len(reading.answers) == len(case.scenario.probes)


def test_a_budget_below_one_token_is_refused_with_the_smallest_that_works(case: Case) -> None:
    with pytest.raises(BudgetExceeded) as raised:
        system("snapkv").remember(case, Limits(10))
    assert raised.value.smallest > 10


@pytest.mark.parametrize("name", ["nothing", "snapkv+nothing", "int4+snapkv"])
def test_unknown_systems_are_named(case: Case, name: str) -> None:
    with pytest.raises(ConfigError, match="Known|known|takes no|reads|quantizer"):
        system(name).remember(case, Limits(100_000))
