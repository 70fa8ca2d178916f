"""Chat templates, and the boundaries in them at which a cache can be kept.

A template may render the last turn differently once another follows (Qwen3 drops earlier thinking), open the reply
with a prompt that disappears later, or print today's date. So a cache is kept only up to the text that stays the same
whatever comes next, and new text is cut from two renderings made in the same moment.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from datetime import datetime
from functools import cached_property
from typing import TypedDict

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from memkv.errors import InvalidInput


class Message(TypedDict):
    """One message of a chat; role is `system`, `user` or `assistant`."""

    role: str
    content: str


# For tokenizers without a template (GPT-2 and other base models).
PLAIN_TEMPLATE = (
    "{% for m in messages %}{{ m['role'] | capitalize }}: {{ m['content'] }}"
    "{{ eos_token if m['role'] == 'assistant' else '' }}\n{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)

# How templates ask for the date (Llama 3.1); transformers answers anew at each rendering.
CLOCK_CALL = re.compile(r"""strftime_now\(\s*(['"])(.*?)\1\s*\)""")

# What an unfinished UTF-8 sequence decodes to.
UNFINISHED = "\ufffd"

# Two futures that share no first character, so that their common prefix is the template's own.
FUTURES = ("x", "Y")


def plain_template(tokenizer: PreTrainedTokenizerBase) -> str:
    """The template for a tokenizer without one, with the token that the tokenizer puts before every text."""
    opening = tokenizer("")["input_ids"]
    return "{{ bos_token }}" + PLAIN_TEMPLATE if opening == [tokenizer.bos_token_id] else PLAIN_TEMPLATE


class ChatFormat:
    """Renders messages with a tokenizer's chat template and finds stable boundaries."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, also_stops: Sequence[int] = ()) -> None:
        self.tokenizer = tokenizer
        self.also_stops = tuple(also_stops)
        self.template: str = tokenizer.get_chat_template() if tokenizer.chat_template else plain_template(tokenizer)
        self.new_moment()

    def new_moment(self) -> None:
        """Let the template's clock go on. Within one moment two renderings of the same messages are equal."""
        now = datetime.now()
        self._template_now = CLOCK_CALL.sub(lambda call: repr(now.strftime(call[2])), self.template)

    def render(self, messages: Sequence[Message], *, open_reply: bool = False) -> str:
        """The conversation as text; `open_reply` adds the prompt that makes the model answer.

        Raises:
            InvalidInput: the template refuses these messages (roles out of order, a role it does not know).
        """
        try:
            text = self.tokenizer.apply_chat_template(
                [{"role": message["role"], "content": message["content"]} for message in messages],
                chat_template=self._template_now,
                tokenize=False,
                add_generation_prompt=open_reply,
            )
        except (TemplateError, ValueError, TypeError) as error:
            raise InvalidInput(f"The chat template refuses these messages: {error}", "Check their roles.") from error
        return str(text)

    def stable(self, messages: Sequence[Message]) -> str:
        """The prefix of the rendering that no later message changes; empty for no messages.

        A system message alone gives "" where the template wants a user's message with it.
        """
        if not messages:
            return ""
        order = ("assistant", "user") if messages[-1]["role"] == "user" else ("user", "assistant")
        try:
            texts = [self.render(messages)]
        except InvalidInput:
            if any(message["role"] != "system" for message in messages):
                raise
            return ""
        for word in FUTURES:
            texts.append(self.render([*messages, *(Message(role=role, content=word) for role in order)]))
        return self._whole_tokens(os.path.commonprefix(texts), texts)

    def _whole_tokens(self, prefix: str, texts: Sequence[str]) -> str:
        """`prefix` cut back where it ends inside a special token of a text: `<` of `<|im_end|>` and of `<think>`."""
        end = len(prefix)
        for token in self.tokenizer.get_added_vocab():
            starts = range(max(0, end - len(token) + 1), end)
            end = next((start for start in starts if any(text.startswith(token, start) for text in texts)), end)
        return prefix[:end]

    def with_instructions(self, instructions: str, messages: Sequence[Message]) -> list[Message]:
        """Put standing instructions before `messages`: as a system message, or inside the first user message."""
        if not instructions:
            return list(messages)
        if self._accepts_system:
            return [Message(role="system", content=instructions), *messages]
        for index, message in enumerate(messages):
            if message["role"] == "user":
                opened = Message(role="user", content=f"{instructions}\n\n{message['content']}")
                return [*messages[:index], opened, *messages[index + 1 :]]
        return list(messages)

    @cached_property
    def _accepts_system(self) -> bool:
        try:
            text = self.render([Message(role="system", content="kept?"), Message(role="user", content="x")])
        except InvalidInput:
            return False
        return "kept?" in text

    @cached_property
    def takes_late_system(self) -> bool:
        """Whether a system message may stand between two turns, and stays there."""
        said = [("user", "first?"), ("assistant", "second?"), ("system", "third?"), ("user", "fourth?")]
        try:
            text = self.render([Message(role=role, content=content) for role, content in said])
        except InvalidInput:
            return False
        return re.findall("|".join(re.escape(content) for _, content in said), text) == [content for _, content in said]

    @cached_property
    def stop_ids(self) -> tuple[int, ...]:
        """Tokens that end a reply: end of sequence, and the special token that the template puts after a reply."""
        stops = {self.tokenizer.eos_token_id, *self.also_stops}
        asked = [Message(role="user", content="x"), Message(role="assistant", content="reply")]
        after = self.encode(self.render(asked).rpartition("reply")[2])
        if after and after[0] in self._special_ids:
            stops.add(after[0])
        return tuple(sorted(stop for stop in stops if stop is not None))

    @cached_property
    def _special_ids(self) -> frozenset[int]:
        """Every token that `decode` leaves out, also those that only the tokenizer's file calls special."""
        added = self.tokenizer.added_tokens_decoder.items()
        return frozenset({*self.tokenizer.all_special_ids, *(number for number, token in added if token.special)})

    def encode(self, text: str) -> list[int]:
        """Token ids of rendered text; the template has put every special token in already.

        Raises:
            InvalidInput: text that is no valid Unicode (half a surrogate pair).
        """
        try:
            return list(self.tokenizer.encode(text, add_special_tokens=False))
        except (TypeError, UnicodeError) as error:
            raise InvalidInput("The text is no valid Unicode", "Remove half surrogate pairs from it.") from error

    def count(self, text: str) -> int:
        """Tokens of a text.

        Raises:
            InvalidInput: see `encode`.
        """
        return len(self.encode(text))

    def encode_rest(self, read: str, whole: str) -> list[int]:
        """Token ids of `whole` after `read`, which it starts with.

        Cut out of the tokens of `whole` where those of `read` begin them: a SentencePiece tokenizer would put a blank
        before a piece encoded by itself.
        """
        before, tokens = self.encode(read), self.encode(whole)
        return tokens[len(before) :] if tokens[: len(before)] == before else self.encode(whole[len(read) :])

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of token ids, special tokens left out."""
        return str(self.tokenizer.decode(list(token_ids), skip_special_tokens=True))

    def all_in_text(self, token_ids: Sequence[int]) -> bool:
        """Whether `decode` shows every token: none is special, padding of the embedding matrix, or half a character."""
        shown = all(token not in self._special_ids and token < len(self.tokenizer) for token in token_ids)
        return shown and not self.decode(token_ids).endswith(UNFINISHED)
