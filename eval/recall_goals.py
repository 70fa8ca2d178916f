"""`python -m eval.recall_goals RUN`: what recall was to reach, what it reached, and by how much it is short.

Takes the folder of a run with `recall` in its forms and the retrieval baselines among its systems
(`configs/recall.yaml`). Differences are paired, with the report's own bootstrap; where one has to exclude 0, the end of
its interval is what counts. Draws what splicing costs by how much of each segment is read again.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console

from eval.figures.goals import Goal, Run, ahead, as_table, mean, read_run
from eval.figures.probe_table import Asked, System
from eval.figures.statistics import Estimate, ratios
from memkv.errors import ConfigError, MemkvError

OF_FULL = {0: 0.95, 8: 0.98, 32: 0.98}  # tokens read again -> share of the answers that are right after reading all
FORMS = ("recall kv", "recall whole kv")
ALL = "all"
RETRIEVAL = ("dense", "bm25", "hybrid")
NOT_BEHIND = 0.0
LATE = 3 / 4  # of all sessions: a rule with more of them after it is delayed
KINDS: tuple[tuple[str, Callable[[Asked], bool]], ...] = (
    ("delayed", lambda asked: asked.sessions > LATE * asked.meetings),
    ("amended", lambda asked: asked.status == "superseded"),
    ("implicit", lambda asked: asked.implicit),
)


@dataclass(frozen=True)
class Options:
    """Judge recall.

    Attributes:
        run: folder of an evaluation.
        ours: the form of recall that is compared with retrieval.
        plot: SVG or PNG file for the curve of quality by what is read again.
    """

    run: tyro.conf.Positional[Path]
    ours: str = "recall kv 8"
    plot: Path | None = None


def main(arguments: Sequence[str] | None = None) -> None:
    """Judge, print the table, draw."""
    options = tyro.cli(Options, prog="python -m eval.recall_goals", description=__doc__, args=arguments)
    try:
        run = read_run(options.run)
        print(as_table([*spliced(run), *beside_retrieval(run, options.ours)]))
        if options.plot is not None:
            draw(run, options.plot)
    except MemkvError as error:
        Console(stderr=True, soft_wrap=True).print(f"[red]{type(error).__name__}[/]: {error}", highlight=False)
        sys.exit(1)


def spliced(run: Run) -> list[Goal]:
    """Right answers after a splice, as a share of those after reading all of the same segments."""
    found = []
    for form in FORMS:
        for name, budget in systems(run, f"{form} {ALL}"):
            for repair, wanted in OF_FULL.items():
                ours = (f"{form} {repair}", budget)
                if run.has(ours):
                    share = of_full(run, ours, (name, budget))
                    found.append(Goal(f"{ours[0]}, as a share of {name}", budget or 0, wanted, share))
    return found


def of_full(run: Run, ours: System, full: System) -> Estimate:
    """Questions right in one system, as a share of those right in the other."""
    return ratios(run.right.of(ours)[None], run.right.of(full)[None], run.right.groups)[0]


def beside_retrieval(run: Run, ours: str) -> list[Goal]:
    """Against the best retrieval of the same bytes: overall, where it was to be ahead, and elsewhere.

    Raises:
        ConfigError: the run has no rows of `ours`.
    """
    found = []
    for mine in systems(run, ours):
        budget = mine[1] or 0
        others = [(name, mine[1]) for name in RETRIEVAL if run.has((name, mine[1]))]
        if not others:
            continue
        best = max(others, key=lambda other: mean(run.right, other).value or 0.0)
        name = f"{ours}, ahead of {best[0]}"
        found.append(Goal(f"{name}: all questions", budget, 0.0, ahead(run.right, mine, best), whole=True))
        for kind, which in KINDS:
            part = run.right.only([which(asked) for asked in run.asked])
            found.append(Goal(f"{name}: {kind} rules", budget, 0.0, ahead(part, mine, best), whole=True))
        rest = run.right.only([not any(which(asked) for _, which in KINDS) for asked in run.asked])
        found.append(Goal(f"{name}: other rules", budget, NOT_BEHIND, ahead(rest, mine, best)))
    if not found:
        raise ConfigError(
            f"The run has no rows of {ours!r} beside retrieval of the same bytes",
            "Add both to its configuration and run it, or name another form with --ours.",
        )
    return found


def systems(run: Run, name: str) -> list[System]:
    """Those of one name, by budget."""
    return sorted((system for system in run.right.index if system[0] == name), key=lambda system: system[1] or 0)


def draw(run: Run, path: Path) -> None:
    """Share of questions right by how much of each segment is read again, with intervals; all of it at the right."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.subplots()
    repairs = [*map(str, OF_FULL), ALL]
    for shift, form in zip((-0.06, 0.06), FORMS, strict=True):
        for _, budget in systems(run, f"{form} {ALL}"):
            there = [n for n in repairs if run.has((f"{form} {n}", budget))]
            found = [mean(run.right, (f"{form} {n}", budget)) for n in there]
            values = [each.value or 0.0 for each in found]
            low = [value - (each.low or value) for value, each in zip(values, found, strict=True)]
            high = [(each.high or value) - value for value, each in zip(values, found, strict=True)]
            label = f"{form} n, at {budget:g}" + ("" if "whole" in form else ", and notes")
            places = [repairs.index(n) + shift for n in there]
            axes.errorbar(places, values, yerr=(low, high), marker="o", capsize=3, label=label)
    axes.set(ylim=(0, 1), xlabel="n: tokens of each segment that are read again", ylabel="questions right")
    axes.set_xticks(range(len(repairs)), repairs)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    print(f"Wrote {path}")


if __name__ == "__main__":
    main()
