"""Plain talk: rules alone in a message, several in a line, and the same rules in force as before."""

from __future__ import annotations

import dataclasses

from conversations import SMALL, small_episodes

from eval.prose.sentences import split
from train.data import Episode, episodes
from train.states import claims

PLAIN = dataclasses.replace(SMALL, plain=1.0)
LISTS = dataclasses.replace(PLAIN, seed=7, tokens=(900, 1100), rules=(9, 12))


def in_force(one: Episode) -> set[tuple[str, str]]:
    return {(each.rule.id, each.rule.statement.value) for each in one.standings[-1] if each.wording}


def test_the_same_rules_are_in_force():
    plain = episodes(PLAIN)
    assert [in_force(one) for one in plain] == [in_force(one) for one in small_episodes()]
    assert plain != list(small_episodes())


def test_many_messages_are_nothing_but_rules_and_some_hold_several():
    bare, several = 0, 0
    for one in [*episodes(PLAIN), *episodes(LISTS)]:
        for message in (message for window in one.windows for message in window):
            stating = [bool(claims(sentence, one.scenario.rules)) for sentence in split(message)]
            bare += all(stating)
            several += sum(stating) > 1 and "\n" not in message
    assert bare >= 5 and several >= 1


def test_without_a_share_nothing_is_plain():
    assert episodes(dataclasses.replace(SMALL, plain=0.0)) == list(small_episodes())
