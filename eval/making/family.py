"""Template families: what rules, and questions about them, are made of. Data in `eval/making/families/<domain>.yaml`.

A family is one rule with its value left open. Families, not scenarios, are split into train, dev and test, so that what
a policy was trained on is never what it is measured on. The loader is strict: a family that breaks a rule of the format
(eval/README.md) is an error that names file and id.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import yaml

from eval.scenarios import Check, Polarity, RuleType, build
from memkv.errors import ConfigError

FOLDER = Path(__file__).parent / "families"
GENERAL, PRACTICE = "general", "practice"
FamilySplit = Literal["train", "practice", "dev", "test"]
FEWEST_VALUES, MOST_VALUES = 5, 8
EXCEPTIONS = 4
SLOT = re.compile(r"\{[vV]alue\}")
# An implicit wording binds without any of these.
RULE_WORDS = re.compile(
    r"\b(must|never|always|shall|only|unless|do not|don't|may not|cannot|can't|not allowed|forbidden|prohibited"
    r"|require[sd]?|needs? to|at most|at least|no more than|without|sign off|approv\w*|limit\w*|maximum|minimum"
    r"|prefer\w*|avoid\w*)\b",
    re.IGNORECASE,
)
NEXT = "Correct the entry; eval/README.md describes the format."


@dataclass(frozen=True)
class Exempt:
    """The exception of a conditional rule.

    Attributes:
        say: goes before the full stop of a wording, "unless the source is in danger".
        words: of which one must stand beside the rule for the exception to be in a text.
        case: the situation that is excepted, one sentence.
        act: what complies in that case.
    """

    say: str
    words: tuple[str, ...]
    case: str
    act: str


@dataclass(frozen=True)
class Family:
    """One rule with its value left open; `{value}` (or `{Value}`, capitalised) stands for it.

    Attributes:
        id: unique in its file; in scenarios domain/id.
        topic: completes "a rule about ...".
        values: mutually exclusive; a rule says one of them.
        say: wordings with the usual words of rules.
        implicit: wordings that bind without them.
        ask: a question that the value answers.
        answer: an option of a value probe.
        tempt: a situation in which the rule counts, which does not name it.
        act: an option of a behaviour probe.
        about: word groups, as in `Statement`.
        exceptions: of conditional rules.
        check: of format rules, with `{value}` as its value.
        write: of format rules, a request to which the written answer is checked.
    """

    id: str
    split: FamilySplit
    type: RuleType
    topic: str
    values: tuple[str, ...]
    say: tuple[str, ...]
    implicit: tuple[str, ...]
    ask: str
    answer: str
    tempt: str
    act: str
    about: tuple[tuple[str, ...], ...]
    polarity: Polarity = "do"
    exceptions: tuple[Exempt, ...] = ()
    check: Check | None = None
    write: str | None = None

    def others(self, value: str) -> tuple[str, ...]:
        """The values that are not `value`."""
        return tuple(other for other in self.values if other != value)

    def check_for(self, value: str) -> Check:
        """The check of an answer under the rule with `value`; only for format families."""
        assert self.check is not None
        wanted = fill(str(self.check.value), value) if self.check.value is not None else None
        others = self.others(value) if self.check.kind == "contains" else ()
        return Check(self.check.kind, int(wanted) if wanted and self.check.kind in COUNTED else wanted, others)


COUNTED = ("max_words", "max_sentences")


def families(domain: str, split: str, folder: Path = FOLDER) -> tuple[Family, ...]:
    """Families of a domain and the general ones, of one split, in the order of their files; ids are domain/id.

    Those of the split "practice" have files of their own, in a folder of that name.

    Raises:
        ConfigError: no such file, or a family that breaks the format.
    """
    home = folder / PRACTICE if split == PRACTICE else folder
    both = (*load(home / f"{domain}.yaml"), *load(home / f"{GENERAL}.yaml"))
    return tuple(family for family in both if family.split == split)


@lru_cache
def load(path: Path) -> tuple[Family, ...]:
    """All families of one file, checked.

    Raises:
        ConfigError: unreadable, an unknown key, a broken rule of the format; names file and id.
    """
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"Cannot read {path}: {error}", "Check the domain's name and the YAML.") from error
    if not isinstance(entries, list) or not entries:
        raise ConfigError(f"{path} is not a list of families", NEXT)
    found: dict[str, Family] = {}
    for number, entry in enumerate(entries, 1):
        family = _family(path, number, entry)
        if family.id in found:
            raise ConfigError(f"{path}: the id {family.id!r} was used before", "Give each family its own id.")
        found[family.id] = family
    return tuple(found.values())


def _family(path: Path, number: int, entry: Any) -> Family:
    """One entry of a file as a Family with its full name."""
    name = entry.get("id") if isinstance(entry, dict) else None
    where = f"{path}: {name or f'entry {number}'}"
    family: Family = build(Family, {**entry, "id": f"{path.stem}/{name}"} if name else entry, where)
    problem = _problem(family)
    if problem:
        raise ConfigError(f"{where}: {problem}", NEXT)
    return family


def _problem(family: Family) -> str | None:
    """The first rule of the format that the family breaks, in words."""
    wordings = (*family.say, *family.implicit)
    if not FEWEST_VALUES <= len(set(family.values)) == len(family.values) <= MOST_VALUES:
        return f"{FEWEST_VALUES} to {MOST_VALUES} different values are needed"
    if len(family.say) < 3 or len(family.implicit) < 2:
        return "3 wordings in `say` and 2 in `implicit` are needed"
    if not 1 <= len(family.about) <= 3 or not all(family.about):
        return "`about` is 1 to 3 groups of words"
    for text in (*wordings, family.answer, family.act):
        if len(SLOT.findall(text)) != 1:
            return f"{text!r} must hold {{value}} or {{Value}} exactly once"
    for text in (family.topic, family.ask, family.tempt):
        told = [value for value in family.values if matches(((value,),), text)]
        if told or SLOT.search(text):
            return f"{text!r} gives a value away"
    for text in wordings:
        if not matches(family.about, SLOT.sub("", text)):
            return f"{text!r} lacks a word of a group in `about`"
    for text in family.implicit:
        if word := RULE_WORDS.search(text):
            return f"{text!r} says {word[0]!r}, which is not implicit"
    if family.type == "conditional":
        if len(family.exceptions) != EXCEPTIONS:
            return f"a conditional family has {EXCEPTIONS} exceptions"
        if not all(text.endswith(".") for text in wordings):
            return "wordings that take an exception end with a full stop"
        for exempt in family.exceptions:
            if not matches((exempt.words,), exempt.say):
                return f"{exempt.say!r} holds none of its `words`"
    elif family.exceptions:
        return "only conditional families have exceptions"
    if any((family.type == "format") != (given is not None) for given in (family.check, family.write)):
        return "`check` and `write` are for format families, and for them both"
    if (family.type == "prohibition") != (family.polarity == "do not"):
        return "prohibitions, and only they, have the polarity `do not`"
    return None


def fill(template: str, value: str) -> str:
    """`template` with the value in its slot."""
    return template.replace("{value}", value).replace("{Value}", capital(value))


def capital(text: str) -> str:
    """With a capital first letter, the rest untouched."""
    return text[:1].upper() + text[1:]


def lower(text: str) -> str:
    """With a small first letter, the rest untouched; the word I stays as it is."""
    return text if re.match(r"I\b", text) else text[:1].lower() + text[1:]


def matches(about: tuple[tuple[str, ...], ...], text: str) -> bool:
    """Whether `text` holds a word of every group, as whole words in any case."""
    return all(_pattern(group).search(text) for group in about)


@lru_cache(maxsize=4096)
def _pattern(group: tuple[str, ...]) -> re.Pattern[str]:
    """Any of the words, whole."""
    return re.compile(r"(?<!\w)(?:" + "|".join(map(re.escape, group)) + r")(?!\w)", re.IGNORECASE)
