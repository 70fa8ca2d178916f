"""Full context: the whole conversation stays in the cache. The ceiling."""

from __future__ import annotations

from eval.systems.base import Case, Limits, Memory, Spent, constant
from eval.systems.fitting import messages_at_rest, text_of


class FullContext:
    """Everything is kept as text and read again in the new session."""

    name = "full"
    budgeted = False
    sampled = False

    def remember(self, case: Case, limits: Limits) -> Memory:
        """See `System.remember`.

        Raises:
            InvalidInput: the conversation has more tokens than the model has positions.
        """
        return Memory(
            messages=constant(case.messages),
            text=text_of(case.messages),
            transcript=True,
            at_rest=messages_at_rest(case.messages),
            live=case.full.fork(),
            load_seconds=case.full_seconds,
            spent=Spent(prefilled=len(case.full), peak=case.full.size().payload),
        )
