"""`python -m train.ledger RUN --adapter FOLDER`: calibrate what a policy declares of its losses.

Takes the rows of an evaluation on dev families (never test), in which each rule has the probability that the ledger
declared and what the text then really said, fits a logistic curve (Platt 1999), and writes it beside the adapter, with
a chart of declared against true shares before and after.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from rich.console import Console
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, roc_auc_score

from eval.figures.knowing import bins
from eval.page.source import unpacked
from eval.rows import Row
from eval.running.row_file import ROWS, read_rows
from eval.running.run_folder import SCENARIOS
from eval.scenarios import Scenario, read_scenarios
from memkv.compaction.declare import FILE, Calibration, load_calibration
from memkv.errors import ConfigError, MemkvError

FEWEST = 40  # rules; below that a curve means nothing
EDGE = 1e-4


@dataclass(frozen=True)
class Options:
    """Calibrate a policy's ledger.

    Attributes:
        run: folder of an evaluation on dev scenarios.
        adapter: folder of the adapter; `ledger.json` is written there.
        system: name of the policy in the rows.
        chart: SVG or PNG file to draw.
    """

    run: tyro.conf.Positional[Path]
    adapter: Path
    system: str
    chart: Path | None = None


@dataclass(frozen=True)
class Declared:
    """Declared probabilities of rules, and whether the text still said them."""

    probabilities: tuple[float, ...]
    survived: tuple[bool, ...]


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit, write, say how good it is."""
    options = tyro.cli(Options, prog="python -m train.ledger", description=__doc__, args=arguments)
    try:
        with unpacked(options.run / ROWS) as rows, unpacked(options.run / SCENARIOS) as scenarios:
            known = {scenario.id: scenario for scenario in read_scenarios(scenarios)}
            found = declared(read_rows(rows), known, options.system)
        curve = fit(found)
        # The rows were made with the curve that is there already, so the new one goes on top of it.
        whole = composed(load_calibration(options.adapter), curve)
        if not options.adapter.is_dir():
            raise ConfigError(f"There is no folder {options.adapter}", "Name the adapter that the rows were made with.")
    except MemkvError as error:
        Console(stderr=True, soft_wrap=True).print(f"[red]{type(error).__name__}[/]: {error}", highlight=False)
        sys.exit(1)
    before, after = np.array(found.probabilities), calibrated(found, curve)
    (options.adapter / FILE).write_text(json.dumps(dataclasses.asdict(whole)) + "\n", encoding="utf-8")
    truth = np.array(found.survived)
    print(
        f"{len(truth)} rules, {truth.mean():.0%} of them survive; AUROC {roc_auc_score(truth, before):.2f}; "
        f"Brier {brier_score_loss(truth, before):.3f} before, {brier_score_loss(truth, after):.3f} after\n"
        f"Wrote {options.adapter / FILE}"
    )
    if options.chart is not None:
        draw(before, after, truth, options.chart)


def declared(rows: Sequence[Row], scenarios: dict[str, Scenario], system: str) -> Declared:
    """What the ledger declared of binding rules, and what the text said, over the rows of one system.

    Raises:
        ConfigError: rows of test scenarios, or too few to fit anything.
    """
    probabilities: list[float] = []
    survived: list[bool] = []
    for row in rows:
        if row.system != system or row.ledger is None or row.said is None:
            continue
        scenario = scenarios[row.scenario]
        if scenario.split == "test":
            raise ConfigError("The rows are of the test split", "Calibrate on dev: configs/policy_dev.yaml.")
        for rule in scenario.rules:
            # 1 is a message that is still there word for word, 0 one that nothing was made from: both are certain.
            if rule.binds and rule.id in row.ledger and 0 < row.ledger[rule.id] < 1:
                probabilities.append(row.ledger[rule.id])
                survived.append(row.said[rule.id] == "right")
    if len(survived) < FEWEST or len(set(survived)) < 2:
        raise ConfigError(
            f"{len(survived)} rules of {system!r} have a declared probability, {survived.count(False)} of them lost",
            f"A curve takes {FEWEST}, of which some are lost: run more scenarios or tighter budgets, or name another.",
        )
    return Declared(tuple(probabilities), tuple(survived))


def fit(found: Declared) -> Calibration:
    """The logistic curve from declared log-odds to what was true.

    Raises:
        ConfigError: what was lost had been declared safer than the rest: too few losses to fit anything.
    """
    odds = log_odds(np.array(found.probabilities))[:, None]
    model = LogisticRegression(C=100.0).fit(odds, np.array(found.survived))
    if model.coef_[0, 0] <= 0:
        lost = found.survived.count(False)
        raise ConfigError(
            f"{lost} of {len(found.survived)} rules are lost, and these had the higher declared probabilities",
            "Run more scenarios or tighter budgets, so that more is lost; the curve that is there stays.",
        )
    return Calibration(round(float(model.coef_[0, 0]), 4), round(float(model.intercept_[0]), 4))


def composed(first: Calibration, second: Calibration) -> Calibration:
    """One curve that does what two do one after the other."""
    slope = round(second.slope * first.slope, 4)
    return Calibration(slope, round(second.slope * first.intercept + second.intercept, 4))


def calibrated(found: Declared, curve: Calibration) -> np.ndarray:
    """The declared probabilities on the curve."""
    return 1 / (1 + np.exp(-(curve.slope * log_odds(np.array(found.probabilities)) + curve.intercept)))


def log_odds(probabilities: np.ndarray) -> np.ndarray:
    """Of probabilities that are kept from 0 and 1."""
    inside = np.clip(probabilities, EDGE, 1 - EDGE)
    return np.log(inside / (1 - inside))


def draw(before: np.ndarray, after: np.ndarray, truth: np.ndarray, path: Path) -> None:
    """Declared against true shares, in bins of equal mass."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6, 4.2), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="#999", linewidth=1)
    for label, values, marker in (("before calibration", before, "o"), ("after", after, "s")):
        points = bins(values, truth.astype(float))
        axes.plot([p.confidence for p in points], [p.accuracy for p in points], marker=marker, label=label)
    axes.set(xlabel="declared: the rule is still there", ylabel="share that is", xlim=(0, 1), ylim=(0, 1))
    axes.legend(frameon=False)
    figure.savefig(path)


if __name__ == "__main__":
    main()
