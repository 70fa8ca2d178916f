from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from eval.generate import DOMAINS
from eval.making.family import FOLDER, GENERAL, PRACTICE, Family, families, fill, load, lower, matches
from eval.scenarios import Check, Split
from memkv.errors import ConfigError

SPLITS: tuple[Split, ...] = ("train", "dev", "test")
FILES = (*DOMAINS, GENERAL)
HOMES = (FOLDER, FOLDER / PRACTICE)

GOOD: dict[str, Any] = {
    "id": "vault",
    "split": "test",
    "type": "authority",
    "topic": "who opens the vault",
    "values": ["Ann", "Ben", "Cem", "Dora", "Emil"],
    "say": [
        "Only {value} may open the vault.",
        "The vault must be opened by {value}.",
        "Ask {value} to open the vault.",
    ],
    "implicit": ["{Value} opens the vault here.", "It is {value} who opens the vault."],
    "ask": "Who opens the vault?",
    "answer": "{value}.",
    "tempt": "I need something from downstairs. Whom do I call?",
    "act": "You call {value}.",
    "about": [["vault"], ["open", "opens", "opened"]],
    "polarity": "do",
    "exceptions": [],
    "check": None,
    "write": None,
}


def written(folder: Path, **changes: Any) -> Path:
    path = folder / "house.yaml"
    path.write_text(yaml.safe_dump([{**GOOD, **changes}]))
    return path


@pytest.mark.parametrize("name", FILES)
def test_every_file_is_sound_and_large_enough(name: str) -> None:
    found = load(FOLDER / f"{name}.yaml")
    shares = Counter(family.split for family in found)
    assert len(found) >= 15
    assert all(shares[split] >= 4 for split in SPLITS)


@pytest.mark.parametrize("name", FILES)
def test_every_file_to_practise_on_is_sound(name: str) -> None:
    found = load(FOLDER / PRACTICE / f"{name}.yaml")
    assert len(found) >= 10 and {family.split for family in found} == {PRACTICE}


def test_there_are_40_families_in_all() -> None:
    assert sum(len(load(FOLDER / f"{name}.yaml")) for name in FILES) >= 40


@pytest.mark.parametrize("domain", DOMAINS)
def test_splits_share_no_family(domain: str) -> None:
    names = [{family.id for family in families(domain, split)} for split in SPLITS]
    assert not names[0] & names[1] and not names[0] & names[2] and not names[1] & names[2]
    assert all(any(name.startswith(f"{GENERAL}/") for name in split) for split in names)


@pytest.mark.parametrize("domain", DOMAINS)
def test_no_wording_is_about_another_family(domain: str) -> None:
    """Else a text that keeps one rule would seem to say another."""
    known = [family for home in HOMES for name in (domain, GENERAL) for family in load(home / f"{name}.yaml")]
    clashes = [
        (family.id, other.id, fill(wording, value))
        for family in known
        for other in known
        if other is not family
        for wording in (*other.say, *other.implicit)
        for value in other.values
        if matches(family.about, fill(wording, value))
    ]
    assert not clashes


@pytest.mark.parametrize("name", FILES)
def test_options_of_a_family_differ(name: str) -> None:
    for family in (family for home in HOMES for family in load(home / f"{name}.yaml")):
        for template in (family.answer, family.act):
            assert len({fill(template, value).lower() for value in family.values}) == len(family.values), family.id


def test_values_fill_wordings(tmp_path: Path) -> None:
    (family,) = load(written(tmp_path))
    assert family.id == "house/vault"
    assert fill("{Value} opens it.", "the porter") == "The porter opens it."
    assert lower("Only Ann opens it.") == "only Ann opens it."
    assert lower("I open it.") == "I open it."


def test_words_match_whole() -> None:
    assert matches((("vault",), ("open",)), "Open the Vault.")
    assert not matches((("vault",), ("open",)), "The opening of the vault.")


def test_a_number_in_a_check_is_a_number(tmp_path: Path) -> None:
    changes = {"type": "format", "check": {"kind": "max_words", "value": "{value}"}, "write": "Say what a vault is."}
    (family,) = load(written(tmp_path, **changes, values=["3", "4", "5", "6", "7"]))
    assert family.check_for("5") == Check("max_words", 5)


def case(family: str, **changes: Any) -> dict[str, Any]:
    return {"message": family, "changes": changes}


EXEMPT = {"say": "unless it burns", "words": ["burns"], "case": "It burns.", "act": "Run."}

BAD = [
    case("unknown field 'polarty'", polarty="do"),
    case("split", split="final"),
    case("5 to 8 different values", values=["Ann", "Ben", "Ann", "Dora", "Emil"]),
    case("5 to 8 different values", values=["Ann", "Ben"]),
    case("is 5, not a str", values=["Ann", "Ben", "Cem", "Dora", 5]),
    case("3 wordings", say=["Only {value} may open the vault."]),
    case("exactly once", implicit=["Somebody opens the vault.", "It is {value} who opens the vault."]),
    case("exactly once", answer="Somebody."),
    case("lacks a word of a group", implicit=["{Value} has the key.", "It is {value} who opens the vault."]),
    case("'always', which is not implicit", implicit=["{Value} always opens the vault.", "{Value} opens the vault."]),
    case("gives a value away", tempt="Ann wants something from downstairs."),
    case("`check` and `write`", write="Say what a vault is."),
    case("`check` and `write`", type="format"),
    case("polarity", type="prohibition"),
    case("polarity", polarity="do not"),
    case("4 exceptions", type="conditional"),
    case(
        "only conditional",
        exceptions=[{"say": "unless it burns", "words": ["burns"], "case": "It burns.", "act": "Run."}],
    ),
    case("1 to 3 groups", about=[]),
]


@pytest.mark.parametrize("bad", BAD, ids=[bad["message"] for bad in BAD])
def test_a_broken_family_is_named(tmp_path: Path, bad: dict[str, Any]) -> None:
    path = written(tmp_path, **bad["changes"])
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert bad["message"] in str(caught.value)
    assert "house.yaml" in str(caught.value) and "vault" in str(caught.value)


def test_two_families_of_one_name(tmp_path: Path) -> None:
    path = tmp_path / "house.yaml"
    path.write_text(yaml.safe_dump([GOOD, GOOD]))
    with pytest.raises(ConfigError, match="used before"):
        load(path)


@pytest.mark.parametrize("text", ["", "{", "vault: open", "- 7"])
def test_a_file_that_is_no_list_of_families(tmp_path: Path, text: str) -> None:
    path = tmp_path / "house.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"house\.yaml"):
        load(path)


def test_an_unknown_domain() -> None:
    with pytest.raises(ConfigError, match="Check the domain's name"):
        families("gardening", "test")


def test_families_are_hashable_and_equal() -> None:
    (first, *_), (second, *_) = (families("editorial", "test") for _ in range(2))
    assert isinstance(first, Family) and hash(first) == hash(second)
