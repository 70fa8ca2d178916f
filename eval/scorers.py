"""From an answer to a score: pure functions, the project's metric and the reward that training imports.

Two views, kept apart: what a memory's text still says of the rules (`eval.prose.said`), and what the model can still do
(options ranked by likelihood, written answers checked by code).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from eval.prose.said import Said, said
from eval.prose.sentences import BULLET, split
from eval.prose.tokens import in_a_row
from eval.scenarios import EXISTENCE_OPTIONS, Check, Rule
from memkv.errors import InvalidInput

WORD = re.compile(r"[^\W_]+(?:['’.-][^\W_]+)*")
# What may stand around an answer without being part of it.
WRAPPING = " \t\r\n\"'“”„‘’«»*_`#>()[]"
CLOSING = WRAPPING + ".,;:!?"
LETTER = re.compile(
    r"[\s*_`\"'(\[]*(?:(?:the )?(?:correct |right )?(?:answer|option|choice)(?: is)?\s*:?\s*)?[\s*_`\"'(\[]*"
    r"([A-Za-z])(?:[)\]\"'*_`]*\s*$|[)\]\"'*_`]*[.):](?!\w)|[)\]\"'*_`]*\s*\n|\s+[-–—]\s)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Choice:
    """The likeliest of several options.

    Attributes:
        right: the right one alone is the likeliest; ties are not right.
        probability: of the right one under a softmax of the scores.
        choice: index of the likeliest (the first of several).
    """

    right: bool
    probability: float
    choice: int


@dataclass(frozen=True)
class Existence:
    """Whether there is such a rule, by the three options of an existence probe.

    Attributes:
        p_yes, p_no, p_unsure: shares under a softmax of the scores; they add up to one.
        says: the likeliest; None for a tie.
    """

    p_yes: float
    p_no: float
    p_unsure: float
    says: Literal["yes", "no", "not sure"] | None


@dataclass(frozen=True)
class TextScore:
    """What a text says of all rules of a scenario.

    Attributes:
        survived: share of the binding rules that it says rightly; None without binding rules.
        binding: number of rules that bind.
        right, stale, wrong, ambiguous, distorted, absent: binding rules by verdict.
        false_rules: rules that do not bind and are stated all the same.
        not_binding: number of rules that do not bind.
        verdicts: rule id -> reading, of all rules.
    """

    survived: float | None
    binding: int
    right: int
    stale: int
    wrong: int
    ambiguous: int
    distorted: int
    absent: int
    false_rules: int
    not_binding: int
    verdicts: dict[str, Said]


def is_kept(verdict: str) -> bool:
    """Whether a text with this verdict still says a binding rule."""
    return verdict == "right"


def is_claimed(verdict: str) -> bool:
    """Whether a text with this verdict states the rule at all, rightly or not."""
    return verdict != "absent"


def survives(reading: Said, rule: Rule) -> float | None:
    """1.0 for a binding rule that the text says rightly, else 0.0; None for a rule that does not bind."""
    return float(is_kept(reading.verdict)) if rule.binds else None


def false_rule(reading: Said, rule: Rule) -> bool:
    """Whether a rule that does not bind (never said, revoked, quoted ...) is stated as one that does."""
    return not rule.binds and is_claimed(reading.verdict)


def text_survival(text: str, rules: Sequence[Rule], transcript: bool = False) -> TextScore:
    """Read `text` for every rule; `transcript` as in `said`."""
    readings = {rule.id: said(text, rule, transcript) for rule in rules}
    binding = [rule for rule in rules if rule.binds]
    verdicts = [readings[rule.id].verdict for rule in binding]
    return TextScore(
        survived=verdicts.count("right") / len(binding) if binding else None,
        binding=len(binding),
        right=verdicts.count("right"),
        stale=verdicts.count("stale"),
        wrong=verdicts.count("wrong"),
        ambiguous=verdicts.count("ambiguous"),
        distorted=verdicts.count("distorted"),
        absent=verdicts.count("absent"),
        false_rules=sum(false_rule(readings[rule.id], rule) for rule in rules),
        not_binding=len(rules) - len(binding),
        verdicts=readings,
    )


def softmax(scores: Sequence[float], probe: str = "") -> tuple[float, ...]:
    """Shares of `scores` (log-likelihoods a token, nats).

    Raises:
        InvalidInput: no scores, or one that is no finite number; the message names the probe.
    """
    if not scores or not all(math.isfinite(score) for score in scores):
        named = f"Probe {probe!r}" if probe else "A probe"
        raise InvalidInput(
            f"{named} has likelihoods that cannot be ranked: {[float(score) for score in scores]}",
            "Look at the model's logits; half precision overflows on some models, try --dtype float32.",
        )
    top = max(scores)
    weights = [math.exp(score - top) for score in scores]
    total = math.fsum(weights)
    return tuple(weight / total for weight in weights)


def choose(scores: Sequence[float], answer: int, probe: str = "") -> Choice:
    """The likeliest option, and how likely the right one is.

    Args:
        scores: log-likelihood a token of every option, nats.
        answer: index of the right option.
        probe: its id, for the message.

    Raises:
        InvalidInput: NaN, infinite or no scores, or an answer that is none of the options.
    """
    shares = softmax(scores, probe)
    if not 0 <= answer < len(scores):
        raise InvalidInput(f"Probe {probe!r} has no option {answer}", f"It has {len(scores)}, counted from 0.")
    top = max(scores)
    right = scores[answer] == top and list(scores).count(top) == 1
    return Choice(right, shares[answer], list(scores).index(top))


def existence(scores: Sequence[float], probe: str = "") -> Existence:
    """An existence probe's scores, in the order of EXISTENCE_OPTIONS, as a reading.

    Raises:
        InvalidInput: not three scores, or one that is no finite number.
    """
    if len(scores) != len(EXISTENCE_OPTIONS):
        raise InvalidInput(
            f"Probe {probe!r} has {len(scores)} scores", "An existence probe has three: yes, no, not sure."
        )
    shares = softmax(scores, probe)
    top = max(scores)
    says = ("yes", "no", "not sure")[list(scores).index(top)] if list(scores).count(top) == 1 else None
    return Existence(*shares, says=says)


def complies(text: str, check: Check) -> bool:
    """Whether a written answer passes its check: whole words, case ignored, quotes and emphasis around them too.

    An answer without a single word or sign never complies, whatever the check.

    Raises:
        InvalidInput: a check that needs a value and has none, or one of the wrong type.
    """
    found = words_of(text)
    if not found and not (isinstance(check.value, str) and not words_of(check.value) and text.strip()):
        return False
    match check.kind:
        case "starts_with" | "ends_with" | "contains" | "lacks":
            return holds(text, found, check)
        case "max_words":
            return len(found) <= whole(check)
        case "max_sentences":
            return sum(bool(words_of(part)) for line in text.splitlines() for part in split(line)) <= whole(check)
        case "lowercase":
            return text == text.lower() and any(letter.isalpha() for letter in text)
        case "uppercase":
            return text == text.upper() and any(letter.isalpha() for letter in text)
        case "bullets":
            lines = [line for line in text.splitlines() if line.strip()]
            entries = sum(bool(BULLET.match(line)) and bool(words_of(line)) for line in lines)
            return entries == len(lines) if check.value is None else entries == whole(check)


def words_of(text: str) -> list[str]:
    """Words in lower case, marks left out."""
    return [match[0].lower().replace("’", "'") for match in WORD.finditer(text)]


def holds(text: str, found: Sequence[str], check: Check) -> bool:
    """The checks for a word, a few words or a sign."""
    if not isinstance(check.value, str) or not check.value.strip():
        raise InvalidInput(
            f"The check {check.kind!r} needs a text, not {check.value!r}", "Give the words it looks for."
        )
    wanted = words_of(check.value)  # none: a sign
    size, sign, bare = len(wanted), check.value.strip(), text.strip()
    if check.kind == "starts_with":
        if not wanted:
            return bare.startswith(sign)
        return list(found[:size]) == wanted and WORD.match(text.lstrip(WRAPPING)) is not None
    if check.kind == "ends_with":
        if not wanted:
            return bare.endswith(sign)
        return list(found[-size:]) == wanted and text.rstrip(CLOSING)[-1:].isalnum()
    inside = in_a_row(found, wanted) if wanted else sign in bare
    if check.kind == "lacks":
        return not inside
    # Listing every value is no way to comply.
    return inside and not any(holds(text, found, Check("contains", other)) for other in check.others)


def whole(check: Check) -> int:
    """The check's number."""
    value = int(check.value) if isinstance(check.value, str) and check.value.strip().isdigit() else check.value
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidInput(f"The check {check.kind!r} needs a whole number, not {check.value!r}", "Give one.")
    return value


def parse_letter(text: str, n: int) -> int | None:
    """The option that a written answer picks by its letter, alone or at the start; None for no or several letters.

    "A colleague asks" is no answer A.
    """
    match = LETTER.match(text)
    if match is None:
        return None
    index = ord(match[1].upper()) - ord("A")
    rest = re.findall(r"(?<![\w'’])([A-Z])(?=[.):,]|\s*$|\s+(?:or|and)\b)", text[match.end() :])
    others = {ord(letter) - ord("A") for letter in rest} - {index}
    return index if index < n and not any(other < n for other in others) else None
