"""What a question touches of the text that left the context."""

from __future__ import annotations

from memkv.recall.lost import Gone, touched

FOLDERS = "We moved desks. Interview notes are kept in the red folder. It rained all day."
HEADLINES = "Headlines have at most nine words."


def words(text: str) -> int:
    return len(text.split())


def found(question: str, *gone: Gone, room: int = 100) -> list[int]:
    return [stretch.n for stretch in touched(question, gone, room, words)]


def test_the_sentence_comes_back_with_what_stands_around_it():
    stretch = touched("In which folder are interview notes kept?", [Gone(3, FOLDERS, 1.0)], 100, words)[0]
    assert (stretch.n, stretch.text) == (3, FOLDERS)
    tight = touched("In which folder are interview notes kept?", [Gone(3, FOLDERS, 1.0)], 9, words)[0]
    assert tight.text == "Interview notes are kept in the red folder."


def test_a_question_about_something_else_touches_nothing():
    assert found("What is the weather like in Lisbon?", Gone(1, FOLDERS, 1.0), Gone(2, HEADLINES, 1.0)) == []
    assert found("Hi!", Gone(1, FOLDERS, 1.0)) == []
    assert found("Where are the interview notes kept?") == []


def test_the_best_comes_first_and_other_forms_of_a_word_count():
    assert found("How long may a headline be, in words?", Gone(1, FOLDERS, 1.0), Gone(2, HEADLINES, 1.0)) == [2]


def test_what_is_surely_still_in_the_notes_stays_where_it_is():
    assert found("Where are interview notes kept, which folder?", Gone(1, FOLDERS, 0.0)) == []


def test_what_is_more_likely_lost_comes_first_where_there_is_room_for_one():
    question = "Where are interview notes kept, which folder?"
    assert found(question, Gone(1, FOLDERS, 0.9), Gone(2, FOLDERS, 0.6), room=20) == [1]
    assert found(question, Gone(1, FOLDERS, 0.2), Gone(2, FOLDERS, 0.9)) == [2]


def test_what_was_said_last_stands_nearest_to_the_question():
    question = "Where are interview notes kept, which folder?"
    assert found(question, Gone(5, FOLDERS, 0.8), Gone(2, FOLDERS, 0.9)) == [2, 5]


def test_polite_words_do_not_hide_what_a_question_is_about():
    question = "Could you perhaps quickly remind somebody forgetful where interview notes belong?"
    assert found(question, Gone(1, FOLDERS, 1.0)) == [1]


def test_no_more_than_there_is_room_for():
    question = "Where are interview notes kept, which folder?"
    assert found(question, Gone(1, FOLDERS, 1.0), Gone(2, FOLDERS, 0.9), room=20) == [1]
    assert found(question, Gone(1, FOLDERS, 1.0), room=3) == []
