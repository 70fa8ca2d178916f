"""Drills: single messages among which the ones that change a rule are half, with the note that goes in any place."""

from __future__ import annotations

import random

from conversations import small_episodes, words

from eval.scorers import text_survival
from memkv.compaction.notes import as_text
from train.data import oracle_rows
from train.drill import drills, messages_of, mixed


def rows():
    return list(drills(small_episodes(), words, 0))


def test_half_of_the_messages_change_something():
    changes = sum(len(messages_of(one)[0]) for one in small_episodes())
    found = rows()
    assert changes > 0
    assert len(found) <= 2 * changes
    takes_out = [any(edit.kind == "drop" for edit in state.after(answer, words)[0].edits) for state, answer in found]
    assert 0.3 < sum(takes_out) / len(found) < 0.7


def test_one_message_is_read_and_its_answer_is_right():
    for state, answer in rows():
        assert [turn.role for turn in state.turns].count("user") == 1
        written, _, kept = state.after(answer, words)
        assert not written.malformed
        verdicts = text_survival(as_text([note.text for note in kept]), [t.rule for t in state.targets]).verdicts
        for target in state.targets:
            if target.reachable:
                assert verdicts[target.rule.id].verdict == "right"
            elif not target.wording:
                assert verdicts[target.rule.id].verdict == "absent"


def test_the_note_that_goes_stands_anywhere():
    places = {
        edit.number / len(state.notes)
        for state, answer in rows()
        for edit in state.after(answer, words)[0].edits
        if edit.kind == "drop"
    }
    assert min(places) < 0.5 < max(places)


def test_notes_in_another_order_leave_the_answer_right():
    made = [row for row in oracle_rows(small_episodes(), words) if "\n- " in row[1]]
    again = list(mixed(made, random.Random(1)))
    assert any(state.notes != before.notes for (state, _), (before, _) in zip(again, made, strict=True))
    for (state, answer), (before, _) in zip(again, made, strict=True):
        kept = {note.text for note in state.after(answer, words)[1]}
        assert kept == {note.text for note in before.after(answer, words)[1]}
