"""What is in force so far: the rules of a scenario as the metric itself reads them out of the messages up to a point.

No label comes from anywhere else, so a policy can be trained on a user's own scenario file as well as on generated
ones.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from eval.prose.said import said
from eval.prose.sentences import transcript_of
from eval.reading import dated
from eval.scenarios import Probe, Rule, Scenario
from memkv.turns import Message

# Said as a rule of ours at some time: read as if it still held, to see whether it does by now.
ONCE_OURS = ("active", "superseded", "revoked", "expired")
LONGEST_LEAD = 12  # words of "By the way:"


@dataclass(frozen=True)
class Standing:
    """One rule at one point of a conversation.

    Attributes:
        rule: as of now: `active` with the value that holds, or `never` where none does.
        wording: the sentence that says it, without "By the way:"; empty where nothing holds.
    """

    rule: Rule
    wording: str


def standings(scenario: Scenario, messages: Sequence[Message], before: Sequence[Standing] = ()) -> list[Standing]:
    """Every rule of `scenario` after `messages`; `before` are the standings some messages earlier, if there are any."""
    text = transcript_of(messages)
    earlier = {standing.rule.id: standing for standing in before}
    return [standing_of(rule, text, earlier.get(rule.id)) for rule in scenario.rules]


def standing_of(rule: Rule, text: str, before: Standing | None) -> Standing:
    """One rule after the transcript `text`."""
    read = dataclasses.replace(rule, status="active") if rule.status in ONCE_OURS else rule
    reading = said(text, read, transcript=True)
    value = {"right": rule.statement.value, "stale": rule.old_value}.get(reading.verdict)
    if value is None or rule.status not in ONCE_OURS:
        return Standing(dataclasses.replace(rule, status="never", old_value=None), "")
    now = with_value(read, value)
    changed = before is not None and before.wording and before.rule.statement.value != value
    old = before.rule.statement.value if changed else before.rule.old_value if before is not None else None
    return Standing(dataclasses.replace(now, old_value=old), without_lead(reading.sentence, now))


def place_of(
    rule: Rule, now: Standing, before: Standing | None, heard: Sequence[Message], new: Sequence[Message]
) -> int | None:
    """Index of the message among `new` after which a rule stood as it does now; None if it did before.

    Args:
        rule: of the scenario.
        now: the rule after all messages.
        before: the rule after `heard`; None where that is nothing.
        heard: messages that were read already.
        new: those that follow.
    """
    if now.wording == (before.wording if before else ""):
        return None
    for place in reversed(range(1, len(new))):
        text = transcript_of([*heard, *new[:place]])
        if standing_of(rule, text, before).wording != now.wording:
            return place
    return 0


def with_value(rule: Rule, value: str) -> Rule:
    """The rule with another of its values."""
    said_before = rule.statement
    others = tuple(other for other in (said_before.value, *said_before.others) if other != value)
    return dataclasses.replace(rule, statement=dataclasses.replace(said_before, value=value, others=others))


def without_lead(sentence: str, rule: Rule) -> str:
    """The sentence from behind its lead on, where that alone says the rule."""
    lead, colon, rest = sentence.partition(": ")
    if not colon or len(lead.split()) > LONGEST_LEAD:
        return sentence
    rest = rest[:1].upper() + rest[1:]
    return rest if said(f"- {rest}", rule).verdict == "right" else sentence


def askable(scenario: Scenario, now: Sequence[Standing]) -> list[Probe]:
    """The probes, dated, of rules that hold by now with the value that they will be asked for."""
    final = {rule.id: rule.statement.value for rule in scenario.rules if rule.binds}
    holding = {each.rule.id for each in now if each.wording and final.get(each.rule.id) == each.rule.statement.value}
    return [
        dataclasses.replace(probe, question=dated(scenario, probe))
        for probe in scenario.probes
        if probe.rule in holding and probe.kind in ("value", "behaviour")
    ]
