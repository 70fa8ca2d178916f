"""What fits: messages into a context budget in bytes and into the model's positions."""

from __future__ import annotations

from memkv.config import format_bytes
from memkv.errors import BudgetExceeded, InvalidInput
from memkv.model import HybridModel

# A context that is made smaller aims below its limit, or the next turn would compact again.
AIM = 0.6
# The least that a conversation needs beside its system prompt: one short exchange.
SMALLEST_EXCHANGE = 64  # tokens
# Positions kept free after every turn, so that a strategy can still ask the model for a summary of all it has read.
RESERVE = 320  # tokens
MANY_TOKENS = 2**24  # where a model names no limit


def tokens_within(model: HybridModel, budget: int) -> int:
    """How many tokens a cache of `budget` bytes holds; a model whose cache does not grow is held to its positions."""
    low, high = 1, model.max_tokens or MANY_TOKENS
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if model.profile.at(middle) <= budget else (low, middle - 1)
    return low


def check_budget(model: HybridModel, budget: int, system: str) -> None:
    """Refuse a budget in which no conversation fits.

    Raises:
        BudgetExceeded: it holds no system prompt and one short exchange.
    """
    smallest = model.profile.at(len(model.chat.encode(system)) + SMALLEST_EXCHANGE)
    if budget < smallest:
        raise BudgetExceeded(
            f"A context budget of {format_bytes(budget)} does not hold the system prompt and one short exchange of "
            f"{model.name}",
            f"The smallest that works is {smallest} bytes ({format_bytes(smallest)}).",
            smallest=smallest,
        )


def check_message(model: HybridModel, budget: int, text: str, system: str, max_new_tokens: int) -> int:
    """Refuse a message that cannot be read; else the positions that it needs, with its reply and the reserve.

    Raises:
        InvalidInput: it is empty, or does not fit the model's positions.
        BudgetExceeded: it alone is larger than the budget.
    """
    if not text.strip():
        raise InvalidInput("The message is empty", "Type something.")
    if max_new_tokens < 1:
        raise InvalidInput(f"A reply of {max_new_tokens} tokens is none", "Allow at least 1.")
    new = len(model.chat.encode(text + system))
    taken = model.profile.at(new + SMALLEST_EXCHANGE)
    if taken > budget:
        raise BudgetExceeded(
            f"The message has {new} tokens, whose cache alone takes {format_bytes(taken)} of a context budget of "
            f"{format_bytes(budget)}",
            f"Send less at once, or use a context budget of at least {taken} bytes.",
            smallest=taken,
        )
    needed = new + max_new_tokens + RESERVE
    if model.max_tokens is not None and needed >= model.max_tokens:
        raise InvalidInput(
            f"The message has {new} tokens; with a reply of up to {max_new_tokens} and the {RESERVE} that are kept "
            f"free that is more than the {model.max_tokens} positions of {model.name}",
            "Send less text at once, or allow a shorter reply (--max-tokens).",
        )
    return needed
