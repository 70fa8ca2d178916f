"""SVG by hand: what charts are drawn with. Colours come from the page's CSS, so one drawing serves light and dark."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape

WIDTH = 480.0
# Pixels of one line of text, of a marker's radius, and between markers that are set side by side.
TEXT, RADIUS, STEP = 13.0, 3.6, 7.0


@dataclass(frozen=True)
class Scale:
    """From values to pixels.

    Attributes:
        low, high: values at the ends; `start` and `end` their pixels.
        log: whether equal ratios are equally far apart; `base` of its ticks.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False
    base: float = 10.0

    def __call__(self, value: float) -> float:
        """Pixel of a value; what lies outside is moved to the edge."""
        value = min(max(value, self.low), self.high)
        low, high, value = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        part = (value - low) / (high - low) if high > low else 0.5
        return self.start + part * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Round values, at most eight: quarters of a linear scale, powers of the base of a logarithmic one."""
        if not self.log:
            return [self.low + (self.high - self.low) * quarter / 4 for quarter in range(5)]
        first, last = (math.log(value, self.base) for value in (self.low, self.high))
        powers = [self.base**power for power in range(math.ceil(first - 1e-9), math.floor(last + 1e-9) + 1)]
        return powers[:: 1 + len(powers) // 8] or [self.low, self.high]


@dataclass(frozen=True)
class Point:
    """One mark with its interval.

    Attributes:
        shape: dot, ring, square or diamond.
        title: shown when pointed at.
    """

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    shape: str = "dot"
    title: str = ""


@dataclass(frozen=True)
class Series:
    """One line: `css` names colour and dash; a label stands at its end, unless empty."""

    label: str
    css: str
    points: Sequence[Point]
    joined: bool = True


@dataclass(frozen=True)
class DotRow:
    """One labelled row of marks on a common scale: `Point.x` with its interval; or why there is none."""

    label: str
    css: str
    points: Sequence[Point] = ()
    reason: str = ""


@dataclass
class Drawing:
    """A picture that is put together piece by piece."""

    height: float
    name: str
    width: float = WIDTH
    pieces: list[str] = field(default_factory=list)

    def add(self, tag: str, content: str = "", title: str = "", **attributes: object) -> None:
        """One element; `class_` is the attribute class, underscores become hyphens."""
        self.pieces.append(element(tag, content, title, **attributes))

    def text(self, x: float, y: float, words: str, css: str = "", anchor: str = "start", title: str = "") -> None:
        """Words whose middle is at height `y`."""
        self.add("text", escape(words), title, x=x, y=y + 4, class_=css or None, text_anchor=anchor)

    def line(self, x1: float, y1: float, x2: float, y2: float, css: str) -> None:
        """A straight line."""
        self.add("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=css)

    def mark(self, shape: str, x: float, y: float, css: str, title: str = "") -> None:
        """A dot, ring, square or diamond."""
        r = RADIUS
        if shape in ("dot", "ring"):
            self.add("circle", title=title, cx=x, cy=y, r=r, class_=f"{css} {shape}")
        elif shape == "square":
            self.add("rect", title=title, x=x - r, y=y - r, width=2 * r, height=2 * r, class_=f"{css} dot")
        else:
            corners = f"M{x:.1f} {y - r - 1:.1f}l{r + 1} {r + 1}l{-r - 1} {r + 1}l{-r - 1} {-r - 1}z"
            self.add("path", title=title, d=corners, class_=f"{css} dot")

    def svg(self) -> str:
        """The whole picture."""
        box = f'viewBox="0 0 {self.width:g} {self.height:g}"'
        return f'<svg {box} role="img" aria-label="{escape(self.name)}">{"".join(self.pieces)}</svg>'


def element(tag: str, content: str = "", title: str = "", **attributes: object) -> str:
    """One SVG element; attributes that are None are left out."""
    inside = (f"<title>{escape(title)}</title>" if title else "") + content
    written = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{number(value)}"'
        for name, value in attributes.items()
        if value is not None
    )
    return f"<{tag}{written}>{inside}</{tag}>" if inside else f"<{tag}{written}/>"


def number(value: object) -> str:
    """A tenth of a pixel is enough."""
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else escape(str(value))


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Places at least `gap` apart and as near to the wanted ones as can be, in the same order, from `low` on."""
    clusters: list[tuple[float, list[int]]] = []
    for index in sorted(range(len(wanted)), key=lambda index: wanted[index]):
        clusters.append((wanted[index], [index]))
        while len(clusters) > 1 and overlap(clusters[-2], clusters[-1], gap):
            (a, first), (b, second) = clusters[-2:]
            middle = (a * len(first) + b * len(second)) / (len(first) + len(second))
            clusters[-2:] = [(middle, first + second)]
    placed = [0.0] * len(wanted)
    for middle, members in clusters:
        for place, index in enumerate(members):
            placed[index] = middle + (place - (len(members) - 1) / 2) * gap
    return within(placed, gap, low, high)


def overlap(first: tuple[float, list[int]], second: tuple[float, list[int]], gap: float) -> bool:
    """Whether two groups of labels, each around its middle, come nearer than `gap`."""
    return second[0] - first[0] < gap * (len(first[1]) + len(second[1])) / 2


def within(placed: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Pushed in from both ends; if there is no room at all, over the upper one."""
    order, moved = sorted(range(len(placed)), key=lambda index: placed[index]), list(placed)
    edge = high
    for index in reversed(order):
        moved[index] = edge = min(moved[index], edge)
        edge -= gap
    edge = low
    for index in order:
        moved[index] = edge = max(moved[index], edge)
        edge += gap
    return moved


def side_by_side(pixels: Sequence[float], near: float = STEP) -> list[float]:
    """Marks that would hide each other, moved apart by a few pixels around their middle."""
    groups: list[list[int]] = []
    for index in sorted(range(len(pixels)), key=lambda index: pixels[index]):
        if groups and pixels[index] - pixels[groups[-1][-1]] < near:
            groups[-1].append(index)
        else:
            groups.append([index])
    moved = list(pixels)
    for group in groups:
        middle = sum(pixels[index] for index in group) / len(group)
        for place, index in enumerate(group):
            moved[index] = middle + (place - (len(group) - 1) / 2) * near
    return moved


def frame(drawing: Drawing, x: Scale, y: Scale, marks: Sequence[tuple[float, str]], x_title: str) -> None:
    """Grid and axes of a chart whose vertical scale is in percent; `marks` are pixels and words along `x`."""
    for tick in y.ticks():
        drawing.line(x.start, y(tick), x.end, y(tick), "grid")
        drawing.text(x.start - 6, y(tick), f"{100 * tick:.0f}%", "tick", "end")
    for place, words in marks:
        drawing.line(place, y.start, place, y.start + 4, "axis")
        for row, word in enumerate(words.split("\n")):
            drawing.text(place, y.start + 13 + 12 * row, word, "tick", "middle")
    drawing.line(x.start, y.start, x.end, y.start, "axis")
    drawing.text((x.start + x.end) / 2, drawing.height - 8, x_title, "title", "middle")


def draw(drawing: Drawing, series: Sequence[Series], x: Scale, y: Scale) -> None:
    """Lines, intervals, marks, and labels at the ends of the lines, none over another."""
    flat = [(s, point) for s in series for point in s.points]
    shifted = side_by_side([x(point.x) for _, point in flat])
    at = {id(point): place for (_, point), place in zip(flat, shifted, strict=True)}
    for s in series:
        if s.joined and len(s.points) > 1:
            path = "L".join(f"{at[id(p)]:.1f} {y(p.y):.1f}" for p in s.points)
            drawing.add("path", d=f"M{path}", class_=f"{s.css} path")
    for s, point in flat:
        if point.low is not None and point.high is not None:
            drawing.line(at[id(point)], y(point.low), at[id(point)], y(point.high), f"{s.css} whisker")
    for s, point in flat:
        drawing.mark(point.shape, at[id(point)], y(point.y), s.css, point.title)
    label_ends(drawing, [s for s in series if s.label and s.points], at, y)


def label_ends(drawing: Drawing, series: Sequence[Series], at: dict[int, float], y: Scale) -> None:
    """Labels right of the last points; those of one column are moved apart up and down."""
    ends = [(at[id(s.points[-1])], y(s.points[-1].y), s) for s in series]
    columns: list[list[int]] = []
    for index in sorted(range(len(ends)), key=lambda index: ends[index][0]):
        if columns and ends[index][0] - ends[columns[-1][-1]][0] < 40:
            columns[-1].append(index)
        else:
            columns.append([index])
    for column in columns:
        left = max(ends[index][0] for index in column) + 14
        heights = spread([ends[index][1] for index in column], TEXT, y.end - 4, y.start - 6)
        for index, height in zip(column, heights, strict=True):
            place, level, s = ends[index]
            drawing.line(place + RADIUS + 1, level, left - 3, height, "leader")
            drawing.text(left, height, s.label, f"{s.css} label", title=s.points[-1].title)


def dot_rows(
    name: str,
    rows: Sequence[DotRow],
    scale: tuple[float, float],
    text: Callable[[float], str],
    base: float | None = None,
    guides: Sequence[tuple[float, str]] = (),
) -> str:
    """Rows of marks on a common horizontal scale, with intervals; logarithmic with a `base`.

    `guides` are vertical lines with a label.
    """
    left, line, top = 128.0, 16.0, 18.0 if guides else 6.0
    bottom = top + line * len(rows)
    drawing, x = Drawing(bottom + 22, name), Scale(*scale, left, WIDTH - 24, base is not None, base or 10.0)
    for tick in x.ticks():
        drawing.line(x(tick), top, x(tick), bottom, "grid")
        drawing.text(x(tick), bottom + 12, text(tick), "tick", "middle")
    for value, words in guides:
        drawing.line(x(value), top, x(value), bottom, "guide")
        drawing.text(x(value), top - 9, words, "tick", "middle")
    for place, row in enumerate(rows):
        height = top + line * (place + 0.5)
        drawing.text(left - 8, height, row.label, f"{row.css} label", "end")
        if not row.points:
            drawing.text(left + 4, height, clipped(row.reason), "missing", title=row.reason)
        for point in row.points:
            if point.low is not None and point.high is not None:
                drawing.line(x(point.low), height, x(point.high), height, f"{row.css} whisker")
        for point in row.points:
            drawing.mark(point.shape, x(point.x), height, row.css, point.title)
    return drawing.svg()


def clipped(words: str, most: int = 58) -> str:
    """What fits beside a row's label."""
    return words if len(words) <= most else words[: most - 1] + "…"
