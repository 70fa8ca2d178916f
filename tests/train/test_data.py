"""Episodes: train families only, nothing of the questions, and an oracle that the metric itself calls right."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import pytest
from conversations import SMALL, small_episodes, words

from eval.generate import Config as Conversation
from eval.generate import scenarios
from eval.making.family import families
from eval.scenarios import write_scenarios
from eval.scorers import text_survival
from memkv.compaction.notes import NO_CHANGE, as_text, parse, size
from memkv.errors import ConfigError
from train.data import Config, Episode, episodes, follow, held_out, oracle_rows, thinned
from train.overlap import shared
from train.rewards import declared
from train.states import from_line, oracle, to_line
from train.truth import Standing

DOMAINS = ("editorial", "planning", "customer", "coding")


def test_only_train_families_are_in_episodes():
    train = {family.id for domain in DOMAINS for family in families(domain, "train")}
    assert {rule.family for one in small_episodes() for rule in one.scenario.rules} <= train


def test_another_split_is_refused(tmp_path):
    file = tmp_path / "test.jsonl"
    write_scenarios(file, scenarios("test", 2, 0, Conversation(tokens=300, rules=3, rounds=1)))
    with pytest.raises(ConfigError, match="'test' cannot be trained on"):
        episodes(dataclasses.replace(SMALL, scenarios=str(file)))


def test_own_scenarios_can_be_trained_on(tmp_path):
    file = tmp_path / "own.jsonl"
    made = [dataclasses.replace(one, split="own") for one in scenarios("train", 2, 0, Conversation(300, 1, 3))]
    write_scenarios(file, made)
    assert [one.scenario.id for one in episodes(dataclasses.replace(SMALL, scenarios=str(file)))] == [
        one.id for one in made
    ]


def test_episodes_depend_on_their_seed_alone():
    again = episodes(dataclasses.replace(SMALL, episodes=2))
    assert again == list(small_episodes()[:2])


def test_windows_are_all_that_the_user_says():
    for one in small_episodes():
        read = [message for window in one.windows for message in window]
        said = [turn.text for turn in one.scenario.turns if turn.role == "user"]
        assert " ".join(read).split() == " ".join(said).split()


def test_the_oracle_keeps_every_rule_that_there_is_room_for():
    for state, answer in oracle_rows(small_episodes(), words):
        written, whole, kept = state.after(answer, words)
        assert not written.malformed
        assert size([note.text for note in kept], words) <= state.room
        assert len(written.losses) == len(whole) - len(kept), "what is left out for want of room is declared"
        found = text_survival(as_text([note.text for note in kept]), [target.rule for target in state.targets])
        for target in state.targets:
            verdict = found.verdicts[target.rule.id].verdict
            if target.reachable and not declared(written.losses, target):
                assert verdict == "right", (state.id, target.wording)
            if not target.wording:
                assert verdict == "absent", (state.id, target.rule.text)


def test_the_oracle_follows_amendments_and_revocations():
    kinds = {
        edit.kind
        for state, answer in oracle_rows(small_episodes(), words)
        for edit in state.after(answer, words)[0].edits
    }
    assert kinds == {"add", "change", "drop"}


def saying(one: Episode) -> tuple[int, Standing]:
    """A window and a rule that it says for the first time."""
    return next(
        (fold, standing)
        for fold, standings in enumerate(one.standings)
        for standing, place in zip(standings, one.places[fold], strict=True)
        if standing.wording and place is not None
    )


def test_the_oracle_repairs_notes_that_the_messages_show_to_be_wrong():
    fold, standing = saying(small_episodes()[0])
    wrong = standing.wording.replace(standing.rule.statement.value, standing.rule.statement.others[0])
    state = small_episodes()[0].state(fold, [wrong, "The weather was fine."], "wrong")
    notes = [note.text for note in state.after(oracle(state), words)[2]]
    assert standing.wording in notes and wrong not in notes and "The weather was fine." not in notes


def test_the_oracle_knows_no_more_than_it_reads():
    one = max(small_episodes(), key=lambda one: len(one.windows))
    fold, standing = saying(one)
    wrong = standing.wording.replace(standing.rule.statement.value, standing.rule.statement.others[0])
    later = next(
        number
        for number in range(fold + 1, len(one.windows))
        if all(
            place is None
            for now, place in zip(one.standings[number], one.places[number], strict=True)
            if now.rule.id == standing.rule.id
        )
    )
    state = one.state(later, [wrong], "wrong")
    assert wrong in [note.text for note in state.after(oracle(state), words)[2]]


def test_what_is_said_twice_is_noted_once():
    one = small_episodes()[0]
    fold, standing = saying(one)
    state = one.state(fold, [standing.wording, f"Remember: {standing.wording}"], "twice")
    notes = [note.text for note in state.after(oracle(state), words)[2]]
    assert [note for note in notes if standing.wording in note] == [standing.wording]


def test_every_edit_of_the_oracle_stands_under_the_message_that_says_it():
    for state, answer in oracle_rows(small_episodes(), words):
        for edit in state.after(answer, words)[0].edits:
            if edit.kind != "drop":
                assert edit.text[1:] in state.said[edit.under]


def test_questions_are_never_in_what_the_policy_reads():
    for one in small_episodes():
        for state, _ in follow(one, lambda state: NO_CHANGE, words, "idle"):
            text = state.prompt(words)[1]["content"]
            assert not any(probe.question.split("] ")[1] in text for probe in state.probes)


def test_what_was_said_is_reachable_until_it_was_dropped():
    one = max(small_episodes(), key=lambda one: len(one.windows))
    idle = [state for state, _ in follow(one, lambda state: NO_CHANGE, words, "idle")]
    for before, after in pairwise(idle):
        said_before = {target.rule.id for target in before.targets if target.wording}
        again = {t.rule.id for t in after.targets if t.wording and t.rule.id in said_before and t.reachable}
        changed = {
            t.rule.id
            for t, old in zip(after.targets, before.targets, strict=True)
            if t.wording and t.wording != old.wording
        }
        assert again <= changed, "what idle notes lost is not the next compaction's fault"


def test_states_survive_their_file():
    state = next(iter(oracle_rows(small_episodes(), words)))[0]
    assert from_line(to_line(state)) == state
    with pytest.raises(ConfigError, match="unknown field"):
        from_line(to_line(state).replace('"room"', '"rooom"', 1))


def test_quiet_windows_are_thinned():
    rows = [
        (state, NO_CHANGE if i % 4 else answer)
        for i, (state, answer) in enumerate(oracle_rows(small_episodes(), words))
    ]

    def busy(rows) -> int:
        return sum(bool(parse(answer, state.notes, state.said).edits) for state, answer in rows)

    kept = thinned(rows, 0.2, 0)
    assert busy(kept) == busy(rows) > 0
    assert len(kept) - busy(kept) == round(busy(rows) / 4)


@pytest.mark.parametrize("split", ["train", "practice"])
def test_what_is_learned_and_what_is_measured_share_no_rule_in_words(split):
    assert shared(split, "test", 6) == set()
    assert shared(split, "dev", 6) == set()


def test_the_families_to_practise_on_are_others_than_those_to_imitate():
    both = episodes(dataclasses.replace(SMALL, episodes=16), splits=("train", "practice"))
    seen = {
        split: {rule.family for one in both if one.scenario.split == split for rule in one.scenario.rules}
        for split in ("train", "practice")
    }
    assert seen["train"] and seen["practice"] and not seen["train"] & seen["practice"]


def test_what_slips_into_the_notes_is_taken_out_by_the_oracle():
    found = small_episodes()
    clean, spoiled = list(oracle_rows(found, words)), list(oracle_rows(found, words, stray=1.0))
    assert len(clean) == len(spoiled)

    def drops(rows):
        return sum(any(line.startswith("- ") for line in answer.splitlines()) for _, answer in rows)

    assert drops(spoiled) > drops(clean) + len(spoiled) / 4
    for state, answer in spoiled:
        kept = [note.text for note in state.after(answer, words)[2]]
        verdicts = text_survival(as_text(kept), [target.rule for target in state.targets]).verdicts
        assert not any(verdicts[target.rule.id].verdict == "right" for target in state.targets if not target.wording)


def test_the_note_that_a_change_is_about_is_found_in_families_never_trained_on():
    changes = missed = 0
    for state, answer in oracle_rows(held_out(Config(tokens=(900, 1500), rules=(6, 10)), 12), words):
        kept = as_text([note.text for note in state.after(answer, words)[2]])
        rules = [target.rule for target in state.targets if target.place is not None]
        verdicts = text_survival(kept, rules).verdicts
        notes_say = text_survival(as_text(state.notes), rules).verdicts
        for rule in rules:
            if notes_say[rule.id].verdict != "absent":
                changes += 1
                missed += verdicts[rule.id].verdict not in ("right", "absent")
    assert changes > 20
    assert missed <= 0.02 * changes
