"""Where notes stand in a context: behind the messages that were kept beside them, where the template lets them."""

from __future__ import annotations

import pytest
from tiny_chat import tiny_chat

from memkv import HybridModel
from memkv.compaction import Item, to_messages

HELD = [
    Item(1, "system", "", "Be brief."),
    Item(4, "message", "user", "Hello."),
    Item(5, "message", "assistant", "Good day."),
    Item(2, "summary", "", "- Memo opens a reply."),
    Item(3, "summary", "", "- No calls."),
    Item(6, "message", "user", "And now?"),
]
NOTES = "Summary of the earlier conversation:\n- Memo opens a reply.\n- No calls."


@pytest.fixture
def model() -> HybridModel:
    return tiny_chat("llama")


def test_notes_stay_behind_what_was_said_before_them(model):
    said = [(message["role"], message["content"]) for message in to_messages(model, HELD)]
    assert said == [
        ("system", "Be brief."),
        ("user", "Hello."),
        ("assistant", "Good day."),
        ("system", NOTES),
        ("user", "And now?"),
    ]
    assert to_messages(model, HELD[:5])[-1] == {"role": "system", "content": NOTES}


def test_notes_without_messages_before_them_are_instructions(model):
    said = to_messages(model, [HELD[0], *HELD[3:]])
    assert [message["role"] for message in said] == ["system", "user"]
    assert said[0]["content"] == f"Be brief.\n\n{NOTES}"


def test_where_a_template_knows_no_system_message_between_turns_notes_come_first(model, monkeypatch):
    monkeypatch.setitem(model.chat.__dict__, "takes_late_system", False)
    said = to_messages(model, HELD)
    assert [message["role"] for message in said] == ["system", "user", "assistant", "user"]
    assert said[0]["content"] == f"Be brief.\n\n{NOTES}"


def test_the_text_of_a_context_with_notes_behind_only_grows(model):
    chat = model.chat
    before = chat.stable(to_messages(model, HELD[:5]))
    assert before and chat.render(to_messages(model, HELD), open_reply=True).startswith(before)


def test_a_forgotten_message_beside_notes_is_still_replaced(model):
    roles = [message["role"] for message in to_messages(model, [HELD[1], HELD[3], HELD[5]])]
    assert roles == ["user", "system", "assistant", "user"]
