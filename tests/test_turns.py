from __future__ import annotations

import pytest
from tiny_chat import TEMPLATES, tiny_tokenizer

from memkv.errors import InvalidInput
from memkv.turns import ChatFormat, Message


def user(text: str) -> Message:
    return Message(role="user", content=text)


def assistant(text: str) -> Message:
    return Message(role="assistant", content=text)


@pytest.fixture(params=TEMPLATES)
def chat(request: pytest.FixtureRequest) -> ChatFormat:
    return ChatFormat(tiny_tokenizer(request.param))


TALK = [user("Hello?"), assistant("Hi <there>."), user("And?"), assistant(""), user("<"), assistant("t")]


def test_what_is_stable_stays_whatever_follows(chat: ChatFormat) -> None:
    for count in range(1, len(TALK)):
        stable = chat.stable(TALK[:count])
        assert stable
        for later in range(count, len(TALK) + 1):
            assert chat.render(TALK[:later]).startswith(stable)
            # ... and in tokens too: nothing that follows merges into it.
            assert chat.encode(chat.render(TALK[:later]))[: len(chat.encode(stable))] == chat.encode(stable)


def test_a_reply_prompt_that_is_rendered_differently_later_is_not_stable() -> None:
    chat = ChatFormat(tiny_tokenizer("thinking"))
    assert "<think>" not in chat.stable([user("x"), assistant("y")])
    assert "<think>" in chat.render([user("x")], open_reply=True)


def test_a_system_message_is_stable_before_anyone_has_spoken() -> None:
    stable = ChatFormat(tiny_tokenizer("chatml")).stable([Message(role="system", content="Be brief.")])
    assert stable == "<|im_start|>system\nBe brief.<|im_end|>\n"


def test_instructions_go_into_the_first_question_where_there_is_no_system_role() -> None:
    chat = ChatFormat(tiny_tokenizer("strict"))
    messages = chat.with_instructions("Be brief.", [user("Hello?"), assistant("Hi.")])
    assert [message["role"] for message in messages] == ["user", "assistant"]
    assert messages[0]["content"].startswith("Be brief.")
    assert ChatFormat(tiny_tokenizer("chatml")).with_instructions("Be brief.", [user("x")])[0]["role"] == "system"


def test_a_template_that_refuses_says_why() -> None:
    with pytest.raises(InvalidInput, match="must alternate"):
        ChatFormat(tiny_tokenizer("strict")).render([user("x"), user("y")])


def test_replies_end_at_the_templates_own_token() -> None:
    tokenizer = tiny_tokenizer("chatml")
    assert tokenizer.convert_tokens_to_ids("<|im_end|>") in ChatFormat(tokenizer).stop_ids
    assert tokenizer.eos_token_id in ChatFormat(tokenizer).stop_ids


def test_the_clock_stands_still_within_a_moment_only() -> None:
    chat = ChatFormat(tiny_tokenizer("clock"))
    first = chat.render(TALK)
    assert chat.render(TALK) == first
    chat.new_moment()
    assert chat.render(TALK) != first


def test_half_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(InvalidInput, match="Unicode"):
        ChatFormat(tiny_tokenizer("chatml")).encode("\ud800")


def test_tokens_of_a_piece_are_those_it_has_in_the_whole() -> None:
    chat = ChatFormat(tiny_tokenizer("none", blank_first=True))
    whole = chat.render(TALK)
    for count in range(1, len(TALK)):
        read = chat.stable(TALK[:count])
        assert chat.encode(read) + chat.encode_rest(read, whole) == chat.encode(whole)


@pytest.mark.parametrize(("template", "takes"), [("chatml", True), ("strict", False)])
def test_it_is_known_whether_a_system_message_may_come_between_turns(template: str, takes: bool) -> None:
    assert ChatFormat(tiny_tokenizer(template)).takes_late_system is takes
