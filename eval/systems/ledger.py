"""From a compaction's ledger, which speaks of items, to rules: what is declared of the message that states one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from eval.scenarios import Rule, Scenario
from memkv.compaction import Item, LedgerEntry, LossLedger
from memkv.compaction.base import word_overlap
from memkv.errors import ConfigError


@dataclass(frozen=True)
class Passage:
    """How a message came into an item: the product of declared probabilities, and whether a step declared none."""

    declared: float = 1.0
    measured: bool = False

    def through(self, entry: LedgerEntry) -> Passage:
        """After one more compaction."""
        if entry.status == "verbatim":
            return self
        if entry.probability is None:
            return Passage(self.declared, measured=True)
        return Passage(self.declared * entry.probability, self.measured)


class Fates:
    """What became of each message over several compactions: which items carry it now, and how it got there.

    What a strategy declares is taken as declared. Where it declares nothing of a paraphrase, the probability is the
    share of the message's words that the items made from it hold in the end.
    """

    def __init__(self) -> None:
        self._texts: dict[int, str] = {}
        self._carriers: dict[int, dict[int, Passage]] = {}

    def add(self, message: Item) -> None:
        """A new message, word for word in the context."""
        self._texts[message.n] = message.text
        self._carriers[message.n] = {message.n: Passage()}

    def follow(self, ledger: LossLedger) -> None:
        """Take one compaction into account."""
        entries = {entry.memory: entry for entry in ledger.entries}
        for message, carriers in self._carriers.items():
            self._carriers[message] = {
                heir: passage.through(entries[carrier])
                for carrier, passage in carriers.items()
                if entries[carrier].status not in ("store_only", "dropped")
                for heir in entries[carrier].found_in
            }

    def probability(self, message: int, items: Sequence[Item]) -> float:
        """That what the message said is still in a context of `items`."""
        carriers = self._carriers[message]
        words = " ".join(item.text for item in items if item.n in carriers)
        overlap = 1.0 if self._texts[message].strip() in words else word_overlap(self._texts[message], words)
        return max((way.declared * (overlap if way.measured else 1.0) for way in carriers.values()), default=0.0)


def declared(scenario: Scenario, fates: Fates, numbers: Mapping[int, int], items: Sequence[Item]) -> dict[str, float]:
    """Rule id -> declared probability, for every rule that was said.

    Args:
        scenario: where the rules were planted.
        fates: of the messages.
        numbers: index of a message in the conversation -> its number in the context.
        items: the context in the end.
    """
    said = [(rule, message_index(scenario, rule)) for rule in scenario.rules]
    return {rule.id: round(fates.probability(numbers[index], items), 4) for rule, index in said if index is not None}


def message_index(scenario: Scenario, rule: Rule) -> int | None:
    """Index of the message that states `rule`, over all sessions; None for a rule that was never said.

    Raises:
        ConfigError: there is no such message.
    """
    if rule.planted_at is None:
        return None
    session, message = rule.planted_at
    meetings = scenario.meetings
    if not (0 <= session < len(meetings) and 0 <= message < len(meetings[session].turns)):
        raise ConfigError(
            f"Scenario {scenario.id!r} has no message {list(rule.planted_at)}, where rule {rule.id!r} is planted",
            "`planted_at` is [session, message], both counted from 0.",
        )
    return sum(len(meeting.turns) for meeting in meetings[:session]) + message
