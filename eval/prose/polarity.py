"""Is a value negated, is a cap a floor: the scope of negation in one sentence, by rules of thumb."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from eval.prose import cues
from eval.prose.tokens import ARTICLES, Token

Span = tuple[int, int]
# (start, end, whether it is a plain negation like "not", other than "forbidden")
Cue = tuple[int, int, bool]


@dataclass(frozen=True)
class Line:
    """Tokens as one string of words, with the way back from characters to token numbers."""

    tokens: Sequence[Token]

    @cached_property
    def text(self) -> str:
        """Words with single blanks between; what only looks like a negation is blotted out."""
        return cues.FALSE_FRIEND.sub(
            lambda match: re.sub(r"\S", "~", match[0]), " ".join(token.word for token in self.tokens)
        )

    @cached_property
    def starts(self) -> list[int]:
        """First character of every token."""
        found, at = [], 0
        for token in self.tokens:
            found.append(at)
            at += len(token.word) + 1
        return found

    def spans(self, pattern: re.Pattern[str]) -> Iterator[Span]:
        """Token spans [start, end) that match."""
        for match in pattern.finditer(self.text):
            yield bisect_right(self.starts, match.start()) - 1, bisect_right(self.starts, match.end() - 1)

    def part(self, start: int, end: int) -> str:
        """Words of the tokens [start, end)."""
        if start >= end:
            return ""
        stop = self.starts[end] - 1 if end < len(self.starts) else len(self.text)
        return self.text[self.starts[start] : stop]


def outside(spans: Iterator[Span], masked: Sequence[Span]) -> list[Span]:
    """Spans that do not touch any of `masked`."""
    return [s for s in spans if all(s[1] <= start or s[0] >= end for start, end in masked)]


def negated(
    line: Line,
    start: int,
    end: int,
    forbids: bool,
    others: Sequence[Span],
    masked: Sequence[Span],
) -> bool:
    """Whether the value at tokens [start, end) is negated.

    Args:
        line: the sentence.
        start: first token of the value.
        end: token behind it.
        forbids: the rule's value is one to avoid, so that words of removing count too.
        others: spans of the sentence's other values.
        masked: spans of the rule's own sentence and of values; their words are no cues.
    """
    plain = outside(line.spans(cues.GRAMMATICAL), masked)
    verbal = {e for _, e in line.spans(cues.VERBAL)}
    forbidding = outside(line.spans(cues.FORBIDDING), masked)
    if forbids:
        removing = list(line.spans(cues.REMOVING))
        around = [
            s for s in removing if s[0] < start and s[1] > end and not any(a <= s[0] and s[1] <= b for a, b in masked)
        ]
        forbidding += [s for s in outside(iter(removing), masked) if s not in forbidding] + around  # "keep X out"
    if len(plain) > 1 or forbids:
        plain = [s for s in plain if line.part(*s) != "without" or len(plain) == 1]
    turning = cues.TURNING_BAN if forbids else cues.TURNING
    reached: list[Cue] = []
    for s in plain:
        if s[1] <= start and reaches(line, s, start, s[1] in verbal, forbids, others, turning):
            reached.append((*s, True))
        elif s[0] >= end and s[1] in verbal and reaches_back(line, end, s):
            reached.append((*s, True))
    for s in forbidding:
        inside = s[0] < start and s[1] > end
        if inside or (s[1] <= start and reaches(line, s, start, True, forbids, others, turning)):
            reached.append((*s, False))
        elif s[0] >= end and reaches_back(line, end, s):
            reached.append((*s, False))
    if not reached:
        return (
            forbids
            and bool(outside(line.spans(cues.TELLING), masked))
            and all(line.part(*s) == "nobody" for s in plain)
        )
    if (
        not forbids
        and in_clause(line, start, reached)
        and any(s[:2] not in {r[:2] for r in reached} for s in rejecting(line, plain))
    ):
        return False
    return any(odd(nest) for nest in nests(line, reached, start))


def rejecting(line: Line, plain: list[Span]) -> list[Span]:
    """Cues that a case is turned down: "what does not show X is rejected"."""
    return plain + list(line.spans(cues.NEGATIVE_END))


def in_clause(line: Line, start: int, reached: list[Cue]) -> bool:
    """Whether a cue before the value stands in a clause with "if", "that" ..."""
    return any(r[0] < start and cues.SUBORDINATE.search(line.part(max(0, r[0] - 5), r[0])) for r in reached)


def reaches(
    line: Line,
    cue: Span,
    start: int,
    clause: bool,
    forbids: bool,
    others: Sequence[Span],
    turning: re.Pattern[str],
) -> bool:
    """Whether a cue in front of the value has it in its scope."""
    between = line.part(cue[1], start)
    if cues.BREAK.search(between) or turning.search(between) or (cues.COLON.search(between) and not forbids):
        return False
    if not forbids and line.part(start - 1, start) in ("except", "but"):
        return False
    commas = [i for i in range(cue[1], start) if line.tokens[i].word == ","]
    if commas:
        value_first = any(cue[1] <= s and e <= commas[-1] for s, e in others)
        opened = cues.SUBORDINATE.match(line.part(clause_start(line, cue[0]), cue[0]))
        word = line.part(*cue)
        contrast = not (clause or word in ("never", "no")) or (
            word == "no" and commas[0] == cue[1]
        )  # "not X, Y"; "no, Y"
        if contrast or opened or (value_first and not forbids):
            return False
    relative = any(
        r > cue[1] for r, _ in line.spans(cues.GRAMMATICAL) if cue[1] <= r < start
    ) and cues.SUBORDINATE.search(between)
    return not (relative and not forbids)


def clause_start(line: Line, at: int) -> int:
    """First token of the comma-separated part that holds token `at`."""
    while at > 0 and line.tokens[at - 1].word not in (",", ";", ":", "and", "but"):
        at -= 1
    return at


def reaches_back(line: Line, end: int, cue: Span) -> bool:
    """Whether a cue behind the value has it in its scope."""
    between = line.part(end, cue[0])
    after = line.part(cue[1], min(cue[1] + 3, len(line.tokens)))
    blocked = (
        cues.BREAK.search(between)
        or cues.COMMA.search(between)
        or cues.COLON.search(between)
        or cues.SUBORDINATE.search(between)
    )
    return not (
        blocked
        or re.search(r"(?<!\S)and(?!\S)", between)
        or cues.AFTER_TURNING.search(after)
        or cues.TURNING.match(after)
    )


def nests(line: Line, reached: list[Cue], start: int) -> Iterator[list[Cue]]:
    """Cues in groups that work on each other: on one side of the value, nothing joining between them."""
    nest: list[Cue] = []
    for cue in sorted(reached):
        apart = nest and ((nest[-1][0] < start) != (cue[0] < start) or cues.JOIN.search(line.part(nest[-1][1], cue[0])))
        if apart:
            yield nest
            nest = []
        nest.append(cue)
    yield nest


def odd(nest: list[Cue]) -> bool:
    """Whether it negates: "not forbidden" cancels out; "never, not by anybody" does not."""
    return len({plain for *_, plain in nest}) == 1


def direction(line: Line, start: int, end: int) -> str | None:
    """Give "most" or "least" for a number with such words directly before or behind it."""
    while start and line.tokens[start - 1].word in ARTICLES | {"of", "is"}:
        start -= 1
    before = line.part(max(0, start - 3), start)
    if before:
        for pattern, meaning in ((cues.LEAST, "least"), (cues.MOST, "most")):
            if any(match.end() == len(before) for match in pattern.finditer(before)):
                return meaning
        if any(match.end() == len(before) for match in cues.MORE.finditer(before)):
            turned = any(e <= start for _, e in line.spans(cues.GRAMMATICAL)) or any(
                e <= start for _, e in line.spans(cues.FORBIDDING)
            )
            return "most" if turned else "least"
    return "least" if cues.OR_MORE.match(line.part(end, min(end + 3, len(line.tokens)))) else None
