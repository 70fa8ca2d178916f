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
    Written,
    apply,
    as_text,
    fitting,
    index_of,
    letter,
    parse,
    prompt,
    size,
    write,
)

NOTES = ("Headlines have at most nine words.", "Notes are kept in the red folder.", "Memo opens a reply.")


def words(text: str) -> int:
    return len(text.split())


SAID = [
    "Thanks. By the way: calls are not on a Monday, unless Ada asked for one.",
    "There is a change: every reply is opened with the word Update. The weather is fine.",
]


def read(answer: str, notes=NOTES) -> Written:
    return parse(answer, notes, SAID)


def test_edits_of_every_kind_are_read_and_applied_in_order():
    written = read(f"+ Bills go to Ada.\n- {NOTES[1]}\nLOST: the red folder 90%")
    assert not written.malformed
    assert written.losses == (Loss("the red folder", 0.9),)
    assert [note.text for note in apply(NOTES, written)] == [NOTES[0], NOTES[2], "Bills go to Ada."]


def test_a_note_that_nobody_touches_stays_the_same_note():
    kept = apply(NOTES, read(f"A\n+ Bills go to Ada.\n- {NOTES[1]}"))
    assert kept == (Note(NOTES[0], before=1), Note(NOTES[2], before=3), Note("Bills go to Ada.", under=0))


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
    assert [edit.number for edit in read(f"- {words}").edits] == [number]


def test_a_changed_note_takes_the_place_of_the_old_one():
    written = read("A\n~ Every reply is opened with the word Update.")
    assert [note.text for note in apply(NOTES, written)] == [*NOTES[:2], "Every reply is opened with the word Update."]
    written = read("~ Video calls end after ten minutes.")
    assert [note.text for note in apply(NOTES, written)] == [*NOTES, "Video calls end after ten minutes."]


@pytest.mark.parametrize(
    ("message", "note", "left"),
    [
        ("There is a change: headlines have at most six words.", "Headlines have at most six words.", 3),
        ("Headlines have at most six words.", "Headlines have at most six words.", 4),
        ("There is a change: headlines are never questions.", "Headlines are never questions.", 4),
        ("New since this week: the white folder is for drafts.", "The white folder is for drafts.", 4),
    ],
)
def test_a_new_note_takes_the_place_of_one_about_the_same_where_a_change_is_spoken_of(message, note, left):
    written = parse(f"A\n+ {note}", NOTES, [message])
    assert len(apply(NOTES, written)) == left


def test_of_two_equal_notes_one_goes():
    twice = (NOTES[0], NOTES[0])
    assert len(apply(twice, read(f"- {NOTES[0]}", twice))) == 1


@pytest.mark.parametrize(
    ("line", "noted"),
    [
        ("A\n+ Calls are not on a Sunday, unless Ada", "Calls are not on a Monday, unless Ada asked for one."),
        ("A\n+ Calls are not on a Monday", "Calls are not on a Monday, unless Ada asked for one."),
        ("+ Calls are not on a Monday, unless Ada", "Calls are not on a Monday, unless Ada asked for one."),
        ("B\n~ Every reply is opened with Update.", "Every reply is opened with the word Update."),
        ("A\n+ No phoning at the start of the week.", "No phoning at the start of the week."),
        ("B\n+ Calls are not on a Monday.", "Calls are not on a Monday."),
        ("F\n+ Calls are not on a Monday.", "Calls are not on a Monday, unless Ada asked for one."),
    ],
)
def test_a_note_that_was_meant_to_be_a_sentence_becomes_it(line, noted):
    assert apply((), read(line, ()))[0].text == noted


@pytest.mark.parametrize("letter", ["B\n", "F\n", ""])
def test_one_that_is_copied_is_of_the_message_that_holds_it_whatever_the_letter(letter):
    whole = apply((), read(f"{letter}+ Calls are not on a Monday, unless Ada asked for one.", ()))[0]
    assert (whole.text, whole.under) == ("Calls are not on a Monday, unless Ada asked for one.", 0)


@pytest.mark.parametrize(
    ("answer", "left"),
    [
        ("A\n+ Calls are not on a Monday.\nB\n~ Calls are not on a Friday.", ["Calls are not on a Friday."]),
        ("A\n+ Calls are not on a Monday.\nB\n- calls on a Monday", []),
        ("A\n+ Calls are not on a Monday.\n+ Bills go to Ada.\n- calls on a Monday", ["Bills go to Ada."]),
        ("A\n+ Calls are not on a Monday.\nB\n~ Bills go to Ada.", ["Calls are not on a Monday.", "Bills go to Ada."]),
    ],
)
def test_an_edit_may_be_of_a_note_that_the_same_answer_added(answer, left):
    written = parse(answer, (), ["Calls are not on a Monday.", "Now something else."])
    assert [note.text for note in apply((), written)] == left and not written.malformed


@pytest.mark.parametrize(
    ("answer", "said", "left"),
    [
        ("A", ["We drop the rule about the red folder for notes, nothing takes its place."], [NOTES[0], NOTES[2]]),
        ("A\n- the red folder", ["The rule about the red folder for notes is off."], [NOTES[0], NOTES[2]]),
        (
            "A\n~ Ada waters the ferns.",  # a change of no note takes out none
            ["The rule about the red folder for notes is off. Ada waters the ferns."],
            [NOTES[0], NOTES[2], "Ada waters the ferns."],
        ),
        ("A", ["Did you forget the rule about the red folder for notes?"], list(NOTES)),
        ("A", ["We drop the rule about parking."], list(NOTES)),
        ("A\n+ Bills go to Ada.\nB", ["Bills go to Ada.", "The rule that bills go to Ada is over."], list(NOTES)),
    ],
)
def test_what_is_taken_back_in_so_many_words_goes_though_the_policy_passes_by(answer, said, left):
    assert [note.text for note in apply(NOTES, parse(answer, NOTES, said))] == left


def test_what_leads_up_to_a_list_and_a_letter_are_no_notes():
    said = ["House rules of the club:\n- Lane four is for the over-sixties."]
    written = parse("A\n+ House rules of the club:\n+ Lane four is for the over-sixties.\n+ B", (), said)
    assert [edit.text for edit in written.edits] == ["Lane four is for the over-sixties."]
    assert written.malformed == ("+ B",)
    banned = parse("A\n+ Never use these words:\n+ utilize", (), ["Never use these words:\n- utilize"])
    assert [edit.text for edit in banned.edits] == ["Never use these words:", "utilize"], "without it they say nothing"


@pytest.mark.parametrize(
    ("answer", "left"),
    [
        ("A\n~ About the word that opens a reply: that rule is off.", NOTES[:2]),
        ("A\n+ About the word that opens a reply: that rule is off.", NOTES[:2]),
        (
            "B\n+ Forget what I said about notes and the red folder.",
            (NOTES[0], NOTES[2], "Keep notes in the white folder."),
        ),
        ("C\n+ We drop the rule about the garden gate.", NOTES),
        ("D\n+ A call is over after ten minutes.", (*NOTES, "A call is over after ten minutes.")),
    ],
)
def test_a_sentence_that_only_takes_a_rule_back_is_no_note(answer, left):
    said = [
        "About the word that opens a reply: that rule is off. How are you?",
        "Forget what I said about notes and the red folder. Keep notes in the white folder. It rains.",
        "We drop the rule about the garden gate. It rains.",
        "A call is over after ten minutes.",
    ]
    alone = [text if letter(index) == answer[0] else "It rains." for index, text in enumerate(said)]
    assert tuple(note.text for note in apply(NOTES, parse(answer, NOTES, alone))) == left


def test_a_note_knows_how_sure_the_policy_was_of_its_line():
    written = parse("A\n+ Bills go to Ada.\n+ Tea at four.", NOTES, SAID, {"+ Bills go to Ada.": 0.4})
    assert [note.sure for note in apply((), written)] == [0.4, 1.0]


def test_no_change_changes_nothing():
    assert [note.text for note in apply(NOTES, read(NO_CHANGE))] == list(NOTES)


@pytest.mark.parametrize(
    "answer",
    ["", "  \n", "I see.", "LOST: it", "+", "-", "No change.\n+ x"],
)
def test_what_is_no_edit_is_malformed_and_changes_nothing_by_itself(answer):
    assert read(answer).malformed


def test_the_same_note_is_not_added_twice():
    again = read(f"+ {NOTES[0]}\n+ {NOTES[0].upper()}")
    assert [note.text for note in apply(NOTES, again)] == list(NOTES)


line = st.text(st.characters(codec="ascii", categories=("L", "N", "P")), min_size=1, max_size=12)
sentence = st.lists(line, min_size=2, max_size=6).map(" ".join).filter(lambda text: not text.endswith(":"))
under = st.sampled_from([None, 0, 2, 3])  # message 1 speaks of a change, so that notes take the place of others
adds = st.lists(st.builds(lambda text, at: Edit("add", text, at), sentence, under), max_size=4)
drops = st.dictionaries(st.integers(1, 3), under, max_size=3).map(
    lambda chosen: [Edit("drop", NOTES[number - 1], at, number) for number, at in chosen.items()]
)
losses = st.lists(st.builds(Loss, sentence, st.integers(0, 100).map(lambda p: p / 100)), max_size=2)


@given(adds, drops, losses)
def test_reading_is_the_inverse_of_writing(added, dropped, lost):
    chosen = sorted([*added, *dropped], key=lambda edit: -1 if edit.under is None else edit.under)
    written = read(write(chosen, lost, messages=4))
    assert (list(written.edits), list(written.losses), written.malformed) == (chosen, lost, ())


def test_the_prompt_names_room_notes_and_messages():
    messages = prompt(NOTES[:1], SAID, 40, words)
    assert [message["role"] for message in messages] == ["system", "user"]
    text = messages[1]["content"]
    assert text.startswith("Notes (7 of 40 tokens):\n- Headlines have at most nine words.\n\nNew messages:\nA: Thanks.")
    assert "unless Ada asked for one.\nB: There is a change: every reply" in text
    assert "(none)" in prompt((), SAID, 40, words)[1]["content"]


@pytest.mark.parametrize(("index", "letters"), [(0, "A"), (25, "Z"), (26, "AA"), (27, "AB"), (701, "ZZ")])
def test_messages_have_letters(index, letters):
    assert (letter(index), index_of(letters)) == (letters, index)


def test_an_edit_knows_the_message_it_comes_of():
    written = read(f"- {NOTES[0]}\nA\nB\n+ Bills go to Ada.\n- {NOTES[1]}\nC")
    assert not written.malformed
    assert [(edit.kind, edit.under) for edit in written.edits] == [("drop", None), ("add", 1), ("drop", 1)]


def test_of_notes_that_do_not_fit_as_many_are_kept_as_can_be():
    long = "A note that goes on and on, for longer than two of the others together, and then some more."
    notes = [Note(text) for text in (long, *NOTES)]
    kept, left = fitting(notes, size(NOTES, words), words)
    assert [note.text for note in kept] == list(NOTES)
    assert left == (Loss(long, 1.0),)
    assert fitting(notes, 1, words)[0] == ()
    assert fitting(notes, 99, words) == (tuple(notes), ())


def test_notes_in_a_context_are_lines_with_bullets():
    assert as_text(NOTES[:2]) == "- Headlines have at most nine words.\n- Notes are kept in the red folder."
