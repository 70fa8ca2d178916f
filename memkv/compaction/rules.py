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
MARK = r"\s*(?:[-*•]|\(?\d{1,2}[.):]|\(?[a-z][.)])\s"  # of an entry of a list
BULLET = re.compile(rf"^{MARK}+")
INSIDE = re.compile(rf"(?!{MARK})[\w\"“'(]")  # the beginning of a line that can go on another one
# A sentence ends at . ! or ? before a space and a capital, so that "5.5" and "e.g. this" do not cut it.
SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"“'])")
LONGEST_RULE = 600  # characters; longer passages are prose, not a rule
WRAPPED = 60  # characters from which on a line without an end may have been broken for its width


def find_rules(text: str) -> list[str]:
    """The sentences and list entries of `text` that bind, in order, each once, bullets taken off."""
    found: dict[str, None] = {}
    for line in unwrapped(text).splitlines():
        bare = BULLET.sub("", line).strip()
        for sentence in SENTENCE_END.split(bare):
            rule = sentence.strip()
            question = rule.endswith("?")
            if rule and not question and len(rule) <= LONGEST_RULE and BINDING.search(rule):
                found[rule] = None
    return list(found)


def unwrapped(text: str) -> str:
    """`text` with the lines joined again that were broken for their width, as pasted mail is.

    Such a line is long, ends no sentence, and the next one begins with a small letter; once a text holds one of these,
    a capital or a number may follow too. Entries of lists, quoted lines and empty ones stay lines of their own.
    """
    lines = text.splitlines()
    joins = [
        len(line) >= WRAPPED and line.rstrip()[-1:] not in tuple(".!?:>") and bool(INSIDE.match(after))
        for line, after in zip(lines, lines[1:], strict=False)
    ]
    if not any(joined and after[0].islower() for joined, after in zip(joins, lines[1:], strict=False)):
        return text
    found = lines[:1]
    for joined, line in zip(joins, lines[1:], strict=True):
        found[-1:] = [f"{found[-1].rstrip()} {line}"] if joined else [found[-1], line]
    return "\n".join(found)
