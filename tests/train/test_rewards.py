"""The reward cannot be had cheaply: every known way to game it scores below an honest answer, most below nothing."""

from __future__ import annotations

import dataclasses

import pytest
from conversations import small_episodes, words

from memkv.compaction.notes import NO_CHANGE, as_text
from train.data import follow
from train.rewards import Reward, Terms, declared
from train.states import State, oracle

REWARD = Reward(words)


@pytest.fixture(scope="module")
def state() -> State:
    """A compaction with several rules in reach, some of them in the notes already."""
    found = [
        state
        for one in small_episodes()
        for state, _ in follow(one, oracle, words, "oracle")
        if state.notes and any(t.reachable and t.wording in message for t in state.targets for message in state.said)
    ]
    best = max(found, key=lambda state: sum(target.reachable for target in state.targets))
    return dataclasses.replace(best, room=200)


def new(state: State) -> list[str]:
    """What the messages say that the notes do not."""
    return [t.wording for t in state.targets if t.reachable and not any(t.wording in note for note in state.notes)]


def honest(state: State) -> float:
    return REWARD.total(state, oracle(state))


def test_the_oracle_gets_every_term(state):
    assert REWARD.terms(state, oracle(state)) == Terms(
        gate=1, survival=1, behaviour=0, calibration=1, false_rules=0, stale_rules=0, padding=0, overflow=0
    )


def test_an_empty_answer(state):
    assert REWARD.total(state, "") <= 0


def test_no_change_where_there_was_one(state):
    assert REWARD.total(state, NO_CHANGE) < honest(state)


def test_notes_thrown_away(state):
    answer = "\n".join(f"- {note}" for note in state.notes)
    assert REWARD.total(state, answer) < REWARD.total(state, NO_CHANGE)


def test_copying_everything(state):
    lines = [line for message in state.said for line in message.splitlines() if line.strip()]
    assert REWARD.total(state, "\n".join(f"+ {line}" for line in lines)) < 0.8 * honest(state)


def test_listing_every_value(state):
    target = next(t for t in state.targets if t.wording in new(state))
    said = target.rule.statement
    every = [target.wording.replace(said.value, value) for value in (said.value, *said.others)]
    copied = oracle(state).replace(f"+ {target.wording}", "\n".join(f"+ {text}" for text in every))
    assert REWARD.total(state, copied) <= honest(state), "they are all the one sentence that was said"
    values = f"About {target.rule.topic} we say: {', '.join((said.value, *said.others))}."
    kept = oracle(state).replace(target.wording, values)
    assert REWARD.terms(state, kept).survival < 1
    assert REWARD.total(state, kept) < honest(state)


def test_hedging(state):
    target = next(t for t in state.targets if t.wording in new(state))
    said = target.rule.statement
    hedged = target.wording.replace(said.value, f"{said.value} or perhaps {said.others[0]}")
    assert REWARD.total(state, oracle(state).replace(target.wording, hedged)) <= honest(state)
    hedged = f"It may be that {hedged[:1].lower()}{hedged[1:-1]}, but who knows what they think of it in May."
    assert REWARD.total(state, oracle(state).replace(target.wording, hedged)) < honest(state)


def test_the_same_rule_again_in_other_words(state):
    text = new(state)[0]
    again = f"{oracle(state)}\n+ Remember: {text}\n+ And once more, {text}"
    assert REWARD.terms(state, again).padding > 0
    assert REWARD.total(state, again) < honest(state)


def test_declaring_everything_lost(state):
    lost = "\n".join(f"LOST: {target.rule.topic} 100%" for target in state.targets)
    everything = f"{oracle(state)}\n{lost}"
    assert REWARD.terms(state, everything).calibration < 0.2
    assert REWARD.total(state, everything) < honest(state)


def test_one_declaration_about_everything_is_about_nothing(state):
    topic = " ".join(target.rule.topic for target in state.targets)
    losses = state.after(f"LOST: {topic} 100%", words)[0].losses
    assert all(declared(losses, target) == 0 for target in state.targets)


def test_a_rule_that_was_never_said(state):
    never = next(target for target in state.targets if target.rule.id.startswith("n"))
    answer = f"{oracle(state)}\n+ {never.rule.text}"
    assert REWARD.terms(state, answer).false_rules > 0
    assert REWARD.total(state, answer) < honest(state)


def test_prose_about_the_rules(state):
    assert REWARD.total(state, "I have noted all the rules of our conversation and will keep to them.") <= 0


def test_more_than_there_is_room_for_is_cut_before_it_is_read(state):
    tight = dataclasses.replace(state, room=30)
    lines = [line for message in state.said for line in message.splitlines() if line.strip()]
    copied = "\n".join(f"+ {line}" for line in lines)
    assert REWARD.terms(tight, copied).overflow > 0
    assert words(as_text([note.text for note in tight.after(copied, words)[2]])) <= 30
    assert REWARD.total(tight, copied) < REWARD.total(tight, oracle(tight))


def test_rules_that_do_not_fit_are_nobodys_fault(state):
    terms = REWARD.terms(dataclasses.replace(state, room=30), oracle(state))
    assert terms.overflow == 0 and 0 < terms.survival < 1
    assert terms.calibration > 0.9, "the allocator says what it left out"


def test_an_old_value_costs(state):
    changed = [
        state
        for one in small_episodes()
        for state, _ in follow(one, oracle, words, "oracle")
        if any(t.rule.old_value is not None and t.wording and t.reachable for t in state.targets)
    ]
    stale = [REWARD.terms(state, NO_CHANGE).stale_rules for state in changed]
    assert max(stale) > 0
