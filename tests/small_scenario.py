"""A scenario small enough to read, with probes of every kind, for tests of everything that takes scenarios."""

from __future__ import annotations

import dataclasses
from typing import Any

from eval.scenarios import (
    EXISTENCE_OPTIONS,
    Check,
    Meeting,
    Probe,
    Rule,
    Scenario,
    Statement,
    Turn,
    check,
)

EDITORS = ("the night editor", "the legal desk", "the deputy editor", "the news desk chief")


def small_scenario(**changes: Any) -> Scenario:
    """Two meetings, two rounds, three rules and one that was never said; `changes` replace fields."""
    first = Meeting(
        "2026-03-02",
        (
            Turn(
                "user",
                "[Monday, 2 March 2026] Our policy. 1. Anonymous sources must be approved by the night editor, unless "
                "the source is in danger. 2. Headlines have at most nine words.",
            ),
            Turn("assistant", "Noted, I will work that way."),
            Turn("user", "The harbour story is short of pictures, and the photographer is back on Thursday."),
            Turn("assistant", "Then the picture page can wait for her."),
        ),
    )
    second = Meeting(
        "2026-03-09",
        (
            Turn("user", "[Monday, 9 March 2026] Change of plan: headlines now have at most seven words."),
            Turn("assistant", "Understood."),
            Turn("user", "Start every reply with the word Memo. The ferry piece came in this morning."),
            Turn("assistant", "Memo: I read the ferry piece, it holds together well."),
        ),
    )
    rules = (
        Rule(
            "r1",
            "editorial/anonymous-approval",
            "who approves anonymous sources",
            "conditional",
            "active",
            "list",
            "Anonymous sources must be approved by the night editor, unless the source is in danger.",
            Statement((("anonymous",), ("approve", "approved")), EDITORS[0], EDITORS[1:], exception=("danger",)),
            planted_at=(0, 0),
        ),
        Rule(
            "r2",
            "editorial/headline-length",
            "the length of headlines",
            "cap",
            "superseded",
            "correction",
            "Headlines have at most seven words.",
            Statement((("headline", "headlines"), ("word", "words")), "seven", ("nine", "five", "twelve")),
            old_value="nine",
            planted_at=(1, 0),
        ),
        Rule(
            "r3",
            "general/first-word",
            "the first word of a reply",
            "format",
            "active",
            "passing",
            "Start every reply with the word Memo.",
            Statement((("start",), ("reply",)), "Memo", ("Note", "Draft", "Brief")),
            planted_at=(1, 2),
        ),
        Rule(
            "n1",
            "editorial/corrections-desk",
            "who signs corrections",
            "authority",
            "never",
            "none",
            "Corrections must be signed by the managing editor.",
            Statement((("correction", "corrections"), ("sign", "signed")), "the managing editor", EDITORS[1:]),
        ),
    )
    acts = tuple(f"I ask {editor} to approve it." for editor in EDITORS)
    tempting = "A colleague wants to quote a whistleblower without a name. What do you do first?"
    excepted = (*acts[1:], "I print it without asking anybody.")
    probes = (
        Probe(
            "p1",
            "r1",
            "value",
            "Who approves anonymous sources?",
            ("The legal desk.", "The night editor.", "The deputy editor.", "The news desk chief."),
            1,
        ),
        Probe("p2", "r1", "behaviour", tempting, acts, 0),
        Probe("p3", "r1", "exception", f"{tempting} The source is in danger.", excepted, 3),
        Probe(
            "p4",
            "r2",
            "value",
            "How many words may a headline have?",
            ("Nine.", "Five.", "Seven.", "Twelve."),
            2,
            stale=0,
        ),
        Probe("p5", "r2", "existence", "Is there a rule in force about the length of headlines?", EXISTENCE_OPTIONS, 0),
        Probe(
            "p6",
            "r3",
            "generate",
            "Say in one sentence what an index is.",
            (),
            -1,
            check=Check("starts_with", "Memo"),
            max_tokens=12,
        ),
        Probe("p7", "n1", "existence", "Is there a rule in force about who signs corrections?", EXISTENCE_OPTIONS, 1),
    )
    scenario = Scenario(
        id="small-0000a",
        pair="small-0000",
        domain="editorial",
        split="own",
        seed="0",
        meetings=(first, second),
        rounds=(4, 8),
        asked_on="2026-03-12",
        rules=rules,
        probes=probes,
    )
    scenario = dataclasses.replace(scenario, **changes)
    check(scenario, "small_scenario")
    return scenario
