"""The rule registry: sentences that bind, found by their words and kept word for word.

Verbatim pinning is the baseline to beat: it restores compliance for under 0.5% of the tokens ("constraint pinning",
arXiv 2606.22528). It knows only what is worded as a rule; users add the rest with `Session.pin`.
"""

from __future__ import annotations

import re

# Words that make a sentence normative in plain English policies.
BINDING = re.compile(
    r"\b(must|never|always|shall|only|unless|do not|don't|does not|may not|cannot|can't|not allowed|forbidden|"
    r"prohibited|required?|requires|need(?:s|ed)? to|at (?:most|least)|no (?:more|less|fewer) than|without|"
    r"signs? off|approv\w+|limit\w*|maximum|minimum|prefer\w*|avoid)\b",
    re.IGNORECASE,
)
BULLET = re.compile(r"^\s*(?:[-*•]|\(?\d{1,2}[.):]|\(?[a-z][.)])\s+")
# A sentence ends at . ! or ? before a space and a capital, so that "5.5" and "e.g. this" do not cut it.
SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"“'])")
LONGEST_RULE = 600  # characters; longer passages are prose, not a rule


def find_rules(text: str) -> list[str]:
    """The sentences and list entries of `text` that bind, in order, each once, bullets taken off."""
    found: dict[str, None] = {}
    for line in text.splitlines():
        bare = BULLET.sub("", line).strip()
        for sentence in SENTENCE_END.split(bare):
            rule = sentence.strip()
            question = rule.endswith("?")
            if rule and not question and len(rule) <= LONGEST_RULE and BINDING.search(rule):
                found[rule] = None
    return list(found)
