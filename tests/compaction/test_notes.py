"""What a memory policy reads and writes: edits of notes, their room, windows of messages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memkv.compaction.notes import (
    NO_CHANGE,
    Edit,
    Loss,
    Note,
    apply,
    as_text,
    parse,
    prompt,
    size,
    truncate,
    windows,
    write,
)
from memkv.turns import Message

NOTES = ("Headlines have at most nine words.", "Notes are kept in the red folder.", "Memo opens a reply.")


def words(text: str) -> int:
    return len(text.split())


def said(*texts: str) -> list[Message]:
    return [Message(role="user" if i % 2 == 0 else "assistant", content=text) for i, text in enumerate(texts)]


def test_edits_of_every_kind_are_read_and_applied_in_order():
    written = parse("+ Calls are not on Monday.\n- 2\n3. Update opens a reply.\nLOST: the red folder 90%", 3)
    assert not written.malformed
    assert written.losses == (Loss("the red folder", 0.9),)
    assert [note.text for note in apply(NOTES, written)] == [
        "Headlines have at most nine words.",
        "Update opens a reply.",
        "Calls are not on Monday.",
    ]


def test_a_note_that_nobody_touches_stays_the_same_note():
    kept = apply(NOTES, parse("2. Notes are kept in the blue folder.", 3))
    assert kept[0] == Note(NOTES[0], before=1)
    assert kept[1] == Note("Notes are kept in the blue folder.", before=2, changed=True)


def test_no_change_changes_nothing():
    assert [note.text for note in apply(NOTES, parse(NO_CHANGE, 3))] == list(NOTES)


@pytest.mark.parametrize(
    "answer",
    ["", "   \n", "I have noted it.", "- 4", "4. No such note.", "- 2\n- 2", "LOST: something", "+", "No change.\n+ x"],
)
def test_what_is_no_edit_is_malformed_and_changes_nothing_by_itself(answer):
    assert parse(answer, 3).malformed


def test_the_same_note_is_not_added_twice():
    again = parse(f"+ {NOTES[0]}\n+ {NOTES[0].upper()}", 3)
    assert [note.text for note in apply(NOTES, again)] == list(NOTES)


line = st.text(st.characters(codec="ascii", categories=("L", "N", "P")), min_size=1, max_size=12)
sentence = st.lists(line, min_size=1, max_size=6).map(" ".join)
edits = st.lists(st.one_of(sentence.map(lambda t: Edit("add", None, t))), max_size=4)
numbered = st.dictionaries(st.integers(1, 5), st.one_of(st.none(), sentence), max_size=5).map(
    lambda chosen: [
        Edit("drop", number, "") if text is None else Edit("change", number, text) for number, text in chosen.items()
    ]
)
losses = st.lists(st.builds(Loss, sentence, st.integers(0, 100).map(lambda p: p / 100)), max_size=2)


@given(numbered, edits, losses)
def test_reading_is_the_inverse_of_writing(changed, added, lost):
    chosen = [*changed, *added]
    written = parse(write(chosen, lost), 5)
    assert (list(written.edits), list(written.losses), written.malformed) == (chosen, lost, ())


def test_the_prompt_names_room_and_notes_but_never_more_than_the_messages():
    messages = prompt(NOTES[:1], windows(said("Hello.", "Good day."), 99, words)[0], 40, words)
    assert [message["role"] for message in messages] == ["system", "user"]
    text = messages[1]["content"]
    assert text.startswith("Notes (7 of 40 tokens):\n1. Headlines have at most nine words.")
    assert text.endswith("User: Hello.\nAssistant: Good day.")


def test_what_does_not_fit_is_cut_from_the_end():
    notes = [Note(text) for text in NOTES]
    room = size(NOTES[:2], words)
    assert [note.text for note in truncate(notes, room, words)] == list(NOTES[:2])
    assert truncate(notes, 1, words) == ()


@given(st.lists(st.integers(1, 60), min_size=1, max_size=8), st.integers(5, 40))
def test_windows_hold_every_word_in_order_and_stay_near_their_size(lengths, most):
    turns = said(*[" ".join(f"w{i}x{j}" for j in range(n)) for i, n in enumerate(lengths)])
    found = windows(turns, most, words)
    assert " ".join(piece.text for window in found for piece in window).split() == [
        word for turn in turns for word in turn["content"].split()
    ]
    assert all(sum(words(piece.text) for piece in window) <= most * 5 // 4 for window in found)


def test_an_answer_stays_with_its_question_where_it_nearly_fits():
    turns = said("a " * 10, "b " * 2, "c " * 3)
    assert [len(window) for window in windows(turns, 10, words)] == [2, 1]


def test_a_long_page_is_cut_at_its_lines_first():
    page = "\n".join(f"Line {number} of the page." for number in range(6))
    pieces = [piece.text for window in windows(said(page), 12, words) for piece in window]
    assert all(piece.startswith("Line") and piece.endswith("page.") for piece in pieces)


def test_notes_in_a_context_are_lines_with_bullets():
    assert as_text(NOTES[:2]) == "- Headlines have at most nine words.\n- Notes are kept in the red folder."
