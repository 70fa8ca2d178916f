"""What a policy was to reach, against rows whose figures are known beforehand."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import pytest
from synthetic_rows import forgot, knows, row, scenario

from eval.figures.goals import Goal, as_table, read_run
from eval.figures.statistics import Estimate
from eval.rows import Row
from eval.running.row_file import RowFile, row_of
from eval.scenarios import Scenario, write_scenarios
from memkv.errors import ConfigError
from train.goals import BUDGETS, ROUNDS, goals, main

RULES = (("f/a", "active"), ("f/b", "superseded"), ("f/c", "revoked"), ("f/d", "never"))
GOOD = {"r0": "right", "r1": "right", "r2": "absent", "r3": "absent"}
BAD = {"r0": "absent", "r1": "stale", "r2": "right", "r3": "absent"}
OURS, WARM = "trained", "trained:warm"
NAMES = (OURS, WARM, OURS)  # here the policy is itself what reinforcement made


@pytest.fixture(scope="module")
def conversations() -> list[Scenario]:
    """With one, and with five rounds."""
    kinds = ((4,), (1, 2, 3, 4), (4,))
    found = [scenario(f"s{n}", f"p{n // 2}", RULES, rounds=kinds[n % 3]) for n in range(12)]
    return [each if len(each.rounds) == 1 else five(each) for each in found]


def five(found: Scenario) -> Scenario:
    """The same with five rounds."""
    turns = found.meetings[0].turns
    longer = dataclasses.replace(found.meetings[0], turns=(*turns, *turns))
    return dataclasses.replace(found, meetings=(longer, *found.meetings[1:]), rounds=(2, 3, 4, 5, 6))


def run(folder: Path, made: list[Row], found: list[Scenario]) -> Path:
    folder.mkdir(exist_ok=True)
    write_scenarios(folder / "scenarios.jsonl", found)
    with RowFile(folder / "rows.jsonl", row_of) as rows:
        for each in made:
            rows.append(each)
    return folder


def rows_of(found: list[Scenario], ours: Mapping[str, str] = GOOD) -> list[Row]:
    """Ours knows it all; every other text is lost; so is the warm start."""
    made = []
    sure = {rule: 0.9 if verdict == "right" else 0.1 for rule, verdict in ours.items()}
    for each in found:
        made += [row(each, "none", forgot), row(each, "curated", knows, said=GOOD)]
        for budget in BUDGETS:
            made.append(row(each, OURS, knows, budget, said=dict(ours), ledger=sure))
            made.append(row(each, WARM, forgot, budget, said=BAD))
            made += [row(each, other, forgot, budget, said=BAD) for other in ("summary", "recency", "registry")]
    return made


def at(found: list[Goal], name: str, budget: float = 0.25) -> Goal:
    return next(goal for goal in found if name in goal.name and goal.budget == budget)


def test_a_policy_that_keeps_everything_reaches_its_goals(conversations, tmp_path):
    found = goals(read_run(run(tmp_path / "run", rows_of(conversations), conversations), ROUNDS), *NAMES)
    for name in (
        "rules in force that its text says", "ahead of summary", "ahead of recency", "amended rules right",
        "revoked rules claimed", "rules in its text, ahead of its warm start", "not in force", "old value",
        "after 5 rounds",
    ):  # fmt: skip
        assert at(found, name).verdict == "reached", name
    assert at(found, "rules in its text, ahead of its warm start").found.value == 1.0
    assert at(found, "effective retention").found.value == 1.0
    assert "no binding rules" in at(found, "AUROC").verdict or "one class" in at(found, "AUROC").verdict


def test_one_that_does_not_is_told_by_how_much(conversations, tmp_path):
    rows = rows_of(conversations, BAD)
    found = goals(read_run(run(tmp_path / "run", rows, conversations), ROUNDS), *NAMES)
    assert at(found, "rules in force that its text says").verdict == "short by 90.0%"
    assert at(found, "rules in force that its text says", 0.125).verdict == "short by 75.0%"
    assert at(found, "not in force").found.value == pytest.approx(0.5), "of two claimed rules one was revoked"
    assert at(found, "old value").verdict == "short by 95.0%"
    table = as_table(found)
    assert table.count("\n") == len(found) + 1 and "| 0.25 | amended rules with their old value | ≤ 5% |" in table


def test_a_difference_that_has_to_exclude_zero_does_so_with_its_whole_interval():
    barely = Estimate(0.1, 0.0, 0.2)
    assert Goal("ahead", 0.25, 0.0, barely).verdict == "reached"
    assert Goal("ahead", 0.25, 0.0, barely, whole=True).verdict == "short by 0.0%"
    assert Goal("ahead", 0.25, 0.0, Estimate(0.1, 0.01, 0.2), whole=True).verdict == "reached"
    none = Estimate(0.0, 0.0, 0.0)
    assert Goal("more false claims", 0.25, 0.0, none, most=True, whole=True).verdict == "reached"
    assert Goal("ahead", 0.25, 0.0, Estimate(None, reason="no rows")).verdict == "no rows"


def test_rows_of_the_policy_must_be_there(conversations, tmp_path, capsys):
    folder = run(tmp_path / "run", rows_of(conversations), conversations)
    with pytest.raises(ConfigError, match="no rows of 'other' at a budget of 0.25"):
        goals(read_run(folder, ROUNDS), "other", WARM, OURS)
    main([str(folder), "--warm", WARM, "--reinforced", OURS])
    shown = capsys.readouterr().out
    assert shown.startswith("| at |") and "ahead of its warm start" in shown
    with pytest.raises(SystemExit):
        main([str(folder), "--policy", "other"])
