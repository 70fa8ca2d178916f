"""What tables and charts of the report share: one `Line` for each system and budget, families, numbers as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from eval.figures.analysis import Analysis, SystemRow
from eval.figures.knowing import Knowing
from eval.figures.statistics import Comparison, Estimate
from eval.running.cell import DOES_NOT_FIT
from eval.running.endpoint import ENDPOINT
from eval.systems import RETRIEVAL
from eval.systems.kv import KV_NAMES
from memkv.config import format_bytes

# In the order of tables and colours.
FAMILIES = {
    "text": "text memory",
    "retrieval": "retrieval",
    "cache": "stored cache",
    "reference": "reference",
}
REFERENCES = ("none", "full", "curated")
NOTHING = "–"


@dataclass(frozen=True)
class Line:
    """One system at one budget, with all that is known of it.

    Attributes:
        row, known: its figures.
        family: one of FAMILIES.
        unfit: rows in which it could not be as small as its budget; `broken` those that failed in any other way.
    """

    row: SystemRow
    known: Knowing
    family: str
    unfit: int
    broken: int

    @property
    def key(self) -> tuple[str, float | None]:
        """System and budget."""
        return (self.row.system, self.row.budget)

    @property
    def dead(self) -> str:
        """Why it has no figures at all, where every row failed; else empty."""
        return self.row.survival.reason if self.row.failed == self.row.rows else ""

    @property
    def label(self) -> str:
        """System and budget as text."""
        return self.row.system if self.row.budget is None else f"{self.row.system} {share(self.row.budget)}"


def lines_of(analysis: Analysis) -> list[Line]:
    """Every system and budget: tightest budget first, then those without one; the best first in each."""
    known = {(k.system, k.budget): k for k in analysis.knowing}
    found = [line_of(row, known[row.system, row.budget]) for row in analysis.overall]
    return sorted(found, key=order)


def line_of(row: SystemRow, known: Knowing) -> Line:
    """One line."""
    unfit = row.failures.get(DOES_NOT_FIT, 0)
    return Line(row, known, family(row.system), unfit, row.failed - unfit)


def order(line: Line) -> tuple[bool, float, float, str]:
    """What tables are sorted by."""
    score = line.row.survival.value
    return (line.row.budget is None, line.row.budget or 0.0, 1.0 if score is None else -score, line.row.system)


def family(system: str) -> str:
    """Which kind of memory it is; a function of somebody's own is text memory."""
    if system in REFERENCES or system.startswith(ENDPOINT):
        return "reference"
    if system.partition(" ")[0] in RETRIEVAL:
        return "retrieval"
    return "cache" if system.partition("+")[0] in KV_NAMES else "text"


def budgets_of(lines: Iterable[Line]) -> list[float]:
    """All budgets, the tightest first."""
    return sorted({line.row.budget for line in lines if line.row.budget is not None})


def common_budget(lines: Sequence[Line]) -> float | None:
    """The budget that most systems were run at, of equals the tightest; None where no system has one."""
    counts = Counter(line.row.budget for line in lines if line.row.budget is not None)
    return min(counts, key=lambda budget: (-counts[budget], budget), default=None)


def matched(lines: Sequence[Line]) -> list[Line]:
    """One line a system, by family and name: at the common budget, or at its tightest if it was not run there."""
    common = common_budget(lines)
    found: dict[str, Line] = {}
    for line in sorted(lines, key=lambda line: (line.row.budget != common, line.row.budget or 0.0)):
        found.setdefault(line.row.system, line)
    return by_family(found.values())


def at_matched(lines: Sequence[Line]) -> str:
    """What `matched` shows, for a sentence: `at 25% of the conversation's bytes (others as labelled)`."""
    common = common_budget(lines)
    if common is None:
        return "without a budget"
    others = any(line.row.budget not in (None, common) for line in matched(lines))
    return f"at {share(common)} of the conversation's bytes{' (others as labelled)' if others else ''}"


def by_family(lines: Iterable[Line]) -> list[Line]:
    """References last."""
    places = list(FAMILIES)
    return sorted(lines, key=lambda line: (places.index(line.family), line.row.system, line.row.budget or 0.0))


def leaders(lines: Sequence[Line]) -> list[Line]:
    """The few that fit into one chart: each family's best at the tightest budget, the summary, full and none.

    Who failed somewhere was spared those scenarios, and comes behind those that did not.
    """
    first = budgets_of(lines)[:1]
    at_budget = [line for line in lines if [line.row.budget] == first and line.row.survival.value is not None]
    at_budget.sort(key=lambda line: line.row.failed > 0)
    chosen = [line for line in at_budget if line.row.system == "summary"]
    for name in ("text", "retrieval", "cache"):
        chosen += [line for line in at_budget if line.family == name and line not in chosen][:1]
    chosen += [line for line in lines if line.row.system in ("full", "none")]
    return by_family(chosen or lines[:4])


def percent(value: float | None) -> str:
    """`62%`; a dash for None."""
    return NOTHING if value is None else f"{round(100 * value)}%".replace("-", "−")


def share(budget: float | None) -> str:
    """A budget: `12.5%`."""
    return NOTHING if budget is None else f"{100 * budget:g}%"


def interval(estimate: Estimate) -> str:
    """`[55, 69]`, in percent; empty where there is none."""
    if estimate.low is None or estimate.high is None:
        return ""
    return f"[{round(100 * estimate.low)}, {round(100 * estimate.high)}]".replace("-", "−")


def with_interval(estimate: Estimate) -> str:
    """`62% [55, 69]`."""
    return f"{percent(estimate.value)} {interval(estimate)}".rstrip()


def points(estimate: Estimate) -> str:
    """A difference in percentage points with its interval: `+24 [10, 38]`."""
    if estimate.value is None:
        return NOTHING
    return f"{round(100 * estimate.value):+d} {interval(estimate)}".rstrip().replace("-", "−")


def p_value(p: float | None) -> str:
    """`0.012`, `< 0.001`."""
    return NOTHING if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def significant(test: Comparison) -> bool:
    """At 5% after Holm's correction."""
    return test.p_holm is not None and test.p_holm < 0.05


def plain(value: float | None) -> str:
    """Two decimals."""
    return NOTHING if value is None else f"{value:.2f}"


def size(value: float | None) -> str:
    """Bytes in binary units."""
    return NOTHING if value is None else format_bytes(value)


def seconds(value: float | None) -> str:
    """`340 ms`, `2.1 s`, `3.5 min`."""
    if value is None:
        return NOTHING
    if value < 0.0995:
        return f"{1000 * value:.1f} ms" if value < 0.00995 else f"{1000 * value:.0f} ms"
    if value < 0.9995:
        return f"{1000 * value:.0f} ms"
    return f"{value:.1f} s" if value < 100 else f"{value / 60:.1f} min"


def whole(value: float | None) -> str:
    """A count."""
    return NOTHING if value is None else f"{value:,.0f}"
