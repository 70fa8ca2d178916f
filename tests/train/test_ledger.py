"""Calibrating a ledger: fitted on dev rows, written beside the adapter, never on test."""

from __future__ import annotations

import dataclasses
import random

import pytest
from synthetic_rows import scenario

from eval.rows import Row
from eval.running.row_file import to_line
from eval.scenarios import write_scenarios
from memkv.compaction.declare import Calibration, load_calibration
from memkv.errors import ConfigError
from train.ledger import FEWEST, Declared, calibrated, composed, declared, fit, main

SYSTEM = "trained:somewhere"


def rows(split: str = "dev", count: int = 300):
    """Rows in which the ledger is too sure: what it says of 90% is true of 70%."""
    rng = random.Random(0)
    made, found = {}, []
    for number in range(count):
        one = dataclasses.replace(scenario(f"s{number}"), split=split)
        sure = rng.random() < 0.5
        right = rng.random() < (0.7 if sure else 0.3)
        made[one.id] = one
        found.append(
            Row(
                f"{one.id}/x", one.id, one.pair, SYSTEM, 0.25, 0,
                said={"r0": "right" if right else "absent"}, ledger={"r0": 0.9 if sure else 0.1},
            )
        )  # fmt: skip
    return found, made


def test_the_curve_says_what_is_true():
    found, made = rows()
    curve = fit(declared(found, made, SYSTEM))
    for said, true in ((0.9, 0.7), (0.1, 0.3)):
        assert curve.slope * LOG_ODDS[said] + curve.intercept == pytest.approx(LOG_ODDS[true], abs=0.4)


LOG_ODDS = {0.9: 2.197, 0.7: 0.847, 0.3: -0.847, 0.1: -2.197}


def test_what_is_certain_takes_no_part():
    found, made = rows(count=60)
    sure = [dataclasses.replace(row, ledger={"r0": 1.0}) for row in found]
    assert declared([*found, *sure], made, SYSTEM) == declared(found, made, SYSTEM)


def test_test_rows_are_refused():
    found, made = rows("test", 60)
    with pytest.raises(ConfigError, match="test split"):
        declared(found, made, SYSTEM)


def test_too_few_rows_are_refused():
    found, made = rows(count=FEWEST - 1)
    with pytest.raises(ConfigError, match="39 rules .*A curve takes 40, .*: run more scenarios"):
        declared(found, made, SYSTEM)
    with pytest.raises(ConfigError, match="0 rules of 'another'"):
        declared(found, made, "another")


def test_a_curve_on_top_of_another_is_one_curve():
    first, second = Calibration(0.5, 1.0), Calibration(2.0, -1.0)
    assert composed(first, second) == Calibration(1.0, 1.0)


def test_fitting_again_after_calibration_changes_nothing():
    before = declared(*rows(count=400), SYSTEM)
    after = Declared(tuple(map(float, calibrated(before, fit(before)))), before.survived)
    again = fit(after)
    assert (again.slope, again.intercept) == (pytest.approx(1.0, abs=0.05), pytest.approx(0.0, abs=0.05))


def test_from_a_run_to_the_file_beside_the_adapter(tmp_path, capsys):
    found, made = rows(count=80)
    run, adapter = tmp_path / "run", tmp_path / "adapter"
    run.mkdir()
    adapter.mkdir()
    write_scenarios(run / "scenarios.jsonl", made.values())
    (run / "rows.jsonl").write_text("".join(to_line(row) + "\n" for row in found))
    main([str(run), "--adapter", str(adapter), "--system", SYSTEM, "--chart", str(tmp_path / "ledger.svg")])
    assert "80 rules" in capsys.readouterr().out
    assert 0 < load_calibration(adapter).slope < 1
    assert (tmp_path / "ledger.svg").exists()
    with pytest.raises(SystemExit):
        main([str(run), "--adapter", str(adapter), "--system", "another"])


def test_losses_that_were_declared_safe_fit_no_curve():
    found = Declared(tuple([0.9] * 60 + [0.99]), tuple([True] * 60 + [False]))
    with pytest.raises(ConfigError, match="1 of 61 rules are lost"):
        fit(found)
