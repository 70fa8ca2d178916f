from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from eval.generate import DOMAINS
from eval.making.family import FOLDER as FAMILIES
from eval.making.family import GENERAL, PRACTICE, matches
from eval.making.family import load as load_families
from eval.making.filler import BINDING, SHORT, Exchange, Talk, load
from memkv.errors import ConfigError

WORDS_OF_32K = 24_000


def long_talk(domain: str, seed: int = 0, words: int = WORDS_OF_32K) -> Iterator[Exchange]:
    for exchange in Talk(domain, random.Random(seed)).exchanges():
        yield exchange
        words -= exchange.words
        if words <= 0:
            return


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("seed", [0, 1])
def test_no_sentence_is_said_twice_in_32k_tokens(domain: str, seed: int) -> None:
    counted = Counter(s.lower() for exchange in long_talk(domain, seed) for s in (*exchange.user, *exchange.assistant))
    assert [s for s, count in counted.items() if count > 1 and len(s.split()) > SHORT] == []
    assert sum(counted.values()) > 1000


@pytest.mark.parametrize("domain", DOMAINS)
def test_filler_says_nothing_about_any_rule(domain: str) -> None:
    homes = (FAMILIES, FAMILIES / PRACTICE)
    known = [family for home in homes for name in (domain, GENERAL) for family in load_families(home / f"{name}.yaml")]
    for exchange in long_talk(domain):
        for sentence in (*exchange.user, *exchange.assistant):
            assert not BINDING.search(sentence)
            assert not [family.id for family in known if matches(family.about, sentence)], sentence


@pytest.mark.parametrize("domain", DOMAINS)
def test_filler_is_whole_sentences(domain: str) -> None:
    for exchange in long_talk(domain, words=3000):
        assert 1 <= len(exchange.assistant) <= 4 and 1 <= len(exchange.user) <= 5
        for sentence in (*exchange.user, *exchange.assistant):
            assert sentence[-1] in ".?!" and not set("{}|") & set(sentence)
            assert not sentence[0].islower()


def test_the_same_seed_says_the_same() -> None:
    first, again, other = (list(long_talk("editorial", seed, 2000)) for seed in (3, 3, 4))
    assert first == again != other


def test_a_thread_stays_with_its_people(tmp_path: Path) -> None:
    talk = Talk("house", random.Random(0), folder=written(tmp_path))
    for exchange in talk.exchanges():
        name = exchange.user[0].split()[0]
        assert exchange.assistant[0].split()[1] == name
        if len(talk.said) > 20:
            return


GOOD: dict[str, Any] = {
    "pools": {"person": [f"Name{number}" for number in range(40)]},
    "threads": [
        {
            "id": "tea",
            "beats": [
                {
                    "user": [
                        ["{person} {makes|pours|likes} tea.", "{person} drinks {count} cups of {green|black} tea."]
                    ],
                    "assistant": [["And {person} has {count} cups of it.", "So {person} has {three|four} or {count}."]],
                }
            ],
        }
    ],
}


def written(folder: Path, data: Any = GOOD) -> Path:
    (folder / "house.yaml").write_text(data if isinstance(data, str) else yaml.safe_dump(data))
    return folder


def with_user_sentence(sentence: str) -> dict[str, Any]:
    beat = {**GOOD["threads"][0]["beats"][0], "user": [["{person} makes tea.", sentence]]}
    return {**GOOD, "threads": [{"id": "tea", "beats": [beat]}]}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({**GOOD, "extra": 1}, "exactly the keys"),
        ("- 1", "exactly the keys"),
        ("{", "Cannot read"),
        ({**GOOD, "pools": {"person": ["Ann"]}}, "'person' needs 12 different"),
        ({**GOOD, "pools": {"person": [1] * 12}}, "not a str"),
        (with_user_sentence("{animal} sleeps."), "unknown slot 'animal'"),
        (with_user_sentence("{person.7} sleeps."), "unknown slot 'person.7'"),
        (with_user_sentence("{person} must sleep."), "sounds like a rule"),
        (with_user_sentence("{person} sleeps. {person.2} reads."), "not one sentence"),
        (with_user_sentence("{person} sleeps"), "not one sentence"),
        (
            {**GOOD, "threads": [{"id": "tea", "beats": [{"user": [["Hi."]], "assistant": []}]}]},
            "alternatives",
        ),
        ({**GOOD, "threads": [{"id": "tea", "beat": []}]}, "unknown field 'beat'"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, data: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load("house", written(tmp_path, data))
    assert "house.yaml" in str(caught.value)


def test_too_small_a_file_is_no_endless_loop(tmp_path: Path) -> None:
    small = with_user_sentence("{person} likes tea very much.")
    small["threads"][0]["beats"][0]["user"] = [["We all drink tea here.", "Tea is what we drink."]]
    with pytest.raises(ConfigError, match="repeats itself"):
        list(Talk("house", random.Random(0), folder=written(tmp_path, small)).exchanges())
