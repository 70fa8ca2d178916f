"""Does the model know what was lost? Calibration and losses of one system at one budget.

A binding rule counts as *lost* in a row when one of its value or behaviour probes is wrong there, and as *survived*
when all are right; probes that were screened out take no part. Existence probes ask whether there is such a rule in
force: yes, no, or not sure. Every figure is an `Estimate`: without a value, its `reason` says what was missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import brier_score_loss, roc_auc_score

from eval.figures.probe_table import Answered, Kept, ProbeKey, System
from eval.figures.statistics import DRAWS, Estimate, Floats, Groups, means
from eval.scorers import is_kept

YES, NO, NOT_SURE = 0, 1, 2
BINS = 10
LEAST_A_BIN = 5
CURVE_POINTS = 50
LOSS_KINDS = ("value", "behaviour")
GROUPS = ("survived", "lost", "never")


@dataclass(frozen=True)
class Bin:
    """One bin of a reliability diagram: mean confidence, share that was right, and how many answers."""

    confidence: float
    accuracy: float
    n: int


@dataclass(frozen=True)
class CurvePoint:
    """Risk (share wrong) among the most confident answers, when this share of all is answered."""

    coverage: float
    risk: float


@dataclass(frozen=True)
class Knowing:
    """One system at one budget. Rates are shares from 0 to 1.

    Attributes:
        silent: of lost rules, those whose existence probe does not say "not sure".
        silent_of_all: the same over all binding rules: rules violated without a word.
        confabulation: "yes" on rules that never existed.
        outdated_yes: "yes" on rules that were said but do not bind (revoked, expired, scoped, quoted, injected).
        false_denial: "no" on binding rules; `false_denial_lost` on the lost ones of them.
        stale_choice: the superseded value chosen, on probes of superseded rules; `stale_probability` its mean
            probability.
        brier: mean (p_yes - truth)^2 by GROUPS; truth is 1 for survived and lost, 0 for never.
        ece: adaptive calibration error of p_yes by GROUPS, and for `all` three together.
        existence_bins: reliability of p_yes over binding and never rules together.
        choice_ece, choice_bins: the same for value probes: the top option's probability against being right.
        aurc: area under `risk_coverage`: value probes of binding rules, answered in order of the top probability.
        ledger_text: AUROC of the ledger's probabilities for what the text still says rightly, over binding rules.
        ledger_probes: the same for survived against lost.
        existence_auroc: AUROC of p_yes, binding against never: what is known beneath a bias to yes or no.
    """

    system: str
    budget: float | None
    silent: Estimate
    silent_of_all: Estimate
    confabulation: Estimate
    outdated_yes: Estimate
    false_denial: Estimate
    false_denial_lost: Estimate
    stale_choice: Estimate
    stale_probability: Estimate
    brier: dict[str, Estimate]
    ece: dict[str, Estimate]
    existence_bins: tuple[Bin, ...]
    choice_ece: Estimate
    choice_bins: tuple[Bin, ...]
    aurc: Estimate
    risk_coverage: tuple[CurvePoint, ...]
    ledger_text: Estimate
    ledger_probes: Estimate
    existence_auroc: Estimate


def knowing(
    system: System,
    answers: Sequence[Answered],
    rules: Sequence[Kept],
    discarded: frozenset[ProbeKey] = frozenset(),
    draws: int = DRAWS,
    seed: int = 0,
) -> Knowing:
    """All of it, from the answers and rules of one system at one budget, all seeds."""
    lost = losses(answers, discarded)
    existence = [a for a in answers if a.asked.kind == "existence"]
    binding = [a for a in existence if a.asked.binds]
    never = [a for a in existence if a.asked.status == "never"]
    outdated = [a for a in existence if not a.asked.binds and a.asked.status != "never"]
    judged = [a for a in binding if rule_of(a) in lost]
    gone = [a for a in judged if lost[rule_of(a)]]
    values = [a for a in answers if a.asked.kind == "value" and a.asked.binds and a.asked.key not in discarded]
    stale = [a for a in answers if a.asked.status == "superseded" and a.asked.stale is not None]
    scored_stale = [a for a in stale if a.probabilities]
    none_lost = "no lost rule has an existence probe"
    no_existence = "no existence probe on a binding rule"

    def rate(found: Sequence[Answered], flags: Sequence[float], reason: str) -> Estimate:
        return share(found, flags, reason, draws, seed)

    by_group = {
        "survived": [a for a in judged if not lost[rule_of(a)]],
        "lost": gone,
        "never": never,
    }
    confidence = {name: [a for a in found if a.probabilities] for name, found in by_group.items()}
    everything = [a for a in (*binding, *never) if a.probabilities]
    ranked = [a for a in values if a.probabilities]
    top = np.array([max(a.probabilities) for a in ranked])
    right = np.array([float(a.right) for a in ranked])
    curve = risk_curve(top, right)
    return Knowing(
        system=system[0],
        budget=system[1],
        silent=rate(gone, [a.choice != NOT_SURE for a in gone], none_lost),
        silent_of_all=rate(
            judged,
            [lost[rule_of(a)] and a.choice != NOT_SURE for a in judged],
            "no binding rule has both an existence probe and one on its value or behaviour",
        ),
        confabulation=rate(never, [a.choice == YES for a in never], "no existence probe on a rule that never was"),
        outdated_yes=rate(
            outdated, [a.choice == YES for a in outdated], "no existence probe on a rule that does not bind any more"
        ),
        false_denial=rate(binding, [a.choice == NO for a in binding], no_existence),
        false_denial_lost=rate(gone, [a.choice == NO for a in gone], none_lost),
        stale_choice=rate(stale, [a.choice == a.asked.stale for a in stale], "no probe offers a superseded value"),
        stale_probability=rate(
            scored_stale,
            [a.probabilities[a.asked.stale] for a in scored_stale if a.asked.stale is not None],
            "no probe with likelihoods offers a superseded value",
        ),
        brier={name: brier(found) for name, found in confidence.items()},
        ece={name: calibration(yes(found), truth(found)) for name, found in (*confidence.items(), ("all", everything))},
        existence_bins=bins(yes(everything), truth(everything)),
        choice_ece=calibration(top, right),
        choice_bins=bins(top, right),
        aurc=area(top, right),
        risk_coverage=curve,
        ledger_text=ledger_text(rules),
        ledger_probes=ledger_probes(rules, lost),
        existence_auroc=auroc(yes(everything), truth(everything), "existence probes with likelihoods"),
    )


def rule_of(entry: Answered) -> tuple[str, str]:
    """Row and rule."""
    return (entry.row, entry.asked.rule)


def losses(answers: Sequence[Answered], discarded: frozenset[ProbeKey]) -> dict[tuple[str, str], bool]:
    """(row, rule) -> whether it was lost, for binding rules with a value or behaviour probe that was not discarded."""
    lost: dict[tuple[str, str], bool] = {}
    for a in answers:
        if a.asked.binds and a.asked.kind in LOSS_KINDS and a.asked.key not in discarded:
            lost[rule_of(a)] = lost.get(rule_of(a), False) or not a.right
    return lost


def share(found: Sequence[Answered], flags: Sequence[float], reason: str, draws: int, seed: int) -> Estimate:
    """Mean of `flags`, one for each answer, with its clustered interval."""
    if not found:
        return Estimate(None, reason=reason)
    groups = Groups([a.asked.pair for a in found], [a.asked.family for a in found])
    return means(np.array([flags], dtype=np.float64), groups, draws, seed)[0]


def yes(found: Sequence[Answered]) -> Floats:
    """Probability of "yes"."""
    return np.array([a.probabilities[YES] for a in found])


def truth(found: Sequence[Answered]) -> Floats:
    """1.0 for rules that bind."""
    return np.array([float(a.asked.binds) for a in found])


def brier(found: Sequence[Answered]) -> Estimate:
    """Brier score of p_yes."""
    if not found:
        return Estimate(None, reason="no existence probe with likelihoods in this group")
    return Estimate(float(brier_score_loss(truth(found), yes(found), labels=[0, 1])), n=len(found))


def bins(confidence: Floats, right: Floats) -> tuple[Bin, ...]:
    """Bins of equal mass (Nguyen & O'Connor 2015, arXiv:1508.05154); equal confidences share one."""
    if not len(confidence):
        return ()
    count = max(1, min(BINS, len(confidence) // LEAST_A_BIN))
    edges = np.unique(np.quantile(confidence, np.linspace(0, 1, count + 1)[1:-1]))
    where = np.searchsorted(edges, confidence, side="right")
    return tuple(
        Bin(float(confidence[where == b].mean()), float(right[where == b].mean()), int((where == b).sum()))
        for b in np.unique(where)
    )


def calibration(confidence: Floats, right: Floats) -> Estimate:
    """Expected calibration error over bins of equal mass."""
    found = bins(confidence, right)
    if not found:
        return Estimate(None, reason="no answer with likelihoods")
    n = len(confidence)
    return Estimate(sum(b.n * abs(b.confidence - b.accuracy) for b in found) / n, n=n)


def risks(confidence: Floats, right: Floats) -> Floats:
    """Expected share wrong among the k most confident answers, k = 1 .. n; ties in random order."""
    levels, where = np.unique(-confidence, return_inverse=True)
    wrong = np.bincount(where, weights=1 - right, minlength=len(levels)) / np.bincount(where, minlength=len(levels))
    return np.cumsum(wrong[np.sort(where)]) / (np.arange(len(confidence)) + 1)


def risk_curve(confidence: Floats, right: Floats) -> tuple[CurvePoint, ...]:
    """The risk-coverage curve (Geifman & El-Yaniv 2017, arXiv:1705.08500), at most CURVE_POINTS points."""
    if not len(confidence):
        return ()
    risk, n = risks(confidence, right), len(confidence)
    shown = np.unique(np.linspace(0, n - 1, min(n, CURVE_POINTS)).round().astype(int))
    return tuple(CurvePoint((k + 1) / n, float(risk[k])) for k in shown)


def area(confidence: Floats, right: Floats) -> Estimate:
    """Area under the risk-coverage curve: mean risk over all coverages."""
    if not len(confidence):
        return Estimate(None, reason="no value probe with likelihoods on a binding rule")
    return Estimate(float(risks(confidence, right).mean()), n=len(confidence))


def auroc(scores: Floats, labels: Floats, what: str) -> Estimate:
    """Area under the ROC curve; it needs both classes."""
    if not len(scores):
        return Estimate(None, reason=f"no {what}")
    if len(np.unique(labels)) < 2:
        return Estimate(None, n=len(scores), reason=f"all {what} are of one class")
    return Estimate(float(roc_auc_score(labels, scores)), n=len(scores))


def ledger_text(rules: Sequence[Kept]) -> Estimate:
    """The ledger against the text's verdicts."""
    found = [(k.declared, k.verdict) for k in rules if k.binds and k.declared is not None and k.verdict is not None]
    declared = np.array([d for d, _ in found], dtype=np.float64)
    right = np.array([float(is_kept(verdict)) for _, verdict in found])
    return auroc(declared, right, "binding rules in a ledger and a text")


def ledger_probes(rules: Sequence[Kept], lost: dict[tuple[str, str], bool]) -> Estimate:
    """The ledger against what the probes show."""
    found = [(k.declared, lost[k.row, k.rule]) for k in rules if k.declared is not None and (k.row, k.rule) in lost]
    declared = np.array([d for d, _ in found], dtype=np.float64)
    survived = np.array([float(not gone) for _, gone in found])
    return auroc(declared, survived, "probed rules in a ledger")
