"""A rule that was changed later does not make its memory worth more."""

from __future__ import annotations

from memkv.recall.standing import standing
from memkv.recall.stretch import trust
from memkv.store import Memory

ALPHA, BETA = "Release notes must be filed in the folder Alpha.", "Release notes must be filed in the folder Beta."


def said(n: int, text: str, role: str = "user") -> Memory:
    return Memory("s", n, "message", role, text, float(n), (), {})


def test_a_stretch_that_holds_a_rule_stands() -> None:
    assert standing([[said(1, ALPHA)], [said(2, "The weather was fine.")], [said(3, ALPHA, "assistant")]]) == [1, 0, 0]


def test_what_was_said_anew_later_shadows_it_in_whatever_order_they_come() -> None:
    old, new = [said(1, ALPHA)], [said(5, f"This has changed: {BETA}")]
    assert standing([old, new]) == [-1, 1]
    assert standing([new, old]) == [1, -1]


def test_another_rule_of_the_same_stretch_still_stands() -> None:
    old = [said(1, ALPHA), said(2, "Never send a draft on Friday.")]
    assert standing([old, [said(5, f"This has changed: {BETA}")]]) == [1, 1]


def test_what_was_taken_back_later_stands_no_more() -> None:
    over = [said(5, "We drop the rule about the folder Alpha for release notes, nothing takes its place.")]
    assert standing([[said(1, ALPHA)], over]) == [-1, 0]
    assert standing([[said(1, ALPHA)], [said(5, "Did you forget that the folder Alpha is for release notes?")]]) == [
        1,
        0,
    ]


def test_without_a_word_of_change_both_stand() -> None:
    assert standing([[said(1, ALPHA)], [said(5, BETA)]]) == [1, 1]


def test_nothing_is_no_rule() -> None:
    assert standing([]) == [] and standing([[]]) == [0]


def test_what_is_only_quoted_binds_nobody_and_the_stretch_says_so() -> None:
    passed_on = [said(1, f"They wrote:\n> {ALPHA}\nFunny, is it not?"), said(2, "Indeed.", "assistant")]
    assert standing([passed_on]) == [0]
    assert trust(passed_on) == ("user", "quoted", "assistant")
    assert trust([said(1, ALPHA)]) == ("user",)
