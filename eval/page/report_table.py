"""A table of the report and its cells as plain data: text, what a cell looks like, footnotes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from eval.figures.statistics import Estimate
from eval.page.lines import percent, with_interval

MISSING = "n/a"


@dataclass(frozen=True)
class TableCell:
    """One cell.

    Attributes:
        value, low, high: shares from 0 to 1, for a bar or a tint.
        look: name, bar, heat, number, strong (a number that stands out) or left.
        css: family, for the colour.
        note: number of the footnote that says why something is missing; 0 for none.
    """

    text: str
    look: str = "number"
    value: float | None = None
    low: float | None = None
    high: float | None = None
    css: str = ""
    title: str = ""
    note: int = 0


@dataclass
class ReportTable:
    """A table with what is to be said about it.

    Attributes:
        says: what it shows; `source` the rows and figures that it comes from.
        columns: header and its explanation.
        sections: heading (may be empty) and rows.
        reasons: footnotes.
        tinted: whether its cells are a heat map.
    """

    name: str
    title: str
    says: str
    source: str
    columns: list[tuple[str, str]]
    sections: list[tuple[str, list[list[TableCell]]]] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    tinted: bool = False

    def missing(self, reason: str, text: str = MISSING, look: str = "number") -> TableCell:
        """A cell without a figure; the reason goes below the table."""
        return TableCell(text, look=look, title=reason, note=self.note(reason))

    def note(self, reason: str) -> int:
        """Number of the footnote with this reason; 0 for none."""
        if not reason:
            return 0
        if reason not in self.reasons:
            self.reasons.append(reason)
        return self.reasons.index(reason) + 1

    def figure(self, value: float | None, text: str, reason: str) -> TableCell:
        """A figure without an interval."""
        return TableCell(text) if value is not None else self.missing(reason)

    def estimate(self, found: Estimate, bounds: bool = True) -> TableCell:
        """A share, with its interval unless `bounds` is false, or why it is missing."""
        if found.value is None:
            return self.missing(found.reason)
        note = self.note(found.reason) if bounds and found.low is None else 0
        text = with_interval(found) if bounds else percent(found.value)
        return TableCell(text, title=f"n {found.n}", note=note)

    def bar(self, found: Estimate, css: str) -> TableCell:
        """As `estimate`, with a bar."""
        cell = self.estimate(found)
        return (
            cell
            if found.value is None
            else replace(cell, look="bar", value=found.value, low=found.low, high=found.high, css=css)
        )

    def heat(self, found: Estimate, reason: str) -> TableCell:
        """A share with a tint; its interval when pointed at. `reason` comes before the estimate's own."""
        if found.value is None:
            return self.missing(reason or found.reason)
        return TableCell(percent(found.value), "heat", found.value, title=f"{with_interval(found)}, n {found.n}")
