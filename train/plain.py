"""Conversations as people type them: messages that are nothing but a rule, several rules in one line.

The generator always wraps a rule in talk or puts it into a list. A policy that saw nothing else passes by a message
like "Headlines have at most nine words." What is in force is read out of the messages afterwards: labels stay true.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence

from eval.prose.sentences import split
from eval.scenarios import Scenario
from eval.systems.ledger import message_index
from eval.systems.retrieval import DATE
from memkv.compaction.rules import BULLET
from memkv.turns import Message
from train.states import claims

STATED = ("active", "superseded")  # of what is quoted the words around it say what it is
JOINED = 0.3  # share of the messages after a plain one that it takes in


def plainer(messages: Sequence[Message], scenario: Scenario, share: float, rng: random.Random) -> list[Message]:
    """The messages, a share of those that state rules without the talk around them, some with the next one in them."""
    stated = defaultdict(list)
    for rule in scenario.rules:
        if rule.status in STATED and (index := message_index(scenario, rule)) is not None:
            stated[index].append(rule)
    found: list[Message] = []
    joins = False
    for index, message in enumerate(messages):
        if message["role"] != "user":
            found += [] if joins else [message]
            continue
        text = message["content"]
        plain = index in stated and rng.random() < share
        if plain:
            kept = [line for line in lines_of(text) if claims(line, stated[index])]
            text = " ".join(kept) or text
        if joins:
            text = f"{found.pop()['content']} {DATE.sub('', text)}"
        joins = plain and rng.random() < JOINED and any(later["role"] == "user" for later in messages[index + 1 :])
        found.append(Message(role="user", content=text))
    return found


def lines_of(text: str) -> list[str]:
    """Sentences of a message, without date, bullets, and marks of quotation."""
    lines = (BULLET.sub("", line.lstrip("> ")) for line in DATE.sub("", text).splitlines())
    return [sentence.strip() for line in lines for sentence in split(line) if sentence.strip()]
