from __future__ import annotations

import math
import random
from collections.abc import Iterator

import pytest

from eval.generate import scenarios
from eval.making.family import FOLDER, Family, fill, load
from eval.prose.said import said
from eval.prose.sentences import transcript_of
from eval.scenarios import Check, Rule, Scenario, Statement, to_message
from eval.scorers import (
    choose,
    complies,
    existence,
    false_rule,
    parse_letter,
    survives,
    text_survival,
)
from memkv.errors import InvalidInput

FAMILIES = [family for path in sorted(FOLDER.rglob("*.yaml")) for family in load(path)]


def rule_of(family: Family, value: str, number: int, wording: str | None = None, status: str = "active") -> Rule:
    """A rule of the family, worded as it is first worded unless told otherwise."""
    exempt = family.exceptions[number % len(family.exceptions)] if family.exceptions else None
    text = fill(wording or family.say[0], value)
    if exempt:
        text = f"{text[:-1]}, {exempt.say}."
    others = tuple(other for other in family.values if other != value)
    wrong = tuple(word for other in family.exceptions if other != exempt for word in other.words)
    words = exempt.words if exempt else ()
    statement = Statement(family.about, value, others, family.polarity, words, wrong if exempt else ())
    return Rule("r", family.id, family.topic, family.type, status, "list", text, statement)


@pytest.fixture(scope="module")
def some() -> list[Scenario]:
    return list(scenarios("train", 12, 7))


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: f"{family.split}-{family.id}")
def test_every_wording_of_every_family_reads_back(family: Family) -> None:
    """With the right value it is right, also beside a rule worded otherwise; with another value it is wrong."""
    for wording in (*family.say, *family.implicit):
        for number, value in enumerate(family.values):
            text = rule_of(family, value, number, wording).text
            assert said(text, rule_of(family, value, number)).verdict == "right", text
            other = family.values[(number + 1) % len(family.values)]
            assert said(text, rule_of(family, other, number)).verdict == "wrong", text


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: f"{family.split}-{family.id}")
def test_no_family_can_be_gamed(family: Family) -> None:
    rules = [rule_of(family, value, number) for number, value in enumerate(family.values)]
    texts = {
        "the questions": f"{family.ask} {family.tempt} {family.topic}",
        "the keywords": " ".join(word for group in family.about for word in group * 3) + " " + family.topic,
        "a vague summary": f"There are guidelines on {family.topic}.",
        "every value": " ".join(rule.text for rule in rules),
        "every value in a list": f"{' '.join(w for g in family.about for w in g)}: {', '.join(family.values)}",
        "a hedge": f"Maybe this holds, I am not sure: {rules[0].text}",
        "taken back": f"This rule was withdrawn: {rules[0].text}",
        "somebody else's": f'A competitor\'s handbook says: "{rules[0].text}"',
    }
    for name, text in texts.items():
        assert said(text, rules[0]).verdict != "right", (name, text)
    if family.exceptions:
        bare = fill(family.say[0], family.values[0])
        assert said(bare, rules[0]).verdict == "distorted"
        every = ", ".join(exempt.say for exempt in family.exceptions)
        assert said(f"{bare[:-1]}, {every}.", rules[0]).verdict != "right"
    if family.check is not None and family.check.kind == "contains":
        assert not complies(" ".join(family.values), family.check_for(family.values[0]))
        assert complies(f"Here it is, {family.values[0]}.", family.check_for(family.values[0]))


def lines(rules: Iterator[Rule]) -> str:
    """Rules as a list."""
    return "\n".join(f"- {rule.text}" for rule in rules)


def test_an_oracle_scores_all_and_an_empty_text_nothing(some: list[Scenario]) -> None:
    for scenario in some:
        kept = text_survival(lines(rule for rule in scenario.rules if rule.binds), scenario.rules)
        assert (kept.survived, kept.false_rules) == (1.0, 0)
        assert kept.right == kept.binding > 0
        assert text_survival("", scenario.rules).survived == 0.0


def test_the_whole_conversation_says_what_binds_and_no_more(some: list[Scenario]) -> None:
    for scenario in some:
        messages = [to_message(turn) for turn in scenario.turns]
        for text in (transcript_of(messages), "\n\n".join(message["content"] for message in messages)):
            score = text_survival(text, scenario.rules, transcript=True)
            assert (score.survived, score.false_rules) == (1.0, 0), scenario.id


def test_controls_score_nothing(some: list[Scenario]) -> None:
    for scenario in some:
        rules = scenario.rules
        every = "\n".join(
            f"- {rule.text.replace(rule.statement.value, value)}"
            for rule in rules
            for value in (rule.statement.value, *rule.statement.others)
        )
        shuffled = lines(shuffle(rule, random.Random(rule.id)) for rule in rules)
        questions = "\n".join(probe.question for probe in scenario.probes)
        vague = "We spoke about editorial guidelines, about planning, and about how we work. All of it is in force."
        hedged = "\n".join(f"- Perhaps, but I am not sure: {rule.text}" for rule in rules)
        for text in (every, shuffled, questions, vague, hedged):
            assert text_survival(text, rules).survived == 0.0, text


def shuffle(rule: Rule, rng: random.Random) -> Rule:
    """The rule with another value in its sentence."""
    value = rule.statement.value
    other = rng.choice([o for o in rule.statement.others if o != value])
    text = rule.text.replace(value, other)
    if text == rule.text:  # capitalised at the start of the sentence
        text = rule.text.replace(value[:1].upper() + value[1:], other)
    assert text != rule.text
    return Rule(**{**rule.__dict__, "text": text})


def test_rules_that_do_not_bind_count_as_false_when_stated(some: list[Scenario]) -> None:
    for scenario in some:
        never = [rule for rule in scenario.rules if rule.status == "never"]
        score = text_survival(lines(iter(never)), scenario.rules)
        assert score.false_rules == len(never) > 0
        assert score.survived == 0.0


def test_survives_and_false_rule() -> None:
    family = FAMILIES[0]
    bound, never = rule_of(family, family.values[0], 0), rule_of(family, family.values[0], 0, status="never")
    reading = said(bound.text, bound)
    assert survives(reading, bound) == 1.0 and not false_rule(reading, bound)
    assert survives(reading, never) is None and false_rule(reading, never)
    assert survives(said("", bound), bound) == 0.0 and not false_rule(said("", never), never)
    assert text_survival("", [never]).survived is None


def test_always_the_first_option_is_at_chance() -> None:
    rng = random.Random(0)
    right = [choose([0.0, -1.0, -1.0, -1.0], rng.randrange(4)).right for _ in range(4000)]
    assert 0.22 < sum(right) / len(right) < 0.28


def test_choose() -> None:
    chosen = choose([-2.0, -1.0, -3.0], 1)
    assert chosen.right and chosen.choice == 1
    assert chosen.probability == pytest.approx(1 / (1 + math.exp(-1) + math.exp(-2)))
    assert not choose([-2.0, -1.0, -3.0], 0).right
    assert not choose([-1.0, -1.0, -3.0], 0).right  # a tie
    assert choose([-1000.0, -2000.0], 0).probability == 1.0


@pytest.mark.parametrize("scores", [[math.nan, -1.0], [-math.inf, -1.0], [math.inf, -1.0], []])
def test_scores_that_cannot_be_ranked_name_the_probe(scores: list[float]) -> None:
    with pytest.raises(InvalidInput, match="p-17"):
        choose(scores, 0, probe="p-17")


def test_answers_out_of_range_and_wrong_counts_are_refused() -> None:
    with pytest.raises(InvalidInput):
        choose([-1.0, -2.0], 2)
    with pytest.raises(InvalidInput):
        existence([-1.0, -2.0])


def test_existence() -> None:
    reading = existence([-1.0, -3.0, -2.0])
    assert reading.says == "yes" and reading.p_yes > reading.p_unsure > reading.p_no
    assert reading.p_yes + reading.p_no + reading.p_unsure == pytest.approx(1.0)
    assert existence([-3.0, -1.0, -2.0]).says == "no"
    assert existence([-3.0, -2.0, -1.0]).says == "not sure"
    assert existence([-1.0, -1.0, -2.0]).says is None


@pytest.mark.parametrize(
    ("kind", "value", "text", "passes"),
    [
        ("starts_with", "Memo", "Memo: an index is a list.", True),
        ("starts_with", "Memo", '**"Memo"** an index is a list.', True),
        ("starts_with", "Memo", "Memorable indexes are lists.", False),
        ("starts_with", "Memo", "An index is a list. Memo", False),
        ("starts_with", "Dear all", "dear all, hello", True),
        ("ends_with", "Over", "It is a list. Over.", True),
        ("ends_with", "Over", "It is a list. *Over*", True),
        ("ends_with", "Over", "It is over the top.", False),
        ("ends_with", "Over", "It is a moreover", False),
        ("contains", "lantern", "The lantern, as ever, is here.", True),
        ("contains", "lantern", "Two lanterns.", False),
        ("contains", "->", "a -> b", True),
        ("lacks", "shock", "A quiet day.", True),
        ("lacks", "shock", "A Shock today.", False),
        ("lacks", "shock", "A shocking day.", True),
        ("max_words", 3, "Only three words.", True),
        ("max_words", 3, "These are four words.", False),
        ("max_sentences", 1, "It costs 3.5 euros, e.g. here.", True),
        ("max_sentences", 1, "One. Two.", False),
        ("lowercase", None, "all small, 3 of them.", True),
        ("lowercase", None, "Not all small.", False),
        ("uppercase", None, "ALL BIG 3", True),
        ("uppercase", None, "Not", False),
        ("bullets", None, "- one\n- two", True),
        ("bullets", None, "Here:\n- one\n- two", False),
        ("bullets", 2, "Here:\n- one\n- two", True),
        ("bullets", 2, "- one", False),
    ],
)
def test_complies(kind: str, value: str | int | None, text: str, passes: bool) -> None:
    assert complies(text, Check(kind, value)) is passes


@pytest.mark.parametrize(
    ("value", "text", "passes"),
    [
        ("lantern", "The lantern is here.", True),
        ("lantern", "The lantern is here!", False),
        ("lantern", "The lantern is a torch.", False),
        ("->", "a -> b", True),
        ("->", "a -> b!", False),
        ("->", "a torch -> b", False),
    ],
)
def test_a_sign_among_the_others_counts_where_it_stands(value: str, text: str, passes: bool) -> None:
    assert complies(text, Check("contains", value, ("torch", "!"))) is passes


@pytest.mark.parametrize("text", ["", "  \n", "...", "**", '""'])
@pytest.mark.parametrize(
    "check",
    [
        Check("lacks", "shock"),
        Check("max_words", 5),
        Check("max_sentences", 1),
        Check("lowercase"),
        Check("uppercase"),
        Check("bullets"),
        Check("starts_with", "Memo"),
        Check("ends_with", "Memo"),
        Check("contains", "Memo"),
        Check("contains", "->"),
    ],
)
def test_an_empty_answer_never_complies(text: str, check: Check) -> None:
    assert not complies(text, check)


def test_a_check_without_its_value_is_refused() -> None:
    with pytest.raises(InvalidInput):
        complies("some text", Check("starts_with"))
    with pytest.raises(InvalidInput):
        complies("some text", Check("max_words", "many"))


@pytest.mark.parametrize("family", [f for f in FAMILIES if f.check], ids=lambda family: f"{family.split}-{family.id}")
def test_formats_of_families_are_told_apart(family: Family) -> None:
    """The draft with a value passes that value's check and no other value's."""
    drafts = {value: fill(family.act, value) for value in family.values}
    for value, draft in drafts.items():
        assert [v for v in family.values if complies(draft, family.check_for(v))] == [value], draft


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", 1),
        ("b.", 1),
        (" (C) ", 2),
        ("**D**", 3),
        ("A. The deputy editor", 0),
        ("B) because", 1),
        ("Answer: C", 2),
        ("The answer is D.", 3),
        ("A\nbecause", 0),
        ("A colleague asks first.", None),
        ("E", None),
        ("", None),
        ("I would say so.", None),
        ("A or B", None),
        ("A. or B.", None),
        ("B, C", None),
        ("The deputy editor", None),
        ("AB", None),
        ("A.5", None),
    ],
)
def test_parse_letter(text: str, letter: int | None) -> None:
    assert parse_letter(text, 4) == letter
