"""What a compaction is: items of a context in, fewer bytes of context out, and an account of what left."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from memkv.config import format_bytes
from memkv.errors import BudgetExceeded
from memkv.live import LiveCache
from memkv.model import HybridModel
from memkv.turns import Message

ItemKind = Literal["system", "rule", "summary", "message", "recalled", "memory", "noted"]
BROUGHT_BACK = ("memory", "noted")  # of other conversations: a whole stretch, and notes or a part of one
Status = Literal["verbatim", "paraphrased", "store_only", "dropped", "unknown"]

NEW = -1  # number of an item until it is known which ones stay
RULES_HEADING = "Rules in force, word for word:"
SUMMARY_HEADING = "Summary of the earlier conversation:"
RECALLED_HEADING = "From earlier in our conversation:"
MEMORIES = "What was said in earlier conversations:"
FORGOTTEN = "(This message was forgotten on request.)"


@dataclass(frozen=True)
class Item:
    """One text in a context. `n` is its number in the session, `sources` the numbers it was made from.

    `sure` is, of a note, the probability that a policy gave to the token of it of which it was least sure; of a rule,
    how likely a sentence that was found by its wording is one. None of all else, and of what was pinned by hand.
    """

    n: int
    kind: str
    role: str
    text: str
    sources: tuple[int, ...] = ()
    sure: float | None = None


@dataclass(frozen=True)
class LedgerEntry:
    """What became of one item.

    `status` is what the *context* still holds; the store keeps the text whatever it says. `found_in` are the items now
    in the context that were made from it. `overlap` is the measured share of its content words that those items hold.
    `probability` is that the commitment survived, where somebody measured it; None says that nobody did.
    """

    memory: int
    status: Status
    found_in: tuple[int, ...] = ()
    overlap: float | None = None
    probability: float | None = None


@dataclass(frozen=True)
class LossLedger:
    """One entry for every item that was in the context before."""

    entries: tuple[LedgerEntry, ...]

    def left(self) -> tuple[LedgerEntry, ...]:
        """The entries of items that are no longer in the context word for word."""
        return tuple(entry for entry in self.entries if entry.status != "verbatim")

    def as_data(self) -> list[dict[str, Any]]:
        """Plain data for the event log: numbers only, never text."""
        return [dataclasses.asdict(entry) for entry in self.entries]


@dataclass(frozen=True)
class Context:
    """What a strategy sees: the items, the model that read them, and the number that the next new item gets.

    `live` is their cache; a strategy that lets the model write works on a fork of it.
    """

    model: HybridModel
    items: tuple[Item, ...]
    live: LiveCache
    next_n: int

    def bytes_of(self, items: Sequence[Item]) -> int:
        """Cache bytes that a context of `items` takes, from the measured profile and the real token count."""
        chat = self.model.chat
        return self.model.profile.at(len(chat.encode(chat.stable(to_messages(self.model, items)))))

    def messages(self) -> tuple[Item, ...]:
        """The items of the conversation itself."""
        return tuple(item for item in self.items if item.kind == "message")

    def standing(self, *kinds: str) -> tuple[Item, ...]:
        """The standing items of `kinds`, in order."""
        return tuple(item for item in self.items if item.kind in kinds)


@dataclass(frozen=True)
class Compaction:
    """A new context, its size before and after in bytes of cache, and the ledger."""

    items: tuple[Item, ...]
    before: int
    after: int
    ledger: LossLedger


class CompactionStrategy(Protocol):
    """One way to make a context smaller."""

    @property
    def name(self) -> str:
        """As it is chosen and logged."""

    def compact(self, context: Context, aim: int, most: int) -> Compaction:
        """A context of at most `aim` cache bytes, or, where what must stay is larger, of as little as that allows.

        Raises:
            BudgetExceeded: what must stay is larger than `most` bytes; `smallest` says how large it is.
        """


def to_messages(model: HybridModel, items: Sequence[Item]) -> list[Message]:
    """Items as the messages that the model reads: standing items first, as instructions.

    Notes that come behind messages stay there, as a system message between turns, where the template knows such; small
    models heed what was said last. Where it does not, they come first too. Memories of earlier conversations are such
    messages too, else a part of the message that they were brought back for.
    """
    if not model.chat.takes_late_system:
        items = [dataclasses.replace(item, kind="recalled") if item.kind in BROUGHT_BACK else item for item in items]
    said = (at for at, item in enumerate(items) if item.kind == "message")
    first = next(said, len(items)) if model.chat.takes_late_system else len(items)
    parts = [item.text for item in items if item.kind == "system"]
    rules = [item.text for item in items if item.kind == "rule"]
    if rules:
        parts.append("\n".join([RULES_HEADING, *(f"- {rule}" for rule in rules)]))
    summaries = [item.text for item in items[:first] if item.kind == "summary"]
    if summaries:
        parts.append("\n".join([SUMMARY_HEADING, *summaries]))
    turns = [item for at, item in enumerate(items) if item.kind != "summary" or at >= first]
    first_kind = next((item.kind for item in turns if item.kind in (*BROUGHT_BACK, "message")), "")
    if not parts and first_kind in BROUGHT_BACK:
        parts.append(MEMORIES)  # a template may put a system prompt of its own where there is none, but not later
    return model.chat.with_instructions("\n\n".join(parts), alternating(turns))


def alternating(items: Sequence[Item]) -> list[Message]:
    """The messages with a placeholder where one was forgotten: many templates insist that the roles alternate.

    What was recalled for a message stands before it, in the same message; notes between messages are a message of their
    own, and so is each memory, and all that was noted of others that came back together.
    """
    spoken: list[Message] = []
    recalled: list[str] = []
    summary: list[str] = []
    noted: list[str] = []
    last = "assistant"

    def flush() -> None:
        """The notes so far as messages."""
        for texts in ([SUMMARY_HEADING, *summary] if summary else [], noted):
            if texts:
                spoken.append(Message(role="system", content="\n".join(texts)))
        summary.clear()
        noted.clear()

    for item in items:
        if item.kind == "summary":
            summary.append(item.text)
        if item.kind == "recalled":
            recalled.append(f"> {item.text}")
        if item.kind == "noted":
            noted.append(item.text)
        if item.kind == "memory":
            flush()
            spoken.append(Message(role="system", content=item.text))
        if item.kind != "message":
            continue
        flush()
        expected = "assistant" if last == "user" else "user"
        for role, text in ([(expected, FORGOTTEN)] if item.role != expected else []) + [(item.role, item.text)]:
            if recalled and role == "user":
                text, recalled = "\n".join([RECALLED_HEADING, *recalled, "", text]), []
            spoken.append(Message(role=role, content=text))
        last = item.role
    flush()
    return spoken


def keep_recent(
    context: Context, standing: Sequence[Item], aim: int, most: int, behind: Sequence[Item] = ()
) -> Compaction:
    """`standing`, as many of the newest messages as fit, and `behind`, with the ledger: how every strategy ends.

    Raises:
        BudgetExceeded: not even `standing` and `behind` fit `most` bytes.
    """
    items = with_recent(context, standing, aim, most, behind)
    before = context.live.size().payload
    return Compaction(items, before, context.bytes_of(items), ledger_of(context.items, items))


def with_recent(
    context: Context, standing: Sequence[Item], aim: int, most: int, behind: Sequence[Item] = ()
) -> tuple[Item, ...]:
    """`standing`, as many of the newest messages as fit, starting with a user's, or none, and `behind`."""
    messages = context.messages()
    starts = [index for index, item in enumerate(messages) if item.role == "user"]
    choices = [(*standing, *messages[start:], *behind) for start in (*starts, len(messages))]
    sizes = []
    for items in choices:
        sizes.append(context.bytes_of(items))
        if sizes[-1] <= aim:
            return items
    smallest = sizes[-1]
    if smallest <= most:
        return next(items for items, size in zip(choices, sizes, strict=True) if size <= smallest)
    raise BudgetExceeded(
        f"What must stay in the context takes {format_bytes(smallest)} of cache, the budget is {format_bytes(most)}",
        f"Use a context budget of at least {smallest} bytes, or forget pinned rules.",
        smallest=smallest,
    )


def ledger_of(before: Iterable[Item], after: Sequence[Item]) -> LossLedger:
    """What became of each item, by number and by word: an honest account without a judge.

    An item that a summary was made from is `unknown`: the words they share are measured, what the model will still do
    is not.
    """
    numbers = {item.n for item in after}
    return LossLedger(tuple(entry_of(item, after, item.n in numbers) for item in before))


def entry_of(item: Item, after: Sequence[Item], kept: bool) -> LedgerEntry:
    """The ledger entry of one item."""
    if kept:
        return LedgerEntry(item.n, "verbatim", (item.n,), 1.0, 1.0)
    heirs = tuple(heir for heir in after if item.n in heir.sources)
    if not heirs:
        return LedgerEntry(item.n, "store_only", (), 0.0)
    found = tuple(heir.n for heir in heirs)
    if any(item.text.strip() in heir.text for heir in heirs):
        return LedgerEntry(item.n, "verbatim", found, 1.0, 1.0)
    overlap = word_overlap(item.text, " ".join(heir.text for heir in heirs))
    return LedgerEntry(item.n, "unknown", found, overlap)


def word_overlap(text: str, other: str) -> float:
    """Share of the words of four or more letters, and of the numbers, in `text` that `other` holds too."""
    words = set(content_words(text))
    return len(words & set(content_words(other))) / len(words) if words else 0.0


def content_words(text: str) -> list[str]:
    """Lower-case words of four or more letters, and numbers."""
    return re.findall(r"[^\W\d_]{4,}|\d+(?:[.,]\d+)*", text.lower())
