"""What a text still says of a rule: a strict reading of value, polarity and exception. No model, no likeness.

A sentence counts if it is about the rule (`Statement.about`), states it (no question, hypothesis, quotation of somebody
else, rule of another team) and holds a value. Several statements add up to `ambiguous` unless words say that the later
one replaces the earlier, or the text is a transcript, in which the last word counts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

from eval.prose import cues
from eval.prose.polarity import Line, Span, direction, negated, outside
from eval.prose.sentences import Sentence, sentences
from eval.prose.slots import (
    FUNCTION,
    UNCLEAR,
    Mention,
    Slot,
    is_about,
    mentions,
    ordered_mentions,
    own_sentence,
    slot_of,
)
from eval.prose.tokens import ARTICLES, Token
from eval.scenarios import Rule

Verdict = Literal["right", "stale", "wrong", "ambiguous", "distorted", "absent"]
SHORT_ANSWER = 8  # words
FOLLOW_UP = 14  # words of a sentence that takes back the one before
INTRODUCED_WITHIN = 3  # sentences between "this came from a stranger" and the quotation
ENTRY_SENTENCES = 4  # a longer list entry is prose, whose sentences stand for themselves
STEPS_WITHIN = 8  # sentences or entries over which an order of steps may be spread
SEPARATORS = frozenset({",", ";", "and", "while", "whereas", "but", ":"})
LIGHT = frozenset(
    "also too them these those well likewise sometimes additionally else never use used uses avoid keep put write "
    "always only most least more then there here can will would not".split()
)  # no topic of their own
OURS = frozenset({"our", "ours", "we", "us", "my", "mine"})
BACK_REFERENCE = frozenset({"this", "that", "it", "these", "those", "rule", "policy"})
ROUGHLY = r"(?<!\S)(?:about|around|roughly|approximately|some)$"
CHANGED_FROM = re.compile(
    r"(?<!\S)(?:changed|updated|moved|switched|amended|revised|raised|lowered|reduced|increased|up|down) from$"
)
ASIDE = frozenset("(-–—")
COMMA = Token(",", ",", ",")


@dataclass(frozen=True)
class Said:
    """What a text says of one rule.

    Attributes:
        verdict: one of `eval.rows.SAID`.
        sentence: what it rests on; empty for `absent`.
    """

    verdict: Verdict
    sentence: str = ""


@dataclass
class Claims:
    """What the sentences read so far add up to.

    Attributes:
        current: value -> (hedged, distorted, sentence).
        turned: the sentence that says the opposite of the rule.
        conflict: two sentences contradict each other.
        touched: some sentence was about the rule.
    """

    current: dict[str, tuple[bool, bool, str]] = field(default_factory=dict)
    turned: str = ""
    conflict: bool = False
    touched: bool = False

    def clear(self) -> None:
        """Everything said so far is taken back."""
        self.current, self.turned, self.conflict = {}, "", False


def said(text: str, rule: Rule, transcript: bool = False) -> Said:
    """What `text` says of `rule`.

    Args:
        text: a memory in words.
        rule: planted or never said; for one that does not bind the verdict tells what the text claims as binding.
        transcript: the text is messages, oldest first (`sentences.transcript_of`): later statements win, and where
            roles are marked the assistant's count only if nobody else said anything of the rule.
    """
    slot = slot_of(rule)
    rows = sentences(text)
    if transcript and any(row.role in ("user", "system") for row in rows):
        claims = read(text, rule, slot, transcript, tuple(i for i, r in enumerate(rows) if r.role != "assistant"))
        if claims.touched:
            return verdict(claims, rule)
    return verdict(read(text, rule, slot, transcript, tuple(range(len(rows)))), rule)


def verdict(claims: Claims, rule: Rule) -> Said:
    """Claims as a verdict."""
    if claims.conflict or len(claims.current) > 1:
        basis = " / ".join(sentence for *_, sentence in claims.current.values()) or claims.turned
        return Said("ambiguous", basis)
    if not claims.current:
        return Said("distorted", claims.turned) if claims.turned else Said("absent")
    ((value, (hedged, distorted, sentence)),) = claims.current.items()
    if hedged:
        return Said("ambiguous", sentence)
    if value == rule.statement.value:
        return Said("distorted" if distorted else "right", sentence)
    return Said("stale" if value == rule.old_value else "wrong", sentence)


def read(text: str, rule: Rule, slot: Slot, transcript: bool, wanted: Sequence[int]) -> Claims:
    """Go through the sentences numbered `wanted`."""
    rows, foreign = sentences(text), attributed(text)
    claims = Claims()
    asked = -2  # the last question about the rule
    stated = -2  # the last sentence that stated something of it
    done = -1  # sentences up to here were read as part of an order of steps
    for n, at in enumerate(wanted):
        row = rows[at]
        if at <= done:
            continue
        tokens = context(slot, rows, at)
        if tokens is None and asked == at - 1 and len(row.tokens) <= SHORT_ANSWER and not row.question:
            tokens = row.tokens
        if row.question:
            if tokens is not None and not mentions(row.tokens, slot.values):
                asked = at
            continue
        if tokens is None:
            topical = len(slot.topic) > 1 and row.stems.issuperset(slot.topic)
            follow = stated == at - 1 and len(row.tokens) <= FOLLOW_UP and refers_back(row)
            if (topical or follow) and withdraws(row):
                claims.clear()
                claims.touched = True
            continue
        if foreign[at]:
            continue
        if slot.ordered:
            row, done = whole_order(slot, rows, wanted[n:])
            tokens = row.tokens
        following = rows[at + 1] if at + 1 < len(rows) else None
        if state(claims, rule, slot, row, tokens, following, transcript):
            stated = at
            claims.touched = True
    return claims


def context(slot: Slot, rows: Sequence[Sentence], at: int) -> tuple[Token, ...] | None:
    """The tokens to read if the sentence is about the rule by itself, under its heading or in its entry; else None."""
    row = rows[at]
    if is_about(slot, row.tokens, row.stems):
        return row.tokens
    under = (*row.heading, *row.tokens)
    if row.heading and is_about(slot, under, row.stems.union(token.stem for token in row.heading)):
        return under
    if row.entry:
        first, last = at, at
        while first and rows[first - 1].unit == row.unit and last - first < ENTRY_SENTENCES:
            first -= 1
        while last + 1 < len(rows) and rows[last + 1].unit == row.unit and last - first < ENTRY_SENTENCES:
            last += 1
        if not 0 < last - first < ENTRY_SENTENCES:
            return None
        whole = [token for other in rows[first : last + 1] for token in other.tokens]
        if is_about(slot, whole, frozenset(token.stem for token in (*row.heading, *whole))):
            return row.tokens
    return None


def refers_back(row: Sentence) -> bool:
    """Whether a sentence begins by pointing at the one before."""
    return any(token.word in BACK_REFERENCE for token in row.tokens[:4]) or len(row.tokens) <= 6


def withdraws(row: Sentence) -> bool:
    """Whether a sentence takes something back, or says that it is somebody else's."""
    text = Line(row.tokens).text
    return bool(cues.RETRACTED.search(text) or cues.ELSEWHERE.search(text))


def whole_order(slot: Slot, rows: Sequence[Sentence], wanted: Sequence[int]) -> tuple[Sentence, int]:
    """The sentence together with as many that follow in its paragraph as its steps need, and the number of the last."""
    first = rows[wanted[0]]
    tokens = first.tokens
    for at in wanted[:STEPS_WITHIN]:
        if rows[at].paragraph != first.paragraph or rows[at].question:
            break
        if at != wanted[0]:
            tokens = (*tokens, COMMA, *rows[at].tokens)
        if ordered_mentions(slot, tokens, Line(tokens)):
            stems = frozenset(token.stem for token in tokens)
            return Sentence(first.text, tokens, stems, first.heading, first.unit, first.entry, first.paragraph), at
    return first, wanted[0]


def state(
    claims: Claims,
    rule: Rule,
    slot: Slot,
    row: Sentence,
    tokens: tuple[Token, ...],
    following: Sentence | None,
    transcript: bool,
) -> bool:
    """Add what one sentence states to the claims; returns whether it stated anything."""
    line = Line(tokens)
    if slot.ordered:
        found = ordered_mentions(slot, tokens, line)
    else:
        found = relevant(slot, tokens, mentions(tokens, slot.values))
    found = [own_sentence(slot, tokens, mention) for mention in found]
    masked = [(m.start, m.end) for m in found if not slot.ordered] + [m.masked for m in found if m.masked]
    head = Line(row.heading)
    clause = next(line.spans(cues.EXCEPTING), None) if slot.exception else None
    aside = [*masked, (clause[0], len(tokens))] if clause else masked  # "unless a rival has it" names nobody's rule
    values = [(mention.start, mention.end) for mention in found]
    scoped = outside(line.spans(cues.ELSEWHERE), masked if rule.binds else values) or cues.ELSEWHERE.search(head.text)
    if scoped or outside(line.spans(cues.HYPOTHETICAL), masked):
        return False
    if not cues.ADOPTED.search(line.text) and outside(line.spans(cues.OUTSIDER), aside):
        return False
    if rule.status == "expired" and cues.UNTIL.search(f"{head.text} {line.text}"):
        return False
    forbids = rule.statement.polarity == "do not"
    update = transcript or bool(outside(line.spans(cues.UPDATE), masked))
    hedged = bool(outside(line.spans(cues.HEDGE), masked)) or bool(cues.HEDGE.search(head.text))
    retracted = outside(line.spans(cues.RETRACTED), masked)
    if cues.RETRACTED.search(head.text):
        return False
    spans = [(mention.start, mention.end) for mention in found]
    stands: list[Mention] = []
    turned = False
    for mention in found:
        others = [span for span in spans if span != (mention.start, mention.end)]
        another = bool(others) or (update and not transcript)
        if is_old(line, mention, others, another) or taken_back(line, mention, retracted):
            claims.current.pop(mention.value.name, None)
            continue
        not_this = negated(line, mention.start, mention.end, forbids, others, masked)
        if not_this == (forbids and not mention.masked):
            stands.append(mention)
        elif mention.value.name == rule.statement.value:
            turned = True
    if retracted and not stands:
        claims.clear()
        return True
    if update and (stands or turned):
        claims.clear()
    names = {mention.value.name for mention in stands}
    if turned and rule.statement.value not in names:
        claims.conflict |= rule.statement.value in claims.current
        claims.turned = row.text
    for mention in stands:
        name = mention.value.name
        claims.conflict |= bool(claims.turned) and name == rule.statement.value
        doubt = hedged or name == UNCLEAR or (not forbids and either(line, mention))
        lost = not excepted(slot, tokens, following) or opposite(slot, line, mention)
        before = claims.current.get(name)
        if before:
            doubt, lost = doubt and before[0], lost and before[1]
        claims.current[name] = (doubt, lost, row.text)
    return bool(stands or turned or found)


def relevant(slot: Slot, tokens: Sequence[Token], found: list[Mention]) -> list[Mention]:
    """Values without those that a part of the sentence says about something else ("..., headlines have nine words")."""
    if len(found) < 2:
        return found
    cuts = [-1, *(i for i, token in enumerate(tokens) if token.word in SEPARATORS), len(tokens)]
    parts = {m: next((a + 1, b) for a, b in zip(cuts, cuts[1:], strict=False) if a < m.start < b) for m in found}
    alone = {m for m, (a, b) in parts.items() if is_about(slot, tokens[a:b], frozenset(t.stem for t in tokens[a:b]))}
    topical = {stem for group in slot.about for words in group for stem in words}

    def elsewhere(mention: Mention) -> bool:
        """Whether its part of the sentence has a topic of its own."""
        a, b = parts[mention]
        rest = [
            t for t in (*tokens[a : mention.start], *tokens[mention.end : b]) if t.word.isalpha() and len(t.word) > 2
        ]
        content = [t for t in rest if t.word not in FUNCTION and t.word not in ARTICLES and t.word not in LIGHT]
        own = sum(t.stem not in topical for t in content)
        return own > 1 or 0 < own < len(content)

    return [m for m in found if not alone or m in alone or not elsewhere(m)]


def is_old(line: Line, mention: Mention, others: Sequence[Span], another: bool) -> bool:
    """Whether the sentence gives the value as one that held before; `others` are the spans of its other values."""
    if mention.masked:
        return False
    start = mention.start
    while start and line.tokens[start - 1].word in ARTICLES | {"by", "to", "with", "be", "at", "limit", "word", ":"}:
        start -= 1
    before, after = line.part(max(0, start - 3), start), line.part(mention.end, min(mention.end + 5, len(line.tokens)))
    for match in cues.NOT_THIS.finditer(before):
        if match.end() == len(before) and match[0] != "not":
            moved = match[0] != "from" or re.match(r"to\b", after) or (others and CHANGED_FROM.search(before))
            return bool(moved) and (another or match[0] not in ("was", "were"))
    if any(said_of(line, cue, mention, others) for cue in line.spans(cues.WAS)):
        return True
    return bool(another and (cues.REPLACED_AFTER.match(after) or re.match(r"(?:->|=>|→)(?!\S)", after)))


def said_of(line: Line, cue: Span, mention: Mention, others: Sequence[Span]) -> bool:
    """Whether "formerly" is said of the value: in the same part of the sentence, and not of another value there."""
    a, b = mention.start, mention.end
    while a and line.tokens[a - 1].word not in SEPARATORS:
        a -= 1
    while b < len(line.tokens) and line.tokens[b].word not in SEPARATORS:
        b += 1
    start, end = cue
    if a <= start and end <= mention.start:
        return not any(end <= other < mention.start for other, _ in others)
    if not (mention.end <= start and end <= b):
        return False
    # "X (formerly approved by Y)", "X formerly Y"
    behind = [other for other, _ in others if end <= other < b]
    apart = ASIDE.intersection(line.part(mention.end, start).split())
    return not behind or not (apart or ARTICLES.issuperset(line.part(end, min(behind)).split()))


def taken_back(line: Line, mention: Mention, retracted: Sequence[tuple[int, int]]) -> bool:
    """Whether words of withdrawal cover the value: it stands before them, or behind them with no new clause between."""
    own = mention.masked
    for start, end in retracted:
        if own and start >= own[0] and end <= own[1]:
            continue
        between = line.part(end, own[0] if own and end <= own[0] else mention.start)
        if ":" in between and line.part(start, end).startswith("is "):  # "the old way is over: ..."
            continue
        apart = re.search(r"(?<!\S)(?:,|;|and|but|now|instead|-|–|—)(?!\S)", between)
        if mention.start < end or between.startswith(":") or not apart:
            return True
    return False


def either(line: Line, mention: Mention) -> bool:
    """Whether the value is one of two: "X or the managing editor"."""
    if mention.masked:
        return False
    after = line.part(mention.end, min(mention.end + 2, len(line.tokens)))
    start = mention.start
    while start and line.tokens[start - 1].word in ARTICLES | {"by", "to", "with", "at", "on"}:
        start -= 1
    before = line.part(max(0, start - 2), start)
    if mention.value.stems[:1] and mention.value.stems[0].isdecimal() and re.search(ROUGHLY, before):
        return True
    return bool(re.match(r"or (?:a|an|the)(?!\S)", after)) or bool(
        re.search(r"(?<!\S)(?:or|(?:may|might|could) be)$", before)
    )


def excepted(slot: Slot, tokens: Sequence[Token], following: Sentence | None) -> bool:
    """Whether the rule's exception, and no other, stands there with a word that makes it one; true without one."""
    if not slot.exception:
        return True
    for part in (tokens, following.tokens if following else ()):
        stems = {token.stem for token in part}
        if slot.exception & stems and cues.EXCEPTING.search(Line(part).text):
            return not slot.other_exceptions & stems
    return False


def opposite(slot: Slot, line: Line, mention: Mention) -> bool:
    """Whether a cap has become a floor, or the reverse."""
    if slot.bound is None or mention.masked:
        return False
    return (direction(line, mention.start, mention.end) or slot.bound) != slot.bound


@lru_cache(maxsize=64)
def attributed(text: str) -> tuple[bool, ...]:
    """For every sentence, whether it stands in somebody else's mouth by what was said before it."""
    found: list[bool] = []
    theirs = False  # the quotation or block that is open now was introduced as somebody else's
    block = -1  # paragraph that a line ending in ":" introduced as somebody else's
    pending = 0  # sentences for which a quotation that begins is still somebody else's
    before: Sentence | None = None
    for row in sentences(text):
        head, line = Line(row.heading).text, Line(row.tokens).text
        if before is not None and before.role != row.role:
            theirs, pending, block = False, 0, -1
        if row.quoted:
            theirs = theirs if before is not None and before.quoted else pending > 0
        else:
            theirs = row.paragraph == block
        found.append(theirs or bool(cues.OUTSIDER.search(head) and not cues.ADOPTED.search(head)))
        if cues.OUTSIDER.search(line) and not cues.ADOPTED.search(line):
            pending = INTRODUCED_WITHIN
            theirs = theirs or row.quoted
            block = row.paragraph if row.tokens[-1].word == ":" else block
        elif row.tokens[-1].word == ":" and OURS.intersection(token.word for token in row.tokens):
            pending = 0  # "our office guide has this page:"
        else:
            pending -= pending > 0
        before = row
    return tuple(found)
