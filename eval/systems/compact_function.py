"""Anybody's own `compact(messages, budget_bytes) -> messages`, named as `module:function` and checked."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence

from eval.systems.base import Case, Limits, Memory, bytes_of, constant
from eval.systems.fitting import messages_at_rest, room, text_of
from memkv.config import format_bytes
from memkv.errors import BudgetExceeded, ConfigError, InvalidInput
from memkv.turns import Message

ROLES = ("system", "user", "assistant")
Compact = Callable[[list[Message], int], Sequence[Message]]


class CompactFunction:
    """The function is called after each chunk with what it returned before and the new turns.

    Args:
        target: `module:function`, found as Python finds modules (from the current folder on).

    Raises:
        ConfigError: there is no such module or function.
    """

    budgeted = True
    sampled = False

    def __init__(self, target: str) -> None:
        self.name = target
        self._compact = load(target)

    def remember(self, case: Case, limits: Limits) -> Memory:
        """See `System.remember`.

        Raises:
            BudgetExceeded: the function returned more than the budget.
            InvalidInput: it raised something, or did not return messages that the model can read.
        """
        room(case.model, limits)
        messages: list[Message] = []
        start = 0
        for turns in case.scenario.chunks:
            messages = [*messages, *case.messages[start : start + len(turns)]]
            start += len(turns)
            budget = bytes_of(case.model, messages) if limits.active is None else limits.active
            messages = self._checked(case, messages, budget)
        return Memory(
            messages=constant(messages),
            text=text_of(messages),
            transcript=all(message["role"] != "system" for message in messages),
            at_rest=messages_at_rest(messages),
        )

    def _checked(self, case: Case, messages: Sequence[Message], budget: int) -> list[Message]:
        """One call, on copies, and its answer if it is one."""
        copies = [Message(role=message["role"], content=message["content"]) for message in messages]
        try:
            answer = self._compact(copies, budget)
        except Exception as error:
            raise InvalidInput(
                f"{self.name} raised {type(error).__name__}: {error}", "Correct the function; the cause is above."
            ) from error
        if not isinstance(answer, (list, tuple)):
            raise InvalidInput(
                f"{self.name} returned a {type(answer).__name__}", "Return a list of messages: role and content."
            )
        kept = [as_message(part, f"{self.name}: message {number}") for number, part in enumerate(answer)]
        size = bytes_of(case.model, kept)
        if size > budget:
            raise BudgetExceeded(
                f"{self.name} returned {format_bytes(size)} of cache, the budget was {format_bytes(budget)}",
                "Return less text; `budget_bytes` counts live cache, not characters.",
                smallest=size,
            )
        return kept


def load(target: str) -> Compact:
    """The function that `module:function` names.

    Raises:
        ConfigError: no such module or function, or a module that cannot be imported.
    """
    module, colon, name = target.partition(":")
    if not (module and colon and name):
        raise ConfigError(f"{target!r} does not name a function", "Write --compact my_module:function.")
    try:
        found = importlib.import_module(module)
    except Exception as error:  # whatever a user's own module raises while it is imported
        raise ConfigError(
            f"The module {module!r} cannot be imported ({type(error).__name__}: {error})",
            "Start in its folder, or set PYTHONPATH.",
        ) from error
    function = vars(found).get(name)
    if not callable(function):
        raise ConfigError(f"The module {module!r} has no function {name!r}", "Check its name.")
    return function


def as_message(part: object, where: str) -> Message:
    """`part` as a message.

    Raises:
        InvalidInput: it is none.
    """
    if not isinstance(part, dict) or set(part) != {"role", "content"}:
        raise InvalidInput(f"{where} is {part!r:.80}", 'Return dictionaries with exactly "role" and "content".')
    if part["role"] not in ROLES or not isinstance(part["content"], str):
        raise InvalidInput(
            f"{where} has the role {part['role']!r:.40} and content of type {type(part['content']).__name__}",
            f"Roles are {', '.join(ROLES)}; content is text.",
        )
    return Message(role=part["role"], content=part["content"])
