"""What a system took: bytes while answering, bytes at rest, tokens, seconds; from the rows that did not fail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from eval.rows import Row, Times


@dataclass(frozen=True)
class Cost:
    """Means over rows (times: medians); None where no row has the figure.

    Attributes:
        budget_bytes: what it was allowed; None for a system without a budget.
        active_bytes: live cache measured before a question is read; `most_active_bytes` the largest over rows.
        share: active bytes over the full conversation's, over rows that have both.
        at_rest: bytes kept between sessions; `at_rest_by_kind` the same by kind.
        peak_bytes: most live cache while the memory was built.
        context_tokens: tokens in front of a question.
        prefilled, generated: tokens read and written in a row; `unshared` tokens that would have been read without
            shared prefills.
        remember, first_token, answer: seconds, see `eval.rows.Times`.
    """

    budget_bytes: float | None
    active_bytes: float | None
    most_active_bytes: int | None
    share: float | None
    at_rest: float | None
    at_rest_by_kind: dict[str, float]
    peak_bytes: float | None
    context_tokens: float | None
    prefilled: float | None
    generated: float | None
    unshared: float | None
    remember: float | None
    first_token: float | None
    answer: float | None


def cost(rows: Sequence[Row], times: Mapping[str, Times]) -> Cost:
    """Of the rows of one system at one budget; failed ones are left out."""
    rows = [row for row in rows if row.failure is None]
    # A server keeps its cache to itself: its bytes and its context are unknown, not 0.
    measured = [row for row in rows if row.active_bytes is not None]
    active = [row.active_bytes for row in rows if row.active_bytes is not None]
    shares = [row.active_bytes / row.full_bytes for row in rows if row.active_bytes is not None and row.full_bytes]
    timed = [times[row.id] for row in rows if row.id in times]
    kinds = sorted({kind for row in measured for kind in row.at_rest})
    return Cost(
        budget_bytes=mean([row.budget_bytes for row in rows if row.budget_bytes is not None]),
        active_bytes=mean(active),
        most_active_bytes=max(active, default=None),
        share=mean(shares),
        at_rest=mean([sum(row.at_rest.values()) for row in measured]),
        at_rest_by_kind={kind: fmean(row.at_rest.get(kind, 0) for row in measured) for kind in kinds},
        peak_bytes=mean([row.peak_bytes for row in measured]),
        context_tokens=mean([row.context_tokens for row in measured]),
        prefilled=mean([row.prefilled for row in rows]),
        generated=mean([row.generated for row in rows]),
        unshared=mean([row.unshared for row in rows]),
        remember=middle([time.remember for time in timed]),
        first_token=middle([time.first_token for time in timed]),
        answer=middle([time.answer for time in timed]),
    )


def mean(values: Sequence[float]) -> float | None:
    """Mean, or None for none."""
    return fmean(values) if values else None


def middle(values: Sequence[float]) -> float | None:
    """Median, or None for none."""
    return median(values) if values else None
