"""Conversations in portions, and sentences as notes quote them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memkv.compaction.rules import find_rules, unwrapped
from memkv.compaction.windows import Piece, quoted, sentences, windows
from memkv.turns import Message


def words(text: str) -> int:
    return len(text.split())


def said(*texts: str) -> list[Message]:
    return [Message(role="user" if i % 2 == 0 else "assistant", content=text) for i, text in enumerate(texts)]


def test_a_line_or_a_full_stop_ends_a_sentence():
    text = "Hello. Keep 5.5 mm free.\n\n- Never on Monday!\nOur rules: 1. Call Ada. 2. Use 12. Then go."
    assert sentences(text) == [
        "Hello.", "Keep 5.5 mm free.", "- Never on Monday!", "Our rules:", "Call Ada.", "Use 12.", "Then go."
    ]  # fmt: skip


def test_lines_that_were_broken_for_their_width_are_one_sentence():
    mail = """Notes from the meeting. The harbour series is ready apart from the map, which
the graphics desk wants to redraw. For the second part I spoke with three of
Ines' pilots; names of pilots are never printed, whoever asks for them, until
2027. Thanks,
Ada"""
    assert sentences(mail)[1:] == [
        "The harbour series is ready apart from the map, which the graphics desk wants to redraw.",
        "For the second part I spoke with three of Ines' pilots; names of pilots are never printed, whoever asks for "
        "them, until 2027.",
        "Thanks,",
        "Ada",
    ]
    assert find_rules(mail)[-1].startswith("For the second part")


@pytest.mark.parametrize(
    "after",
    ["- never on Monday", "2. never on Monday", "> never on Monday", "", "Never on Monday", "a) never on Monday"],
)
def test_entries_quotations_and_new_sentences_are_not_put_behind_a_long_line(after: str):
    text = f"The desk that looks after the calendar wants to be told before a call is made\n{after}"
    assert unwrapped(text) == text


@pytest.mark.parametrize(
    ("sentence", "note"),
    [
        ("Calls are not on Monday.", "Calls are not on Monday."),
        ("By the way: calls are not on Monday.", "Calls are not on Monday."),
        ("[Saturday, 21 February 2026] One more thing: no calls.", "No calls."),
        ("> - No calls.", "No calls."),
        ("3. No calls.", "No calls."),
        ("Deadline for drafts: Friday at noon.", "Deadline for drafts: Friday at noon."),
        ("Style: British English.", "Style: British English."),
        ("We open at 9: 15 people come.", "We open at 9: 15 people come."),
        ("> ", "> "),
    ],
)
def test_a_note_says_what_the_sentence_says_and_no_more(sentence, note):
    assert quoted(sentence) == note


def test_what_the_user_says_is_read_and_nothing_else():
    found = windows(said("Keep it short.", "Certainly! " * 50, "Call Ada."), 99, words)
    assert found == [[Piece(0, "Keep it short."), Piece(2, "Call Ada.")]]
    assert windows([Message(role="assistant", content="Hello.")], 99, words) == []


@given(st.lists(st.integers(1, 60), min_size=1, max_size=8), st.integers(5, 40))
def test_windows_hold_every_word_in_order_and_stay_near_their_size(lengths, most):
    texts = [" ".join(f"w{i}x{j}" for j in range(n)) for i, n in enumerate(lengths)]
    turns = [Message(role="user", content=text) for text in texts]
    found = windows(turns, most, words)
    assert " ".join(piece.text for window in found for piece in window).split() == [
        word for turn in turns for word in turn["content"].split()
    ]
    assert all(sum(words(piece.text) for piece in window) <= most for window in found)


def test_a_long_page_is_cut_at_its_lines_first():
    page = "\n".join(f"Line {number} of the page." for number in range(6))
    pieces = [piece.text for window in windows(said(page), 12, words) for piece in window]
    assert all(piece.startswith("Line") and piece.endswith("page.") for piece in pieces)
