"""What a stretch lays down, and which earlier notes it changes or takes back."""

from __future__ import annotations

import pytest
import torch
from tiny_chat import tiny_chat

from memkv import HybridModel
from memkv.compaction import Pinned, strategy
from memkv.errors import ModelUnavailable
from memkv.recall.noting import noted, related
from memkv.recall.stretch import trust
from memkv.store import Memory, Notes

ALPHA, BETA = "Release notes must be filed in the folder Alpha.", "Release notes must be filed in the folder Beta."
PLACE, OTHER = ("s", 1, 2, 0), ("s", 1, 2, 1)


def made(*said: str, before: dict | None = None) -> Notes:
    return noted(tiny_chat("llama"), Pinned(), said, before or {})


def test_what_is_worded_as_a_rule_is_noted_once_and_nothing_else() -> None:
    assert made("The weather was fine.", ALPHA, f"As I said: {ALPHA}") == Notes((ALPHA,))
    assert made() == Notes() == made("")


def test_what_was_said_anew_takes_the_place_of_an_earlier_note() -> None:
    before = {PLACE: ALPHA, OTHER: "Never send a draft on Friday."}
    assert made(f"This has changed: {BETA}", before=before) == Notes((f"This has changed: {BETA}",), (PLACE,))


def test_without_a_word_of_change_both_stand() -> None:
    assert made(BETA, before={PLACE: ALPHA}) == Notes((BETA,))


def test_what_is_taken_back_is_over_and_a_question_takes_nothing_back() -> None:
    over = "We drop the rule about the folder Alpha for release notes, nothing takes its place."
    assert made(over, before={PLACE: ALPHA}) == Notes((), (PLACE,))
    assert made(ALPHA, over) == Notes()
    assert made("Did you forget that the folder Alpha is for release notes?", before={PLACE: ALPHA}) == Notes()


def test_what_is_only_quoted_binds_nobody_and_the_stretch_says_so() -> None:
    text = f"They wrote:\n> {ALPHA}\nFunny, is it not?"
    assert made(text) == Notes()
    assert trust([Memory("s", 1, "message", "user", text, 1.0, (), {})]) == ("user", "quoted")


def test_of_many_notes_those_are_read_with_it_that_share_rare_words() -> None:
    notes = {("s", n, n, 0): f"Rule {n} is about the colour of folder number {n}." for n in range(1, 40)}
    notes[PLACE] = ALPHA
    near = related(notes, ["What about the release?"], lambda text: len(text.split()) * 4)
    assert PLACE in near and len(near) < 10


@pytest.mark.slow
def test_the_policy_notes_what_is_not_worded_as_a_rule_and_changes_it() -> None:
    model = HybridModel.from_pretrained(dtype=torch.float32)
    said = "Thanks for the draft. By the way: Interview notes are kept in the red folder."
    first = noted(model, strategy("trained"), [said], {})
    assert first == Notes(("Interview notes are kept in the red folder.",))
    change = "There is a change: Interview notes are kept in the white folder."
    second = noted(model, strategy("trained"), [change], {PLACE: first.kept[0]})
    assert second == Notes(("Interview notes are kept in the white folder.",), (PLACE,))


def test_a_policy_of_another_model_is_refused_by_name() -> None:
    with pytest.raises(ModelUnavailable, match="smollm2-135m"):
        noted(tiny_chat("llama"), strategy("trained"), ["Good morning."], {})
