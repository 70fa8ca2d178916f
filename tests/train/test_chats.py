"""Chats that no generator made become rows in which the right answer leaves the right notes."""

from __future__ import annotations

import pytest

from memkv.errors import ConfigError, InvalidInput
from train.chats import HELD_OUT, SEALED, Said, chat_rows, chats_of, read_chats
from train.wild import Tally, tally

CHAT = """
- chat: a caterer
  messages:
    - said: "We never serve shellfish. What could I make in May?"
      keep: ["We never serve shellfish."]
    - said: "Portions are 300 grams."
      keep: ["Portions are 300 grams."]
    - said: "Portions are 280 grams now. Thanks!"
      keep: ["Portions are 280 grams now."]
      over: ["Portions are 300 grams."]
    - said: "Forget about the shellfish."
      keep: []
      over: ["We never serve shellfish."]
"""


def words(text: str) -> int:
    return len(text.split())


def test_answers_leave_what_holds(tmp_path):
    (tmp_path / "01.yaml").write_text(CHAT)
    for state, answer in chat_rows(chats_of(tmp_path / "01.yaml"), 8, 0):
        left = [note.text for note in state.after(answer, words)[2]]
        if "Forget about the shellfish." in state.said and state.notes:
            assert left == ["Portions are 280 grams now."]


def test_files_are_chosen_by_name():
    assert read_chats(["01"]) == chats_of(HELD_OUT.with_name("01.yaml"))
    for name in ("held_out", "held_out_2", "1"):
        with pytest.raises(ConfigError, match=f"no chats '{name}'"):
            read_chats([name])


def test_what_was_never_said_is_named(tmp_path):
    (tmp_path / "01.yaml").write_text(
        CHAT.replace('over: ["Portions are 300 grams."]', 'over: ["Portions are 310 grams."]')
    )
    with pytest.raises(InvalidInput, match="310 grams"):
        chats_of(tmp_path / "01.yaml")
    (tmp_path / "01.yaml").write_text("- said: 3")
    with pytest.raises(InvalidInput, match=r"01\.yaml is no list of chats"):
        chats_of(tmp_path / "01.yaml")


@pytest.mark.parametrize("file", [HELD_OUT, SEALED])
def test_what_is_held_out_shares_no_sentence_with_what_is_learned(file):
    learned = {text for chat in read_chats() for message in chat for text in (message.said, *message.keep)}
    held_out = {text for chat in chats_of(file) for message in chat for text in (message.said, *message.keep)}
    assert len(learned) > 1000 and len(held_out) > 100
    assert not learned & held_out


def test_notes_are_counted_as_what_they_are():
    example = Said("Invoices go out on Mondays. It rains.", ("Invoices go out on Mondays.",))
    assert tally(["Invoices go out on Mondays."], example) == Tally(1, 1, 0)
    assert tally(["It rains."], example) == Tally(1, 0, 1)
    assert tally([], example) + tally(["It rains."], example) == Tally(2, 0, 1)
