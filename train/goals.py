"""`python -m train.goals RUN`: what a policy was to reach, what it reached, and by how much it is short.

Takes the folder of an evaluation with the policy, its warm start and the baselines among its systems. Differences are
paired, with the report's own bootstrap; where one has to exclude 0, the end of its interval is what counts.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console

from eval.figures.goals import Goal, Run, ahead, as_table, mean, read_run, share
from eval.figures.knowing import knowing
from eval.figures.probe_table import Asked, System
from eval.figures.statistics import Estimate, ratios
from eval.scorers import is_claimed
from memkv.errors import ConfigError, MemkvError

BUDGETS = (0.25, 0.125)  # of the source's bytes
ROUNDS = (1, 2, 5)
IN_TEXT = {0.25: 0.90, 0.125: 0.75}
AHEAD_OF_PROMPTED = 0.40
BEHIND_REGISTRY = -0.03
FALSE, STALE = 0.03, 0.05
AUROC, SILENT = 0.80, 0.5
LAST_ROUND = 0.90
FLOOR, CEILING, REGISTRY = ("none", None), ("curated", None), "registry"
PROMPTED = ("summary", "extraction summary")
OTHERS = ("recency", "dense", "bm25", "hybrid")


@dataclass(frozen=True)
class Options:
    """Judge a policy.

    Attributes:
        run: folder of an evaluation.
        policy: its name among the systems.
        warm: name of the warm start among them.
        reinforced: name of what reinforcement made of the warm start.
    """

    run: tyro.conf.Positional[Path]
    policy: str = "trained"
    warm: str = "trained:train/warm_start"
    reinforced: str = "trained:train/reinforced"


def main(arguments: Sequence[str] | None = None) -> None:
    """Judge, and print the table."""
    options = tyro.cli(Options, prog="python -m train.goals", description=__doc__, args=arguments)
    try:
        print(as_table(goals(read_run(options.run, ROUNDS), options.policy, options.warm, options.reinforced)))
    except MemkvError as error:
        Console(stderr=True, soft_wrap=True).print(f"[red]{type(error).__name__}[/]: {error}", highlight=False)
        sys.exit(1)


def goals(run: Run, policy: str, warm: str, reinforced: str) -> list[Goal]:
    """All goals, budget by budget.

    Raises:
        ConfigError: the run has no rows of the policy at one of the budgets.
    """
    found: list[Goal] = []
    for budget in BUDGETS:
        ours = (policy, budget)
        if not run.has(ours):
            raise ConfigError(
                f"The run has no rows of {policy!r} at a budget of {budget:g}",
                "Add the system to its configuration and run it, or name another with --policy.",
            )
        found.append(Goal("rules in force that its text says", budget, IN_TEXT[budget], mean(run.says, ours)))
        found += [*beside_prompts(run, ours), *beside_retrieval(run, ours), *beside_registry(run, ours)]
        found += [*earned(run, (reinforced, budget), (warm, budget)), *honest(run, ours)]
        found.append(Goal("text after 5 rounds, of that after 1", budget, LAST_ROUND, over_rounds(run, ours)))
    return found


def beside_prompts(run: Run, ours: System) -> list[Goal]:
    """Against the better of the prompted summaries: questions right, and the same as a share of what text can do."""
    others = [(name, ours[1]) for name in PROMPTED if run.has((name, ours[1]))]
    if not others:
        return []
    best = max(others, key=lambda system: mean(run.right, system).value or 0.0)
    found = [
        Goal(f"questions right, ahead of {best[0]}", ours[1] or 0, AHEAD_OF_PROMPTED, ahead(run.right, ours, best))
    ]
    if run.has(FLOOR) and run.has(CEILING):
        lead = run.right.of(ours) - run.right.of(best)
        span = run.right.of(CEILING) - run.right.of(FLOOR)
        share = ratios(lead[None], span[None], run.right.groups)[0]
        name = f"effective retention, (x - {FLOOR[0]}) / ({CEILING[0]} - {FLOOR[0]}), ahead of {best[0]}"
        found.append(Goal(name, ours[1] or 0, AHEAD_OF_PROMPTED, share))
    return found


def beside_retrieval(run: Run, ours: System) -> list[Goal]:
    """Against recency and retrieval of the same bytes."""
    others = [(name, ours[1]) for name in OTHERS if run.has((name, ours[1]))]
    return [
        Goal(f"questions right, ahead of {other[0]}", ours[1] or 0, 0.0, ahead(run.right, ours, other), whole=True)
        for other in others
    ]


def beside_registry(run: Run, ours: System) -> list[Goal]:
    """Against rules pinned by their wording: where wording does not help, and elsewhere."""
    registry, budget = (REGISTRY, ours[1]), ours[1] or 0
    if not run.has(registry):
        return []
    plain: Callable[[Asked], bool] = lambda asked: not asked.implicit and asked.status == "active"  # noqa: E731
    kinds: list[tuple[str, float, Callable[[Asked], bool]]] = [
        ("implicit", 0.0, lambda asked: asked.implicit),
        ("amended", 0.0, lambda asked: asked.status == "superseded"),
        ("other", BEHIND_REGISTRY, plain),
    ]
    found = []
    for kind, wanted, which in kinds:
        part = run.right.only([which(asked) for asked in run.asked])
        found.append(
            Goal(f"questions on {kind} rules right, ahead of registry", budget, wanted, ahead(part, ours, registry))
        )
    for status in ("quoted", "revoked"):
        part = run.claims.only([rule.status == status for rule in run.others])
        found.append(
            Goal(f"{status} rules claimed, more than registry", budget, 0.0, ahead(part, ours, registry), most=True)
        )
    return found


def earned(run: Run, reinforced: System, warm: System) -> list[Goal]:
    """What the reinforcement has added to its warm start."""
    if not run.has(warm) or not run.has(reinforced):
        return []
    pairs = (("rules in its text", run.says), ("questions right", run.right))
    budget = reinforced[1] or 0
    found = [
        Goal(f"reinforced: {name}, ahead of its warm start", budget, 0.0, ahead(part, reinforced, warm), whole=True)
        for name, part in pairs
    ]
    name = "reinforced: false claims, more than its warm start makes"
    return [*found, Goal(name, budget, 0.0, ahead(run.claims, reinforced, warm), most=True, whole=True)]


def honest(run: Run, ours: System) -> list[Goal]:
    """What it claims without ground, and whether it knows what it lost."""
    budget = ours[1] or 0
    stale = [rule for rule in run.rules(ours) if rule.binds and rule.status == "superseded"]
    summary = next(((name, budget) for name in PROMPTED if run.has((name, budget))), (PROMPTED[0], budget))
    known = knowing(ours, run.answers(ours), run.rules(ours), run.discarded)
    found = [
        Goal("rules claimed that are not in force", budget, FALSE, false_share(run, ours), most=True),
        Goal(
            "amended rules with their old value", budget, STALE, share([r.verdict == "stale" for r in stale]), most=True
        ),
        Goal("ledger: AUROC for what its text still says", budget, AUROC, known.ledger_text),
    ]
    if run.has(summary):
        other = knowing(summary, run.answers(summary), run.rules(summary), run.discarded).silent_of_all.value
        ours_silent = known.silent_of_all.value
        ratio = Estimate(ours_silent / other) if ours_silent is not None and other else Estimate(None, reason="no loss")
        found.append(Goal("silent violations, as a share of the summary's", budget, SILENT, ratio, most=True))
    return found


def false_share(run: Run, ours: System) -> Estimate:
    """Of the rules that the texts claim, the share that is not in force."""
    return share([not rule.binds for rule in run.rules(ours) if is_claimed(rule.verdict or "absent")])


def over_rounds(run: Run, ours: System) -> Estimate:
    """Rules that texts say after the most rounds, divided by those after the fewest."""
    rounds = {asked.scenario: asked.rounds for asked in run.data.asked}
    first, last = (
        mean(run.says.only([rounds[rule.scenario] == count for rule in run.binding]), ours).value
        for count in (min(ROUNDS), max(ROUNDS))
    )
    if first is None or last is None or not first:
        return Estimate(None, reason="no conversations of both kinds")
    return Estimate(last / first)


if __name__ == "__main__":
    main()
