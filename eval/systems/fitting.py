"""What text systems share: room in tokens, standing text as messages, bytes of text at rest."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from eval.systems.base import Limits
from memkv.config import format_bytes
from memkv.errors import BudgetExceeded
from memkv.model import HybridModel
from memkv.turns import Message

# For templates that know no system role and refuse instructions without a user's message to put them in.
ANCHOR = (Message(role="user", content="Keep this in mind."), Message(role="assistant", content="Understood."))


def room(model: HybridModel, limits: Limits) -> int | None:
    """Tokens whose cache fits the budget; None without a budget.

    Raises:
        BudgetExceeded: not even one token's cache fits, so that no memory does.
    """
    if limits.active is None:
        return None
    smallest = model.profile.at(1)
    if limits.active < smallest:
        raise BudgetExceeded(
            f"One token of {model.name} takes {format_bytes(smallest)} of cache, the budget is {limits.active} bytes",
            f"Use a budget of at least {smallest} bytes.",
            smallest=smallest,
        )
    fits, too_many = 1, 2
    while model.profile.at(too_many) <= limits.active:
        fits, too_many = too_many, 2 * too_many
        if model.max_tokens is not None and fits > model.max_tokens:
            return model.max_tokens
        if model.profile.at(too_many) == model.profile.at(fits) and not model.profile.per_token:
            return None  # a state of fixed size holds any number of tokens
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        if model.profile.at(middle) <= limits.active:
            fits = middle
        else:
            too_many = middle
    return fits


def standing(model: HybridModel, text: str) -> list[Message]:
    """`text` as instructions in front of whatever is asked; no messages for no text."""
    return model.chat.with_instructions(text, []) or (model.chat.with_instructions(text, ANCHOR) if text else [])


def text_of(messages: Sequence[Message]) -> str:
    """What messages say, oldest first."""
    return "\n\n".join(message["content"] for message in messages)


def text_bytes(texts: Sequence[str]) -> int:
    """Bytes of texts at rest, in UTF-8."""
    return sum(len(text.encode("utf-8")) for text in texts)


def json_bytes(data: object) -> int:
    """Bytes of plain data at rest, as compact JSON in UTF-8."""
    return len(json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode("utf-8"))


def messages_at_rest(messages: Sequence[Message]) -> Mapping[str, int]:
    """Bytes of messages at rest: their text, and who said it."""
    return {
        "text": text_bytes([message["content"] for message in messages]),
        "metadata": json_bytes([message["role"] for message in messages]),
    }
