"""The charts of the report: from an `Analysis` to SVG, each with one line of explanation and where it comes from."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from eval.figures.analysis import Analysis
from eval.figures.breakdowns import Breakdown
from eval.figures.statistics import Estimate
from eval.page.lines import (
    FAMILIES,
    Line,
    at_matched,
    budgets_of,
    common_budget,
    leaders,
    matched,
    percent,
    seconds,
    share,
    size,
    with_interval,
)
from eval.page.svg import TEXT, WIDTH, DotRow, Drawing, Point, Scale, Series, dot_rows, draw, frame, spread

HEIGHT = 330.0
LEFT, TOP, BOTTOM = 42.0, 14.0, 46.0
SHAPES = {"ring": "○", "square": "■", "dot": "●", "diamond": "◆"}
TITLES = {
    "rounds": ("Survival against compaction rounds", "compactions in the whole conversation"),
    "meetings": ("Survival against sessions", "sessions of the conversation; asked in one more"),
    "delay": ("Survival against delay", "words said after the rule"),
}


@dataclass(frozen=True)
class Figure:
    """One chart.

    Attributes:
        name: in links, unique.
        says: what is shown, in a line or two.
        source: rows and figures of the analysis that it was drawn from.
        svg: the picture; empty where there is nothing to draw, and then `reason` says why.
    """

    name: str
    title: str
    says: str
    source: str
    svg: str = ""
    reason: str = ""


def figures(analysis: Analysis, lines: Sequence[Line]) -> list[Figure]:
    """All charts in the order of the page."""
    by_name = {(b.dimension, b.metric): b for b in analysis.breakdowns}
    shown = [by_name[name, "survival"] for name in TITLES if (name, "survival") in by_name]
    return [
        frontier(lines),
        *(tradeoff(lines, family) for family in ("text", "retrieval", "cache")),
        *(over_levels(breakdown, leaders(lines)) for breakdown in shown),
        made_up(lines),
        unknowing(lines),
        reliability(lines),
        risk_coverage(lines),
        ranking(lines),
        latency(lines),
        at_rest(lines),
    ]


def shape_of(budget: float | None, budgets: Sequence[float]) -> str:
    """A ring for the tightest budget, a dot for the widest, a square between, a diamond for none at all."""
    if budget is None or not budgets:
        return "diamond"
    return "dot" if budget == budgets[-1] and len(budgets) > 1 else "ring" if budget == budgets[0] else "square"


def key(budgets: Sequence[float]) -> str:
    """What the marks mean."""
    found = [f"{SHAPES[shape_of(budget, budgets)]} {share(budget)}" for budget in budgets]
    return ", ".join([*found, f"{SHAPES['diamond']} no budget"])


def tip(line: Line, estimate: Estimate) -> str:
    """What a mark says when pointed at."""
    return f"{line.label}: {with_interval(estimate)}, {size(line.row.cost.active_bytes)} active"


def drawable(lines: Sequence[Line]) -> list[Line]:
    """Those that have both bytes and a score; a logarithmic scale has no place for 0 bytes."""
    return [line for line in lines if line.row.survival.value is not None and line.row.cost.active_bytes]


def byte_chart(name: str, lines: Sequence[Line]) -> tuple[Drawing, Scale, Scale]:
    """Axes of survival against bytes; the same for all families. Ceiling and floor as lines across."""
    sizes = [line.row.cost.active_bytes or 1.0 for line in drawable(lines)]
    drawing = Drawing(HEIGHT, name)
    x = Scale(0.85 * min(sizes), 1.2 * max(sizes), LEFT, WIDTH - 92, log=True, base=2.0)
    y = Scale(0.0, 1.0, HEIGHT - BOTTOM, TOP)
    frame(
        drawing,
        x,
        y,
        [(x(tick), short_size(tick)) for tick in x.ticks()],
        "bytes of live cache in front of a question, log scale",
    )
    for line in lines:
        if line.row.system in ("full", "none") and line.row.survival.value is not None:
            drawing.line(x.start, y(line.row.survival.value), x.end, y(line.row.survival.value), "guide")
            words = "full context" if line.row.system == "full" else "no memory"
            drawing.text(
                x.start + 4, y(line.row.survival.value) - 8, f"{words} {percent(line.row.survival.value)}", "tick"
            )
    return drawing, x, y


def frontier(lines: Sequence[Line]) -> Figure:
    """All systems in one chart; those that nothing beats in both bytes and survival are labelled."""
    title = "Rules surviving against active bytes: everything"
    says = (
        "Up and to the left is better. Labelled and joined: what no other memory beats in both (the Pareto frontier); "
        "the pale dots are beaten, or failed in some scenarios and were spared these. References, which are told the "
        "rules or keep everything, stand apart (◆)."
    )
    source = "rows.jsonl: active_bytes, right answers; Analysis.overall (cost.active_bytes, survival)"
    found = drawable(lines)
    if not found:
        return Figure("frontier", title, says, source, reason="no system has both bytes and a score")
    drawing, x, y = byte_chart(title, lines)
    best = unbeaten([line for line in found if line.family != "reference" and not line.row.failed])
    for line in found:
        if line.family != "reference" and line not in best:
            point = byte_point(line)
            drawing.mark("dot", x(point.x), y(point.y), f"{line.family} pale", point.title)
    steps = [(x(byte_point(line).x), y(byte_point(line).y)) for line in best]
    path = "".join(f"H{right:.1f}V{up:.1f}" for right, up in steps[1:])
    if path:
        drawing.add("path", d=f"M{steps[0][0]:.1f} {steps[0][1]:.1f}{path}", class_="frontier path")
    shown = [*best, *(line for line in found if line.family == "reference")]
    draw(drawing, [Series(line.label, line.family, [byte_point(line)]) for line in shown], x, y)
    return Figure("frontier", title, says, source, drawing.svg())


def unbeaten(lines: Sequence[Line]) -> list[Line]:
    """Those that keep more than everything that takes no more bytes, by bytes."""
    best: list[Line] = []
    for line in sorted(lines, key=lambda line: (line.row.cost.active_bytes or 0.0, -(line.row.survival.value or 0.0))):
        if not best or (line.row.survival.value or 0.0) > (best[-1].row.survival.value or 0.0):
            best.append(line)
    return best


def byte_point(line: Line, budgets: Sequence[float] = ()) -> Point:
    """One system and budget in a chart of survival against bytes."""
    value = line.row.survival
    shape = "diamond" if line.family == "reference" else shape_of(line.row.budget, budgets) if budgets else "dot"
    return Point(line.row.cost.active_bytes or 1.0, value.value or 0.0, value.low, value.high, shape, tip(line, value))


def tradeoff(lines: Sequence[Line], family: str) -> Figure:
    """One family against bytes, a line a system."""
    title = f"Rules surviving against active bytes: {FAMILIES[family]}"
    budgets = budgets_of(lines)
    says = f"The same axes for one family; {key(budgets)}. Marks that would hide each other are set side by side."
    source = "rows.jsonl: active_bytes, right answers; Analysis.overall (cost.active_bytes, survival)"
    own = [line for line in drawable(lines) if line.family == family]
    if not own:
        return Figure(f"bytes-{family}", title, says, source, reason=f"no {FAMILIES[family]} in this run has a score")
    drawing, x, y = byte_chart(title, lines)
    systems: dict[str, list[Line]] = {}
    for line in sorted(own, key=lambda line: line.row.cost.active_bytes or 0.0):
        systems.setdefault(line.row.system, []).append(line)
    series = [Series(name, family, [byte_point(line, budgets) for line in found]) for name, found in systems.items()]
    draw(drawing, series, x, y)
    return Figure(f"bytes-{family}", title, says, source, drawing.svg())


def over_levels(breakdown: Breakdown, chosen: Sequence[Line]) -> Figure:
    """Survival by the levels of something ordered, for a few systems."""
    title, x_title = TITLES[breakdown.dimension]
    says = (
        "The best of each family at the tightest budget, the prompted summary, and both references (dashed: "
        "summary and none); all systems in the tables below."
    )
    source = f"rows.jsonl and scenarios.jsonl; Analysis.breakdowns, dimension {breakdown.dimension}, metric survival"
    cells = {(cell.system, cell.budget, cell.level): cell.score for cell in breakdown.cells}
    drawing, x, y = (
        Drawing(HEIGHT, title),
        Scale(-0.3, max(len(breakdown.levels) - 0.7, 0.3), LEFT, WIDTH - 118),
        Scale(0.0, 1.0, HEIGHT - BOTTOM, TOP),
    )
    frame(drawing, x, y, [(x(place), broken(level)) for place, level in enumerate(breakdown.levels)], x_title)
    series = []
    for line in chosen:
        found = [(n, level, cells.get((*line.key, level), Estimate(None))) for n, level in enumerate(breakdown.levels)]
        points = [
            Point(n, e.value, e.low, e.high, "dot", f"{line.label}, {level}: {with_interval(e)}, {e.n} probes")
            for n, level, e in found
            if e.value is not None
        ]
        series.append(Series(line.row.system, css_of(line), points))
    if not any(s.points for s in series):
        return Figure(f"by-{breakdown.dimension}", title, says, source, reason="no probe was scored")
    if len(breakdown.levels) == 1:
        says += " This run has one level only."
    draw(drawing, [s for s in series if s.points], x, y)
    return Figure(f"by-{breakdown.dimension}", title, says, source, drawing.svg())


def broken(level: str) -> str:
    """A level in two lines where it is long."""
    return level.replace(" words", "\nwords", 1) if len(level) > 8 else level


def css_of(line: Line) -> str:
    """Colour of the family; the summary, which others are measured against, and the floor are dashed."""
    return f"{line.family} dashed" if line.row.system in ("summary", "none") else line.family


def row_label(line: Line, lines: Sequence[Line]) -> str:
    """The system; with its budget where that is not the common one."""
    return line.row.system if line.row.budget == common_budget(lines) else line.label


def rows_of(lines: Sequence[Line], marks: Callable[[Line], Sequence[tuple[Estimate, str]]]) -> list[DotRow]:
    """A row for each system at the matched budget. Without a mark: the first reason."""
    found = []
    for line in matched(lines):
        made = marks(line)
        points = [
            Point(e.value, 0.0, e.low, e.high, shape, f"{line.label}: {with_interval(e)}, n {e.n}")
            for e, shape in made
            if e.value is not None
        ]
        reason = line.dead or next((e.reason for e, _ in made if e.value is None), "")
        found.append(DotRow(row_label(line, lines), line.family, points, reason))
    return found


def empty(rows: Sequence[DotRow]) -> str:
    """Why there is nothing to draw at all."""
    return "" if any(row.points for row in rows) else next((row.reason for row in rows if row.reason), "no rows")


def made_up(lines: Sequence[Line]) -> Figure:
    """Confabulation and false denial, side by side."""
    title = "Confabulation and false denial"
    says = (
        "● says yes to a rule that never was; ○ says no to a rule that was lost. Both "
        f"{at_matched(lines)}; left is better. A memory that always says yes has only the first at 100%, one that "
        "always says no only the second."
    )
    rows = rows_of(lines, lambda line: [(line.known.confabulation, "dot"), (line.known.false_denial_lost, "ring")])
    return dotted("confabulation", title, says, "existence answers; Knowing.confabulation, .false_denial_lost", rows)


def unknowing(lines: Sequence[Line]) -> Figure:
    """Silent violations and stale confidence."""
    title = "Silent violations and stale confidence"
    says = (
        "● of the rules that it lost, those it does not admit to be unsure of; ○ the superseded value chosen "
        f"where a rule was changed. Systems {at_matched(lines)}; left is better."
    )
    rows = rows_of(lines, lambda line: [(line.known.silent, "dot"), (line.known.stale_choice, "ring")])
    return dotted(
        "silent", title, says, "answers to existence, value and behaviour probes; Knowing.silent, .stale_choice", rows
    )


def dotted(name: str, title: str, says: str, source: str, rows: Sequence[DotRow]) -> Figure:
    """Rows of shares from 0 to 100%."""
    reason = empty(rows)
    svg = "" if reason else dot_rows(title, rows, (0.0, 1.0), percent)
    return Figure(name, title, says, f"rows.jsonl: {source}", svg, reason)


def curve_chart(
    name: str, title: str, says: str, source: str, x_title: str, series: Sequence[Series], guide: bool
) -> Figure:
    """Lines over a share from 0 to 100%; `guide` draws the diagonal."""
    found = [s for s in series if s.points]
    if not found:
        return Figure(name, title, says, source, reason="no answer with likelihoods")
    drawing, x, y = Drawing(HEIGHT, title), Scale(0.0, 1.0, LEFT, WIDTH - 118), Scale(0.0, 1.0, HEIGHT - BOTTOM, TOP)
    frame(drawing, x, y, [(x(tick), percent(tick)) for tick in x.ticks()], x_title)
    if guide:
        drawing.line(x(0), y(0), x(1), y(1), "guide")
    draw_curves(drawing, found, x, y)
    return Figure(name, title, says, source, drawing.svg())


def draw_curves(drawing: Drawing, series: Sequence[Series], x: Scale, y: Scale) -> None:
    """Lines where they are (nothing is moved apart), with labels in a column at the right."""
    for s in series:
        path = "L".join(f"{x(p.x):.1f} {y(p.y):.1f}" for p in s.points)
        drawing.add("path", d=f"M{path}", class_=f"{s.css} path")
        for p in s.points if len(s.points) <= 12 else ():
            drawing.mark(p.shape, x(p.x), y(p.y), s.css, p.title)
    heights = spread([y(s.points[-1].y) for s in series], TEXT, y.end, y.start)
    for s, height in zip(series, heights, strict=True):
        drawing.line(x(s.points[-1].x) + 5, y(s.points[-1].y), x.end + 10, height, "leader")
        drawing.text(x.end + 12, height, s.label, f"{s.css} label")


def reliability(lines: Sequence[Line]) -> Figure:
    """Calibration of "yes"."""

    def series(line: Line) -> Series:
        points = [
            Point(
                b.confidence,
                b.accuracy,
                title=f"{line.label}: says {percent(b.confidence)}, is {percent(b.accuracy)}, n {b.n}",
            )
            for b in line.known.existence_bins
        ]
        return Series(line.row.system, css_of(line), points)

    return curve_chart(
        "reliability",
        "Calibration: is a rule in force?",
        "How often a rule holds, against the probability given to yes, in bins of equal mass. On the diagonal, "
        "confidence is earned; below it, the model is too sure of rules that never were. Systems as in the charts of "
        "survival, at the tightest budget.",
        "rows.jsonl: scores of existence probes on binding and never rules; Knowing.existence_bins",
        "probability given to yes",
        [series(line) for line in leaders(lines)],
        guide=True,
    )


def risk_coverage(lines: Sequence[Line]) -> Figure:
    """Risk when only the surest answers are given."""
    return curve_chart(
        "risk",
        "Risk and coverage",
        "Share of wrong answers when only the surest are given. A line that rises from the left means that "
        "confidence tells right from wrong; a flat one means that it does not. Systems as before.",
        "rows.jsonl: scores of value probes on binding rules; Knowing.risk_coverage",
        "share of value probes answered, surest first",
        [
            Series(line.row.system, css_of(line), [Point(p.coverage, p.risk) for p in line.known.risk_coverage])
            for line in leaders(lines)
        ],
        guide=False,
    )


def ranking(lines: Sequence[Line]) -> Figure:
    """AUROCs: what is known beneath any bias."""
    title = "Does it know which rules are gone?"
    says = (
        "AUROC, 50% is chance, right is better. ● ledger against what the text still says; ■ ledger against what "
        "the probes show; ◆ probability of yes, rules that hold against rules that never were. "
        f"Systems {at_matched(lines)}."
    )

    def marks(line: Line) -> list[tuple[Estimate, str]]:
        known = line.known
        return [(known.existence_auroc, "diamond"), (known.ledger_text, "dot"), (known.ledger_probes, "square")]

    rows = rows_of(lines, marks)
    source = "rows.jsonl: ledger, said, existence scores; Knowing.ledger_text, .ledger_probes, .existence_auroc"
    reason = empty(rows)
    svg = "" if reason else dot_rows(title, rows, (0.0, 1.0), percent, guides=((0.5, "chance"),))
    return Figure("auroc", title, says, source, svg, reason)


def latency(lines: Sequence[Line]) -> Figure:
    """Seconds to the first token and to build the memory."""

    def marks(line: Line) -> list[tuple[float | None, str, str]]:
        cost = line.row.cost
        return [(cost.remember, "square", "building"), (cost.first_token, "dot", "first token")]

    return amounts(
        "latency",
        "Latency",
        "Medians on this machine, log scale: ● from a question to the first token of its answer; ■ building the "
        f"memory (compaction, indexing, compression). Systems {at_matched(lines)}; left is better.",
        "times.jsonl: first_token, remember; Analysis.overall (cost.first_token, cost.remember)",
        lines,
        marks,
        seconds,
        10.0,
    )


def at_rest(lines: Sequence[Line]) -> Figure:
    """Bytes kept between sessions, and live ones beside them."""

    def marks(line: Line) -> list[tuple[float | None, str, str]]:
        cost = line.row.cost
        return [(cost.active_bytes, "ring", "active"), (cost.at_rest, "dot", "at rest")]

    return amounts(
        "at-rest",
        "Bytes at rest and active",
        "● kept between sessions, of all kinds together; ○ live cache in front of a question. Log scale; systems "
        f"{at_matched(lines)}; left is better. By kind: see the details.",
        "rows.jsonl: at_rest, active_bytes; Analysis.overall (cost.at_rest, cost.active_bytes)",
        lines,
        marks,
        short_size,
        2.0,
    )


def short_size(value: float) -> str:
    """Bytes on an axis: `16 MiB`."""
    return re.sub(r"\.0+ ", " ", size(value))


def amounts(
    name: str,
    title: str,
    says: str,
    source: str,
    lines: Sequence[Line],
    marks: Callable[[Line], Sequence[tuple[float | None, str, str]]],
    text: Callable[[float], str],
    base: float,
) -> Figure:
    """Rows of amounts on a logarithmic scale, which has no place for 0."""
    rows = []
    for line in matched(lines):
        found = [(value, shape, f"{line.label}, {what}: {text(value)}") for value, shape, what in marks(line) if value]
        points = [Point(value, 0.0, shape=shape, title=words) for value, shape, words in found]
        rows.append(DotRow(row_label(line, lines), line.family, points, line.dead or "nothing was measured"))
    values = [point.x for row in rows for point in row.points]
    if not values:
        return Figure(name, title, says, source, reason=empty(rows))
    svg = dot_rows(title, rows, (min(values) / 1.5, max(values) * 1.5), text, base)
    return Figure(name, title, says, source, svg)
