"""What the run says in two sentences, made from its numbers."""

from __future__ import annotations

from collections.abc import Sequence

from eval.page.lines import Line, budgets_of, p_value, points, share, significant, with_interval


def headline(lines: Sequence[Line]) -> str:
    """Which system keeps most rules at the tightest budget, against the prompted summary."""
    budgets = budgets_of(lines)
    if not budgets:
        return "No system of this run has a byte budget, so there is nothing to compare at matched bytes."
    scored = [line for line in lines if line.row.budget == budgets[0] and line.row.survival.value is not None]
    if not scored:
        return f"No row at {share(budgets[0])} of the conversation's bytes was scored: see the failures below."
    # Who failed somewhere was spared those scenarios, so it cannot win.
    whole = [line for line in scored if not line.row.failed] or scored
    best = max(whole, key=lambda line: line.row.survival.value or 0.0)
    level = [line for line in whole if line.row.survival.value == best.row.survival.value]
    ties = [line.row.system for line in level if line is not best]
    rest = f"level with {', '.join(ties)}" if ties else f"best of {len(whole)} systems"
    fitting = " without a failed row" if len(whole) < len(scored) else ""
    return (
        f"At {share(budgets[0])} of the conversation's bytes, {best.row.system} keeps most rules: "
        f"{with_interval(best.row.survival)} ({rest}{fitting}); {against_summary(best, scored)}."
    )


def against_summary(best: Line, scored: Sequence[Line]) -> str:
    """The best one beside the prompted summary."""
    if best.row.system == "summary":
        return "it is the prompted summary itself"
    summary = next((line for line in scored if line.row.system == "summary"), None)
    if summary is None:
        return "there is no scored prompted summary at this budget to compare with"
    test = best.row.against["summary"]
    kept = f"the prompted summary keeps {with_interval(summary.row.survival)}"
    if test.p_holm is None:
        return f"{kept}, and there is no test of the difference ({test.difference.reason})"
    told = "" if significant(test) else " that this run cannot tell from none"
    return f"{kept}, a difference of {points(test.difference)} points{told} (p {p_value(test.p_holm)} after Holm)"


def ends(lines: Sequence[Line]) -> str:
    """Ceiling, floor, and whether they separate."""
    found = {line.row.system: line.row for line in lines if line.row.system in ("full", "none")}
    if len(found) < 2:
        return "Full context and no memory were not both run, so there is no ceiling or no floor."
    full, none = found["full"], found["none"]
    words = (
        f"With the full conversation in front of it the model answers {with_interval(full.survival)} rightly, without "
        f"any memory {with_interval(none.survival)}."
    )
    if full.retention.value is None:
        return f"{words} Effective retention is refused ({full.retention.reason})."
    return words
