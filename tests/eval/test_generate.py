from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from eval.generate import DOMAINS, SEALED, Config, Options, generate, main, scenarios
from eval.making.family import families, fill, matches
from eval.making.filler import SHORT
from eval.scenarios import EXISTENCE_OPTIONS, Scenario, read_scenarios, write_scenarios
from memkv.errors import ConfigError

COUNT = 80


@pytest.fixture(scope="module")
def made() -> list[Scenario]:
    return list(scenarios("test", COUNT, 0))


def pairs(made: list[Scenario]) -> list[tuple[Scenario, Scenario]]:
    return list(zip(made[::2], made[1::2], strict=True))


def sentences(scenario: Scenario) -> list[str]:
    text = "\n".join(turn.text for turn in scenario.turns)
    return [part.strip(' "') for part in re.split(r"(?<=[.!?])\s+|\n|(?<=[.!?]\")\s+", text) if part.strip()]


def message(scenario: Scenario, place: tuple[int, int]) -> str:
    return scenario.meetings[place[0]].turns[place[1]].text


def test_every_planted_sentence_is_where_the_record_says(made: list[Scenario]) -> None:
    for one in made:
        for rule in one.rules:
            assert (rule.planted_at is None) == (rule.status == "never")
            if rule.planted_at:
                turn = one.meetings[rule.planted_at[0]].turns[rule.planted_at[1]]
                assert turn.role == "user" and rule.text in turn.text
                assert sum(rule.text in other.text for other in one.turns) == 1


def test_a_superseded_rule_was_said_otherwise_before(made: list[Scenario]) -> None:
    seen = 0
    for one in made:
        for rule in (rule for rule in one.rules if rule.status == "superseded"):
            before = "\n".join(t.text for t in one.turns).split(rule.text)[0]
            assert rule.old_value and rule.old_value != rule.statement.value
            assert rule.old_value in rule.statement.others
            assert any(
                matches(((rule.old_value,), *rule.statement.about), part) for part in re.split(r"\n|(?<=\.)\s", before)
            )
            seen += 1
    assert seen > COUNT / 4


def test_the_assistant_repeats_no_value(made: list[Scenario]) -> None:
    for one in made:
        for rule in (rule for rule in one.rules if rule.status != "never"):
            about = (*rule.statement.about, (rule.statement.value,))
            for turn in one.turns:
                assert turn.role == "user" or not any(
                    matches(about, part) for part in re.split(r"(?<=[.!?])\s", turn.text)
                ), turn.text


def test_never_said_rules_are_never_said(made: list[Scenario]) -> None:
    for one in made:
        said = sentences(one)
        for rule in (rule for rule in one.rules if rule.status == "never"):
            assert not [part for part in said if matches(rule.statement.about, part)], rule.id
            assert {probe.kind for probe in one.probes if probe.rule == rule.id} == {"existence"}


def test_no_sentence_is_said_twice(made: list[Scenario]) -> None:
    for one in made:
        counted = Counter(part.lower() for part in sentences(one) if len(part.split()) > SHORT)
        assert not [part for part, count in counted.items() if count > 1]


@pytest.mark.parametrize("domain", DOMAINS)
def test_32k_tokens_without_a_repeated_sentence(domain: str) -> None:
    one, _ = generate(domain, "train", 5, config=Config(tokens=32_000, rounds=10))
    words = sum(len(turn.text.split()) for turn in one.turns)
    assert 20_000 < words < 21_500
    assert len(one.rounds) == 10
    counted = Counter(part.lower() for part in sentences(one) if len(part.split()) > SHORT)
    assert not [part for part, count in counted.items() if count > 1]


def test_twins_differ_in_values_and_in_nothing_that_is_asked(made: list[Scenario]) -> None:
    for one, other in pairs(made):
        assert one.pair == other.pair and one.id != other.id
        assert (one.rounds, one.asked_on, len(one.turns)) == (other.rounds, other.asked_on, len(other.turns))
        for rule, twin in zip(one.rules, other.rules, strict=True):
            assert (rule.family, rule.status, rule.phrasing, rule.planted_at) == (
                twin.family,
                twin.status,
                twin.phrasing,
                twin.planted_at,
            )
            assert rule.statement.value != twin.statement.value
        for probe, again in zip(one.probes, other.probes, strict=True):
            assert (probe.id, probe.question, probe.options) == (again.id, again.question, again.options)
            if probe.kind == "existence":
                assert probe.answer == again.answer
            elif probe.kind == "generate":
                assert probe.check != again.check
            else:
                assert probe.answer != again.answer


def test_the_filler_of_twins_is_the_same(made: list[Scenario]) -> None:
    for one, other in pairs(made):
        values = [rule.text for rule in (*one.rules, *other.rules)]
        same = [a.text == b.text for a, b in zip(one.turns, other.turns, strict=True)]
        assert sum(same) > len(same) / 2
        for a, b in zip(one.turns, other.turns, strict=True):
            assert a.text == b.text or a.role == "assistant" or len(a.text.split()) - len(b.text.split()) < 8, values


def test_answers_follow_from_the_rules(made: list[Scenario]) -> None:
    for one in made:
        known = {family.id: family for family in families(one.domain, one.split)}
        for probe in one.probes:
            rule = one.rule[probe.rule]
            family, value = known[rule.family], rule.statement.value
            if probe.kind == "existence":
                assert probe.options == EXISTENCE_OPTIONS
                assert probe.options[probe.answer] == ("Yes." if rule.binds else "No.")
                assert rule.topic in probe.question
                continue
            assert rule.binds
            if probe.kind == "generate":
                assert probe.check == family.check_for(value) and probe.options == () and probe.max_tokens > 0
                continue
            assert len(set(probe.options)) == 4
            template = family.answer if probe.kind == "value" else family.act
            if probe.kind == "exception":
                (covered,) = (exempt for exempt in family.exceptions if exempt.case in probe.question)
                excepted = covered.say in rule.text
                assert probe.options[probe.answer] == (covered.act if excepted else fill(template, value))
            else:
                assert probe.options[probe.answer] == fill(template, value)
            if rule.old_value and probe.kind in ("value", "behaviour"):
                assert probe.stale is not None
                assert probe.options[probe.stale] == fill(template, rule.old_value)


def test_existing_rules_are_asked_in_both_ways_and_a_quarter_was_never_said(made: list[Scenario]) -> None:
    for one in made:
        never = [probe for probe in one.probes if one.rule[probe.rule].status == "never"]
        assert len(never) >= len(one.probes) / 4
        kinds = {rule.id: {probe.kind for probe in one.probes if probe.rule == rule.id} for rule in one.rules}
        assert sum("existence" in found and len(found) > 1 for found in kinds.values()) >= 2
        assert all(kinds[rule.id] for rule in one.rules if rule.binds or rule.status == "never")
        assert sum(rule.binds for rule in one.rules) >= 3


def test_dates_say_what_holds(made: list[Scenario]) -> None:
    seen = Counter[str]()
    for one in made:
        days = [date.fromisoformat(meeting.date) for meeting in one.meetings]
        asked = date.fromisoformat(one.asked_on)
        assert days == sorted(set(days)) and days[-1] < asked and days[0].year == asked.year
        for day, meeting in zip(days, one.meetings, strict=True):
            assert meeting.turns[0].text.startswith(f"[{day:%A}, {day.day} {day:%B %Y}] ")
        for rule in (rule for rule in one.rules if rule.text.startswith("Until ") and rule.planted_at):
            number, month = rule.text.removeprefix("Until ").split(",")[0].split()
            until = date(asked.year, [f"{date(2026, n, 1):%B}" for n in range(1, 13)].index(month) + 1, int(number))
            assert (until < asked) == (rule.status == "expired")
            assert days[rule.planted_at[0]] < until
            seen[rule.status] += 1
    assert seen["expired"] and seen["active"]


def test_as_many_sessions_as_are_asked_for_over_half_a_year() -> None:
    for one in scenarios("dev", 2, 0, Config(tokens=2500, rounds=1, meetings=10)):
        days = [date.fromisoformat(meeting.date) for meeting in one.meetings]
        assert len(days) == 10 and days == sorted(days)
        assert date.fromisoformat(one.asked_on) > days[-1] and (days[-1] - days[0]).days > 60
    with pytest.raises(ConfigError, match="100 sessions of"):
        next(iter(scenarios("dev", 2, 0, Config(tokens=500, rounds=1, meetings=100))))


def test_conversations_are_cut_where_the_assistant_has_spoken(made: list[Scenario]) -> None:
    for one in made:
        assert all(one.turns[end - 1].role == "assistant" for end in one.rounds)
        assert len(one.rounds) in (1, 2, 5, 10)
        assert all(turn.role == ("user", "assistant")[n % 2] for m in one.meetings for n, turn in enumerate(m.turns))
        lengths = [sum(len(turn.text.split()) for turn in chunk) for chunk in one.chunks]
        assert max(lengths) < 2.5 * sum(lengths) / len(lengths)


def test_lengths_statuses_and_phrasings_vary_as_planned() -> None:
    made = list(scenarios("test", 400, 1))
    rules = [rule for one in made for rule in one.rules]
    planted = [rule for rule in rules if rule.status != "never"]
    share = {status: count / len(planted) for status, count in Counter(rule.status for rule in planted).items()}
    assert 0.4 < share["active"] < 0.65 and 0.1 < share["superseded"] < 0.2
    assert all(0.02 < share[status] < 0.13 for status in ("revoked", "expired", "scoped", "quoted", "injected"))
    assert {rule.phrasing for rule in planted if rule.status == "active"} == {"list", "passing", "correction", "pasted"}
    binding = [rule for rule in planted if rule.binds]
    assert 0.3 < sum(rule.implicit for rule in binding) / len(binding) < 0.5
    assert {rule.type for rule in rules} >= {"prohibition", "obligation", "conditional", "cap", "format", "order"}
    assert {rule.type for rule in rules} >= {"authority", "preference", "expiring"}
    words = [sum(len(turn.text.split()) for turn in one.turns) for one in made]
    assert all(0.85 < count * 1.55 / 2000 < 1.15 for count in words)
    rounds = Counter(len(one.rounds) for one in made)
    assert set(rounds) == {1, 2, 5, 10} and rounds[1] > rounds[10]
    right = Counter(p.answer for one in made for p in one.probes if p.kind in ("value", "behaviour"))
    assert all(0.2 < count / right.total() < 0.3 for count in right.values()), "no fixed answer is right more often"
    assert {p.kind for one in made for p in one.probes} == {"value", "behaviour", "exception", "existence", "generate"}


@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_families_come_from_the_split_alone(split: str) -> None:
    for one in scenarios(split, 16, 0):  # type: ignore[arg-type]
        allowed = {family.id for family in families(one.domain, split)}
        used = [rule.family for rule in one.rules]
        assert set(used) <= allowed and len(set(used)) == len(used)
        assert any(name.startswith(one.domain) for name in used) and any(name.startswith("general") for name in used)


def test_the_same_seed_gives_the_same_whatever_else_is_made(made: list[Scenario], tmp_path: Path) -> None:
    assert list(scenarios("test", 8, 0)) == made[:8]
    assert generate(made[6].domain, "test", 0, 3) == (made[6], made[7])
    assert list(scenarios("test", 8, 1)) != made[:8]
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    write_scenarios(first, made)
    again = list(read_scenarios(first))
    write_scenarios(second, again)
    assert again == made and first.read_bytes() == second.read_bytes()


def test_a_line_separator_inside_a_text_ends_no_line(tmp_path: Path) -> None:
    one = next(iter(scenarios("dev", 2, 0, Config(tokens=600))))
    turn = replace(one.meetings[0].turns[0], text="Pasted\u2028from a page\u0085with marks of its own.")
    first = replace(one.meetings[0], turns=(turn, *one.meetings[0].turns[1:]))
    odd = replace(one, meetings=(first, *one.meetings[1:]))
    write_scenarios(tmp_path / "odd.jsonl", [odd])
    assert list(read_scenarios(tmp_path / "odd.jsonl")) == [odd]


def test_a_sealed_seed_is_used_and_not_written_down(monkeypatch: pytest.MonkeyPatch) -> None:
    open_one = next(scenarios("test", 2, 0))
    monkeypatch.setenv(SEALED, "correct horse")
    sealed = next(scenarios("test", 2, 0))
    assert sealed.seed.startswith("sealed:") and len(sealed.seed) == len("sealed:") + 12
    assert "horse" not in sealed.seed and sealed.turns != open_one.turns
    monkeypatch.setenv(SEALED, "another")
    assert next(scenarios("test", 2, 0)).seed != sealed.seed


@pytest.mark.parametrize("rules", [3, 9])
def test_more_or_fewer_rules(rules: int) -> None:
    for one in scenarios("dev", 8, 0, Config(rules=rules, probes=2 * rules, tokens=1500)):
        assert sum(rule.status != "never" for rule in one.rules) == rules
        never = sum(one.rule[probe.rule].status == "never" for probe in one.probes)
        assert never >= len(one.probes) / 4


def test_short_conversations_still_hold_all_rules() -> None:
    for one in scenarios("test", 16, 2, Config(tokens=1)):
        assert all(rule.text in message(one, rule.planted_at) for rule in one.rules if rule.planted_at)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (Config(rules=2), "2 planted"),
        (Config(never=0), "0 never-said"),
        (Config(rules=12, never=30), "families"),
        (Config(tokens=0), "tokens"),
        (Config(rounds=0), "rounds"),
        (Config(rounds=500), "500 compactions"),
        (Config(domains=()), "no domain"),
        (replace(Config(), domains=("gardening",)), "Check the domain's name"),  # type: ignore[arg-type]
    ],
)
def test_sizes_that_cannot_be_are_named(config: Config, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        list(scenarios("test", 2, 0, config))


@pytest.mark.parametrize("count", [0, 1, 7, -2])
def test_odd_numbers_are_no_pairs(count: int) -> None:
    with pytest.raises(ConfigError, match="no twin pairs"):
        list(scenarios("test", count, 0))


def test_the_command_line_writes_a_file_and_an_account(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "scenarios.jsonl"
    main(Options(out=out, count=4))
    printed = capsys.readouterr().out
    assert "4 scenarios in 2 pairs" in printed and "never said: 29%" in printed
    assert [one.id for one in read_scenarios(out)] == ["test-0000a", "test-0000b", "test-0001a", "test-0001b"]
