"""Controls of the whole suite: what must be easy is easy, what must fail fails, and nothing solves it by trick."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from tiny_chat import tiny_chat

from eval.generate import Config, scenarios
from eval.reading import read_probes
from eval.scenarios import Scenario
from eval.scorers import text_survival
from eval.systems import system
from eval.systems.base import Case, Limits, bytes_of
from memkv import HybridModel

BINDING = ("value", "behaviour", "exception", "generate")


@dataclass(frozen=True)
class Kept:
    """Mean text survival and false rules of a system over scenarios."""

    survived: float
    false_rules: float


@pytest.fixture(scope="module")
def some() -> list[Scenario]:
    return list(scenarios("test", 12, 7, Config(tokens=1000)))


def kept(name: str, share: float | None, some: list[Scenario]) -> Kept:
    """What the texts of a system that needs no model still say."""
    model = tiny_chat("llama", "chatml")
    scores = []
    for scenario in some:
        case = Case(model, scenario)
        budget = None if share is None else int(share * bytes_of(model, case.messages))
        memory = system(name).remember(case, Limits(budget))
        assert memory.text is not None
        scores.append(text_survival(memory.text, scenario.rules, memory.transcript))
    return Kept(
        sum(score.survived for score in scores) / len(scores), sum(score.false_rules for score in scores) / len(scores)
    )


def test_an_oracle_keeps_all_and_nothing_keeps_nothing(some: list[Scenario]) -> None:
    assert kept("curated", None, some) == Kept(1.0, 0.0)
    assert kept("none", None, some) == Kept(0.0, 0.0)


def test_the_verbatim_registry_does_not_solve_it(some: list[Scenario]) -> None:
    """It drops what does not fit, misses what is worded without words of rules, and believes what is quoted."""
    tight, wide = kept("registry", 0.125, some), kept("registry", 0.25, some)
    assert tight.survived < 0.6
    assert wide.survived < 0.8
    assert wide.survived > kept("recency", 0.25, some).survived
    assert wide.false_rules > 0


def test_more_bytes_keep_more(some: list[Scenario]) -> None:
    shares = [kept("recency", share, some).survived for share in (0.125, 0.4, 1.0)]
    assert shares == sorted(shares)
    assert shares[0] < 0.4
    assert shares[-1] > 0.95


def test_twins_have_other_answers_to_the_same_questions(some: list[Scenario]) -> None:
    """So a fixed habit, whatever it is, is right in one of two at most."""
    pairs = zip(some[::2], some[1::2], strict=True)
    both = [
        (p.options, p.answer, q.answer)
        for one, other in pairs
        for p, q in zip(one.probes, other.probes, strict=True)
        if p.kind in ("value", "behaviour")
    ]
    assert both
    assert all(first != second for _, first, second in both)


@pytest.mark.slow
@pytest.mark.keeps_home
def test_the_embedded_model_answers_with_the_conversation_and_not_without() -> None:
    model = HybridModel.from_pretrained()
    right: dict[str, list[bool]] = {"full": [], "none": [], "curated": []}
    for scenario in scenarios("test", 8, 11, Config(tokens=700)):
        case = Case(model, scenario)
        for name, found in right.items():
            reading = read_probes(model, system(name).remember(case, Limits()), scenario)
            found += [answer.right for answer in reading.answers if answer.kind in BINDING]
    shares = {name: sum(found) / len(found) for name, found in right.items()}
    assert shares["full"] > shares["none"] + 0.15, shares
    assert shares["curated"] > shares["none"] + 0.25, shares
