"""Words, numbers and light inflection: what `eval.prose.said` compares instead of characters.

"1,500" and "fifteen hundred" spelt as numbers, "5 p.m." and "17:00", "40-minute" and "40 minutes", "editor's" and
"editors" come out alike; "12" and "12.5" or "editor" and "edition" do not.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

ARTICLES = frozenset({"a", "an", "the"})
MONTHS = frozenset(
    "january february march april may june july august september october november december".split()
    + "jan feb mar apr jun jul aug sep sept oct nov dec".split()
)
WEEKDAYS = frozenset("monday tuesday wednesday thursday friday saturday sunday".split())
DATE = "<date>"

SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
NUMBER_WORDS = {word: value for value, word in enumerate(SMALL)} | {w: 10 * n for n, w in enumerate(TENS, 2)}
SCALES = {"hundred": 100, "thousand": 1000, "million": 1_000_000}
ORDINALS = "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth".split()
# Words of which a sentence without digits must have one for a number, a time or a date to be in it.
NUMERIC = MONTHS | frozenset({*NUMBER_WORDS, *SCALES, "dozen", "noon", "cent"})
UNITS = {
    "%": "percent", "€": "euro", "eur": "euro", "$": "dollar", "usd": "dollar", "£": "pound", "gbp": "pound",
    "min": "minute", "mins": "minute", "hr": "hour", "hrs": "hour", "sec": "second", "secs": "second",
}  # fmt: skip
CURRENCIES = "€$£"
# Before these, "one" is a pronoun and no number.
PRONOUN_BEFORE = frozenset("the this that which each every any another some".split())

# Not inflection by rule, and common in policies.
IRREGULAR = {
    "wrote": "write", "written": "write", "sent": "send", "paid": "pay", "went": "go", "gone": "go", "goes": "go",
    "ran": "run", "made": "make", "kept": "keep", "chose": "choose", "chosen": "choose", "gave": "give",
    "given": "give", "took": "take", "taken": "take", "began": "begin", "held": "hold", "met": "meet",
    "agreed": "agree", "spoke": "speak", "spoken": "speak", "told": "tell", "bought": "buy", "spent": "spend",
    "brought": "bring", "people": "person", "children": "child", "does": "do", "did": "do", "done": "do",
}  # fmt: skip

TOKEN = re.compile(
    r"\d{4}-\d{2}-\d{2}|\d{1,2}:\d{2}|\d+(?:,\d{3})+(?:\.\d+)?|\d+\.\d+|->|=>|→|[^\W_]+(?:['’][^\W\d_]+)*[+#]*|[^\w\s]"
)
# Marks that carry no words: emphasis, quotes, brackets of dates.
SILENT = frozenset("*`\"“”„«»'‘’[]#_~|")
# Hyphens, slashes and dots inside words; dashes with blanks around them remain.
JOINED = re.compile(r"(?<=\w)(?:[-‐‑–/](?=\w)|\.(?=[^\W\d]))")
DIGITS_UNIT = re.compile(r"(\d+)([^\W\d_]+)")
CLOCK = re.compile(r"(\d{1,2})(?::(\d{2}))?")
ISO_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
MERIDIEM = re.compile(r"\b([ap])\.\s?m\.(?=(\s+[A-Z])?)", re.IGNORECASE)


class Token(NamedTuple):
    """One word, number or mark.

    Attributes:
        word: lower case, numbers in digits.
        stem: `word` without inflection; equal for words that count as the same.
        raw: as written.
    """

    word: str
    stem: str
    raw: str


@lru_cache(maxsize=20_000)
def stem(word: str) -> str:
    """`word` without plural, possessive, -ed and -ing (after Porter's step 1); lower case expected."""
    if word in IRREGULAR:
        word = IRREGULAR[word]
    if len(word) < 4 or not word.isalpha():
        return word
    if word.endswith(("ies", "ied")) and len(word) > 4:
        word = word[:-3] + "y"
    elif word.endswith(("sses", "xes", "ches", "shes")):
        word = word[:-2]
    elif word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    for ending in ("ing", "ed"):
        base = word.removesuffix(ending)
        if base == word or word.endswith("eed") or len(base) < 2 or not any(letter in "aeiouy" for letter in base):
            continue
        short = len(base) <= 3 and base[-1] not in "aeiouwxy" and base[-2] in "aeiou"
        word = base + "e" if short else base
        break
    if word.endswith("e") and len(word) > 4:
        word = word[:-1]
    if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "aeiou":
        word = word[:-1]
    return word


def tokenise(text: str) -> tuple[Token, ...]:
    """Tokens of one sentence, marks included, in order."""
    text = MERIDIEM.sub(lambda match: match[1] + "m" + ("." if match[2] else ""), text)
    rough: list[tuple[str, str]] = []
    for match in TOKEN.finditer(JOINED.sub(" ", text)):
        raw = match[0]
        if raw not in SILENT:
            rough += expand(raw)
    return tuple(Token(word, stem(word), raw) for word, raw in numbers(swap_currency(rough)))


def in_a_row(words: Sequence[str], wanted: Sequence[str]) -> bool:
    """Whether `wanted` stand in `words`, one right after the other; false where nothing is wanted."""
    row, size = list(wanted), len(wanted)
    return size > 0 and any(list(words[at : at + size]) == row for at in range(len(words) - size + 1))


def expand(raw: str) -> list[tuple[str, str]]:
    """One piece of text as (word, raw) pairs: contractions and glued units taken apart."""
    word = raw.lower().replace("’", "'")
    if word.endswith("n't"):
        verb = {"ca": "can", "wo": "will", "sha": "shall"}.get(word[:-3], word[:-3])
        return [(verb, raw), ("not", raw)]
    if word == "cannot":
        return [("can", raw), ("not", raw)]
    if "'" in word:
        word, _, rest = word.partition("'")
        return [(word, raw)] if rest in ("s", "") else [(word, raw), (rest, raw)]
    if "," in word[1:]:
        return [(word.replace(",", ""), raw)]
    glued = DIGITS_UNIT.fullmatch(word)
    if glued:
        number, unit = glued.groups()
        if unit in ("st", "nd", "rd", "th"):
            return [(ORDINALS[int(number) - 1] if 1 <= int(number) <= 12 else word, raw)]
        if unit == "k":
            return [(str(int(number) * 1000), raw)]
        return [(number, raw), (UNITS.get(unit, unit), raw)]
    return [(UNITS.get(word, word), raw)]


def swap_currency(rough: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The unit behind its number, as in speech: "$500" as 500 dollar."""
    for index in range(len(rough) - 1):
        if rough[index][1] in CURRENCIES and rough[index + 1][0][:1].isdecimal():
            rough[index], rough[index + 1] = rough[index + 1], rough[index]
    return rough


def numbers(rough: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Number words in digits; times of day as h:mm; days with their month as one date."""
    words = [word for word, _ in rough]
    if not any(word in NUMERIC or word[0].isdecimal() for word in words):
        return rough
    found: list[tuple[str, str]] = []
    at = 0
    while at < len(words):
        word, end = number_at(words, at)
        raw = rough[at][1]
        if end > at + 1:
            raw = " ".join(part for _, part in rough[at:end])
        if words[at : at + 2] == ["per", "cent"]:
            word, end = "percent", at + 2
        elif words[at : at + 2] == ["no", "one"]:
            word, end = "nobody", at + 2
        elif word == "noon":
            word = "12:00"
        clock = CLOCK.fullmatch(word) if word[0].isdecimal() else None
        if clock and end < len(words) and words[end] in ("am", "pm"):
            hour = int(clock[1]) % 12 + (12 if words[end] == "pm" else 0)
            word, end = f"{hour}:{clock[2] or '00'}", end + 1
        elif clock and clock[2]:
            word = f"{int(clock[1])}:{clock[2]}"
        found.append((word, raw))
        at = end
    return dates(found)


def number_at(words: list[str], at: int) -> tuple[str, int]:
    """The number that starts at `at` in digits and the index behind it; the word itself if there is none."""
    word = words[at]
    total, part, index = 0, None, at
    if word == "a" and words[at + 1 : at + 2] and words[at + 1] in ("hundred", "thousand", "million", "dozen"):
        part, index = 1, at + 1
    elif word == "one" and (words[at + 1 : at + 2] == ["of"] or (at and words[at - 1] in PRONOUN_BEFORE)):
        return word, at + 1
    while index < len(words):
        word = words[index]
        if word in NUMBER_WORDS and (
            part is None or part % 100 == 0 or (part % 10 == 0 and 0 < NUMBER_WORDS[word] < 10)
        ):
            if part is not None and part % 100 == 0 and part and index and words[index - 1] not in ("and", "hundred"):
                break
            part = (part or 0) + NUMBER_WORDS[word]
        elif word.isdecimal() and part is None and index == at:
            part = int(word)
            if words[index + 1 : index + 2] and words[index + 1] not in SCALES:
                return str(part), index + 1
        elif word == "hundred" and part is not None and part < 100:
            part *= 100
        elif word in ("thousand", "million") and part is not None:
            total, part = total + part * SCALES[word], 0
        elif word == "dozen" and part == 1:
            part = 12
        elif word == "and" and part and part % 100 == 0 and words[index + 1 : index + 2] and words[index - 1] in SCALES:
            if words[index + 1] not in NUMBER_WORDS:
                break
        else:
            break
        index += 1
    if part is None:
        return words[at], at + 1
    return str(total + part), index


def dates(found: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Day and month (and year) as one token, so that no day is taken for a cap."""
    kept: list[tuple[str, str]] = []
    for word, raw in found:
        before = kept[-1][0] if kept else ""
        month = word in MONTHS and raw[:1].isupper()
        day = word.isdecimal() and len(word) <= 2 or word in ORDINALS
        if word[0].isdecimal() and ISO_DATE.fullmatch(word):
            kept.append((DATE, raw))
        elif month and (before.isdecimal() or before in ORDINALS):
            kept[-1] = (DATE, f"{kept[-1][1]} {raw}")
        elif day and before in MONTHS and kept[-1][1][:1].isupper():
            kept[-1] = (DATE, f"{kept[-1][1]} {raw}")
        elif before == DATE and word.isdecimal() and len(word) == 4:
            kept[-1] = (DATE, f"{kept[-1][1]} {raw}")
        else:
            kept.append((word, raw))
    return kept
