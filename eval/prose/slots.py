"""What `said` looks for: a rule's words, values, steps and own sentence as token stems, and where they stand."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from eval.prose.polarity import Line, direction
from eval.prose.tokens import ARTICLES, Token, in_a_row, tokenise
from eval.scenarios import Rule

Stems = tuple[str, ...]
STEP = re.compile(r"\s*(?:,|;|->|→|>|\bthen\b|\band\b)\s*(?:then\b\s*|and\b\s*)?")
# Marks that end a value without being part of it, and those that may stand inside a rule's own sentence.
MARKS = frozenset(".,;:!?()—–-")
UNCLEAR = "?"  # name of an order that the words leave open
NUMBERED = frozenset(
    {"rule", "section", "item", "point", "no", "number", "step", "paragraph", "page", "version", "chapter"}
)


@dataclass(frozen=True)
class Value:
    """One value: its name as the rule has it, its stems without articles, whether it began with an article."""

    name: str
    stems: Stems
    article: bool
    steps: tuple[Stems, ...] = ()

    @property
    def capital(self) -> bool:
        """One capitalised word, which in lower case may be just a word."""
        return len(self.stems) == 1 and self.name[:1].isupper() and self.name[1:].islower()


@dataclass(frozen=True)
class Mention:
    """A value at the tokens [start, end) of a sentence; `masked`: span of the rule's own sentence around it."""

    value: Value
    start: int
    end: int
    masked: tuple[int, int] | None = None


@dataclass(frozen=True)
class Slot:
    """A rule, ready to be looked for.

    Attributes:
        about: groups of alternatives, each a sequence of stems.
        values: the binding value first, then the old one, then the others.
        front, back: stems of the rule's own sentence in front of the value and behind it.
        back_short: `back` up to the exception.
        topic: stems of the content words of the topic.
        exception: stems of which one must stand beside the rule; `other_exceptions` those of which none may.
        ordered: the values are orders of steps.
        bound: "most" or "least" for caps.
    """

    about: tuple[tuple[Stems, ...], ...]
    values: tuple[Value, ...]
    front: Stems
    back: Stems
    back_short: Stems
    topic: frozenset[str]
    exception: frozenset[str]
    other_exceptions: frozenset[str]
    ordered: bool
    bound: str | None


def bare(tokens: Sequence[Token]) -> list[tuple[int, str]]:
    """(token number, stem) of everything but articles."""
    return [
        (i, t.stem) for i, t in enumerate(tokens) if t.word not in ARTICLES or (t.word == "a" and t.raw == "A" and i)
    ]


def value_of(name: str, ordered: bool) -> Value:
    """A value as stems."""
    tokens = tokenise(name)
    while len(tokens) > 1 and tokens[-1].word in MARKS:
        tokens = tokens[:-1]
    stems = tuple(stem for _, stem in bare(tokens)) or tuple(t.stem for t in tokens)
    steps = tuple(value_of(part, False).stems for part in STEP.split(name) if part.strip()) if ordered else ()
    return Value(name, stems, bool(tokens) and tokens[0].word in ARTICLES, steps)


@lru_cache(maxsize=4096)
def slot_of(rule: Rule) -> Slot:
    """The rule as stems."""
    said = rule.statement
    names = dict.fromkeys((said.value, *((rule.old_value,) if rule.old_value else ()), *said.others))
    ordered = rule.type == "order" and len([part for part in STEP.split(said.value) if part.strip()]) > 1
    values = tuple(value_of(name, ordered) for name in names)
    tokens = tokenise(rule.text)
    own = Line(tokens)
    found = mentions(tokens, values[:1])
    front: Stems = ()
    back: Stems = ()
    short: Stems = ()
    bound = None
    if found:
        first = found[0]
        front = tuple(s for _, s in bare(tokens[: first.start]))
        tail = tokens[first.end :]
        while tail and tail[-1].word in MARKS:
            tail = tail[:-1]
        back = tuple(s for _, s in bare(tail))
        cut = next((i for i, t in enumerate(tail) if t.word in ("unless", "except")), len(tail))
        short = tuple(s for _, s in bare(tail[:cut]) if s not in MARKS or cut == len(tail))
        bound = direction(own, first.start, first.end)
    about = tuple(tuple(tuple(t.stem for t in tokenise(word)) for word in group) for group in said.about)
    skipped = ARTICLES | frozenset(
        "who what which when where how is are of for to in on do does may we our us i my".split()
    )
    return Slot(
        about=about,
        values=values,
        front=front,
        back=back,
        back_short=short,
        topic=frozenset(t.stem for t in tokenise(rule.topic) if t.word not in skipped),
        exception=frozenset(t.stem for word in said.exception for t in tokenise(word)),
        # What the rule's own sentence says is no sign of another exception.
        other_exceptions=frozenset(t.stem for word in said.other_exceptions for t in tokenise(word))
        - {t.stem for t in tokens},
        ordered=ordered,
        bound=(bound or "most") if rule.type == "cap" else None,
    )


def is_about(slot: Slot, tokens: Sequence[Token], stems: frozenset[str]) -> bool:
    """Whether every group has a word among the tokens; `stems` are theirs."""
    for group in slot.about:
        if not any((a[0] in stems) if len(a) == 1 else in_a_row([t.stem for t in tokens], a) for a in group):
            return False
    return bool(slot.about)


def mentions(tokens: Sequence[Token], values: Sequence[Value]) -> list[Mention]:
    """Values in a sentence, in order; longer ones first, none inside another."""
    row = bare(tokens)
    present = {stem for _, stem in row}
    taken: set[int] = set()
    found: list[Mention] = []
    for value in sorted(values, key=lambda v: -len(v.stems)):
        size = len(value.stems)
        if not size or not present.issuperset(value.stems):
            continue
        for at in range(len(row) - size + 1):
            span = range(at, at + size)
            if tuple(row[i][1] for i in span) != value.stems or taken.intersection(span):
                continue
            start, end = row[at][0], row[at + size - 1][0] + 1
            if part_of_longer(tokens, start, value) or counts_rules(tokens, start, value):
                continue
            taken.update(span)
            found.append(Mention(value, start, end))
    exact = [m for m in found if m.value.capital and tokens[m.start].raw[:1].isupper()]
    if exact:
        inner = [m for m in exact if m.start > 0] or exact
        found = [m for m in found if not m.value.capital or m in inner]
    return sorted(found, key=lambda m: m.start)


def part_of_longer(tokens: Sequence[Token], start: int, value: Value) -> bool:
    """Whether "editor" of "the editor" is that of "the night editor"."""
    if not value.article or len(value.stems) > 1:
        return False
    before = start - 1
    while before >= 0 and start - before <= 3:
        word = tokens[before].word
        if word in ARTICLES:
            return start - before > 1
        if not word.isalpha() or word in FUNCTION:
            return False
        before -= 1
    return start > 0 and before < 0 and start <= 2


def counts_rules(tokens: Sequence[Token], start: int, value: Value) -> bool:
    """Whether a number only numbers a rule: "rule 3"."""
    return value.stems[0].isdecimal() and start > 0 and tokens[start - 1].word in NUMBERED


FUNCTION = frozenset(
    "by to from with for of in on at is are was be not no only and or but unless until before after through via as "
    "must may should ask asks tell goes go it who that then than if when so has have gives our my your".split()
)


def own_sentence(slot: Slot, tokens: Sequence[Token], mention: Mention) -> Mention:
    """The mention with the span of the rule's own sentence, where the sentence around it is the rule's own."""
    if not slot.front and not slot.back:
        return mention
    row = bare(tokens)
    numbers = [i for i, _ in row]
    stems = [s for _, s in row]
    at = numbers.index(next(i for i in numbers if i >= mention.start))
    end = next((n for n, i in enumerate(numbers) if i >= mention.end), len(numbers))
    first = at - len(slot.front)
    if first < 0 or tuple(stems[first:at]) != slot.front:
        return mention
    for back in (slot.back, slot.back_short):
        if tuple(stems[end : end + len(back)]) == back:
            last = end + len(back)
            return Mention(mention.value, mention.start, mention.end, (numbers[first], numbers[last - 1] + 1))
    return mention


def ordered_mentions(slot: Slot, tokens: Sequence[Token], line: Line) -> list[Mention]:
    """Orders of steps in a sentence: by how the steps follow each other, "then", "->", "before", "after" understood."""
    steps = {stems for value in slot.values for stems in value.steps}
    parts = [Value(" ".join(stems), stems, False) for stems in steps]
    at = mentions(tokens, parts)
    found: list[Mention] = []
    while at:
        row: list[Mention] = []
        for mention in at:
            if any(mention.value.stems == m.value.stems for m in row):
                break
            row.append(mention)
        at = at[len(row) :]
        if len(row) < len(slot.values[0].steps):
            continue
        order = arranged(row, line)
        named = next((v for v in slot.values if order and v.steps == order), None)
        name = ", ".join(" ".join(stems) for stems in order) if order else UNCLEAR
        found.append(Mention(named or Value(name, (), False, order or ()), row[0].start, row[-1].end))
    return found


RANKS = {"first": 0, "firstly": 0, "second": 1, "secondly": 1, "third": 2, "finally": 9, "last": 9, "lastly": 9}


def arranged(row: Sequence[Mention], line: Line) -> tuple[Stems, ...] | None:
    """The steps in the order that is meant; None if the words do not say one."""
    names = [mention.value.stems for mention in row]
    earlier: dict[Stems, set[Stems]] = {name: set() for name in names}
    ranks = [RANKS[w.word] for w in line.tokens[max(0, row[0].start - 2) : row[-1].end] if w.word in RANKS]
    if ranks != sorted(ranks):
        return None
    for left, right in zip(row, row[1:], strict=False):
        between = f" {line.part(left.end, right.start)} "
        front = line.part(max(0, left.start - 2), left.start).split()
        if (
            " after " in between
            and " after that " not in between
            or " follows " in between
            or " preceded by " in between
        ):
            earlier[left.value.stems].add(right.value.stems)
        elif "before" in front and " before " not in between and " then " not in between:
            earlier[left.value.stems].add(right.value.stems)
        elif re.search(r" (?:or|not|never) ", between):
            return None
        else:
            earlier[right.value.stems] |= set(names[: names.index(right.value.stems)])
    order: list[Stems] = []
    while len(order) < len(names):
        free = [name for name in names if name not in order and earlier[name] <= set(order)]
        if len(free) != 1:
            return None
        order.append(free[0])
    return tuple(order)
