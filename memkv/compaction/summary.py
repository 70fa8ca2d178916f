"""Self-summarization, as models are prompted to do it: alone, or with rules pinned beside it."""

from __future__ import annotations

from dataclasses import dataclass

from memkv.compaction.base import Compaction, Context, Item, keep_recent, to_messages
from memkv.compaction.pinned import pinned_rules
from memkv.sampling import Sampling
from memkv.turns import Message

PROMPT = (
    "Summarize our conversation so far for your own later use. Keep every rule, name, number, deadline and exception "
    "exactly. Leave out greetings and small talk. Write the summary only."
)


@dataclass(frozen=True)
class Summary:
    """The model writes a summary of its own context; it replaces all messages but the newest that fit beside it.

    Attributes:
        max_tokens: length of the summary at most.
        pin_rules: keep the registry's rules verbatim as well.
        sampling: how the summary is written; greedily if None.
        prompt: what the model is asked.
    """

    max_tokens: int = 160
    pin_rules: bool = False
    sampling: Sampling | None = None
    prompt: str = PROMPT

    @property
    def name(self) -> str:
        """`summary`, or `pinned+summary`."""
        return "pinned+summary" if self.pin_rules else "summary"

    def compact(self, context: Context, aim: int, most: int) -> Compaction:
        """See `CompactionStrategy.compact`."""
        text = write_summary(context, self.max_tokens, self.sampling, self.prompt)
        rules = pinned_rules(context) if self.pin_rules else context.standing("rule")
        new = len(rules) - len(context.standing("rule"))
        # All that the model had read, rules too: forgetting one of them has to take the summary along.
        read = tuple(item.n for item in context.items)
        written = (Item(context.next_n + new, "summary", "", text, read),)
        summary = written if text else context.standing("summary")  # a model that writes nothing has read nothing new
        return keep_recent(context, (*context.standing("system"), *rules, *summary), aim, most)


def write_summary(context: Context, max_tokens: int, sampling: Sampling | None = None, prompt: str = PROMPT) -> str:
    """Ask the model on a fork of its live cache, so that nothing is read again and the conversation is untouched."""
    model, chat = context.model, context.model.chat
    before = to_messages(model, context.items)
    asked = [*before, Message(role="user", content=prompt)]
    fork = context.live.fork()
    model.extend(fork, chat.encode_rest(chat.stable(before), chat.render(asked, open_reply=True)))
    return chat.decode(list(model.generate(fork, max_tokens, sampling, chat.stop_ids))).strip()
