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
    index_of,
    letter,
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
    written = parse(f"+ Calls are not on Monday.\n- {NOTES[1]}\nLOST: the red folder 90%", NOTES)
    assert not written.malformed
    assert written.losses == (Loss("the red folder", 0.9),)
    assert [note.text for note in apply(NOTES, written)] == [NOTES[0], NOTES[2], "Calls are not on Monday."]


def test_a_note_that_nobody_touches_stays_the_same_note():
    kept = apply(NOTES, parse(f"A\n+ Calls are not on Monday.\n- {NOTES[1]}", NOTES))
    assert kept == (Note(NOTES[0], before=1), Note(NOTES[2], before=3), Note("Calls are not on Monday.", under=0))


@pytest.mark.parametrize(
    ("words", "number"),
    [
        (NOTES[1], 2),
        (NOTES[1].upper(), 2),
        ("what opens a reply", 3),
        ("the folder for notes", 2),
        ("Our headlines never have more than eleven words.", 1),
        ("The weather was fine.", None),
    ],
)
def test_the_note_that_is_meant_is_found_by_its_words(words, number):
    assert [edit.number for edit in parse(f"- {words}", NOTES).edits] == [number]


def test_a_changed_note_takes_the_place_of_the_old_one():
    written = parse("A\n~ Every reply is opened with the word Update.", NOTES)
    assert [note.text for note in apply(NOTES, written)] == [*NOTES[:2], "Every reply is opened with the word Update."]
    written = parse("~ Video calls end after ten minutes.", NOTES)
    assert [note.text for note in apply(NOTES, written)] == [*NOTES, "Video calls end after ten minutes."]


def test_of_two_equal_notes_one_goes():
    twice = (NOTES[0], NOTES[0])
    assert len(apply(twice, parse(f"- {NOTES[0]}", twice))) == 1


def test_no_change_changes_nothing():
    assert [note.text for note in apply(NOTES, parse(NO_CHANGE, NOTES))] == list(NOTES)


@pytest.mark.parametrize(
    "answer",
    ["", "  \n", "I see.", "LOST: it", "+", "-", "No change.\n+ x"],
)
def test_what_is_no_edit_is_malformed_and_changes_nothing_by_itself(answer):
    assert parse(answer, NOTES).malformed


def test_the_same_note_is_not_added_twice():
    again = parse(f"+ {NOTES[0]}\n+ {NOTES[0].upper()}", NOTES)
    assert [note.text for note in apply(NOTES, again)] == list(NOTES)


line = st.text(st.characters(codec="ascii", categories=("L", "N", "P")), min_size=1, max_size=12)
sentence = st.lists(line, min_size=1, max_size=6).map(" ".join)
under = st.one_of(st.none(), st.integers(0, 3))
adds = st.lists(st.builds(lambda text, at: Edit("add", text, at), sentence, under), max_size=4)
drops = st.dictionaries(st.integers(1, 3), under, max_size=3).map(
    lambda chosen: [Edit("drop", NOTES[number - 1], at, number) for number, at in chosen.items()]
)
losses = st.lists(st.builds(Loss, sentence, st.integers(0, 100).map(lambda p: p / 100)), max_size=2)


@given(adds, drops, losses)
def test_reading_is_the_inverse_of_writing(added, dropped, lost):
    chosen = sorted([*added, *dropped], key=lambda edit: -1 if edit.under is None else edit.under)
    written = parse(write(chosen, lost, messages=4), NOTES)
    assert (list(written.edits), list(written.losses), written.malformed) == (chosen, lost, ())


def test_the_prompt_names_room_and_notes_but_never_more_than_the_messages():
    messages = prompt(NOTES[:1], windows(said("Hello.", "Good day."), 99, words)[0], 40, words)
    assert [message["role"] for message in messages] == ["system", "user"]
    text = messages[1]["content"]
    assert text.startswith("Notes (7 of 40 tokens):\n- Headlines have at most nine words.")
    assert text.endswith("A: Hello.\nAssistant: Good day.")


def test_the_beginning_of_an_answer_is_read_and_all_of_a_user():
    long = " ".join(f"w{n}" for n in range(40))
    mine, answer = windows(said(long, long), 99, words)[0]
    assert mine.text == long
    assert answer.text.split() == [*long.split()[:12], "..."]


@pytest.mark.parametrize(("index", "letters"), [(0, "A"), (25, "Z"), (26, "AA"), (27, "AB"), (701, "ZZ")])
def test_messages_have_letters(index, letters):
    assert (letter(index), index_of(letters)) == (letters, index)


def test_an_edit_knows_the_message_it_comes_of():
    written = parse(f"- {NOTES[0]}\nA\nB\n+ Calls are not on Monday.\n- {NOTES[1]}\nC", NOTES)
    assert not written.malformed
    assert [(edit.kind, edit.under) for edit in written.edits] == [("drop", None), ("add", 1), ("drop", 1)]


def test_what_does_not_fit_is_cut_from_the_end():
    notes = [Note(text) for text in NOTES]
    room = size(NOTES[:2], words)
    assert [note.text for note in truncate(notes, room, words)] == list(NOTES[:2])
    assert truncate(notes, 1, words) == ()


@given(st.lists(st.integers(1, 60), min_size=1, max_size=8), st.integers(5, 40))
def test_windows_hold_every_word_in_order_and_stay_near_their_size(lengths, most):
    texts = [" ".join(f"w{i}x{j}" for j in range(n)) for i, n in enumerate(lengths)]
    turns = [Message(role="user", content=text) for text in texts]
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
