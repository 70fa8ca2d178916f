"""Bytes of the cache over tokens, both logarithmic, one labelled line a model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from memkv.cache_size import CacheProfile
from memkv.reference.measured import Measured

FIRST, LAST, POINTS = 64, 2**20, 97
COLORS = {
    "attention": "#444444",
    "latent (MLA)": "#1f6fb4",
    "windows": "#d9820f",
    "hybrid": "#2a8f4f",
    "no growth": "#a0479a",
}
LABEL_GAP = 0.03  # of the axes' height
UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def draw(models: Sequence[Measured], path: Path) -> None:
    """Write a PNG. Lines are solid up to the positions a model was made for, dotted beyond them."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    figure = Figure(figsize=(11, 7.6), dpi=150, layout="constrained")
    axes = figure.subplots()
    axes.set(xscale="log", yscale="log", xlim=(FIRST, LAST), xlabel="tokens", ylabel="bytes of one sequence's cache")
    lengths = [round(FIRST * (LAST / FIRST) ** (i / (POINTS - 1))) for i in range(POINTS)]
    for model in models:
        color = COLORS[family(model.profile)]
        limit = getattr(model.config, "max_position_embeddings", None) if model.profile.per_token else None
        for style, part in split(lengths, limit):
            axes.plot(part, [model.profile.at(n) for n in part], color=color, linestyle=style, linewidth=1.3)
    sizes = [size for model in models for size in (model.profile.at(FIRST), model.profile.at(LAST))]
    low, high = min(sizes) / 2, max(sizes) * 2
    axes.set_ylim(low, high)
    ends = sorted(((position(model, low, high), model) for model in models), key=lambda end: (end[0], end[1].name))
    for end, text_at, model in spread(ends):
        axes.annotate(
            model.name,
            xy=(1, end),
            xytext=(1.035, text_at),
            xycoords="axes fraction",
            textcoords="axes fraction",
            va="center",
            fontsize=8.5,
            color=COLORS[family(model.profile)],
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": "#bbbbbb",
                "linewidth": 0.6,
                "shrinkA": 1,
                "shrinkB": 0,
                "relpos": (0, 0.5),
            },
        )
    axes.set_xticks([2**power for power in range(6, 21, 2)], ["64", "256", "1K", "4K", "16K", "64K", "256K", "1M"])
    ticks = [2**power for power in range(10, 50, 3) if low < 2**power < high]
    axes.set_yticks(ticks, [size_label(tick) for tick in ticks])
    axes.minorticks_off()
    axes.grid(color="#e6e6e6", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    shown = [name for name in COLORS if any(family(model.profile) == name for model in models)]
    handles = [Line2D([], [], color=COLORS[name], label=name) for name in shown]
    beyond = Line2D([], [], color="#888888", linestyle=":", label="beyond the model's positions")
    axes.legend(handles=[*handles, beyond], frameon=False, loc="upper left", fontsize=9)
    dtype = models[0].profile.dtype
    axes.set_title(f"What one sequence's cache costs, measured at {dtype}", loc="left", fontsize=12)
    figure.savefig(path)


def family(law: CacheProfile) -> str:
    """Which of `COLORS` a model belongs to, by the kinds of state that were measured."""
    kinds = {one.kind for one in law.laws}
    if not law.per_token:
        return "no growth"
    if kinds & {"recurrent", "conv"}:
        return "hybrid"
    if "window" in kinds:
        return "windows"
    return "latent (MLA)" if "latent" in kinds else "attention"


def size_label(size: int) -> str:
    """A power of two as 32 MiB."""
    power = (size.bit_length() - 1) // 10
    return f"{size >> 10 * power} {UNITS[power]}"


def split(lengths: list[int], limit: int | None) -> list[tuple[str, list[int]]]:
    """(line style, lengths) up to `limit` and beyond it."""
    if limit is None or limit >= lengths[-1]:
        return [("-", lengths)]
    return [("-", [n for n in lengths if n < limit] + [limit]), (":", [limit] + [n for n in lengths if n > limit])]


def position(model: Measured, low: float, high: float) -> float:
    """Height of the line's right end, as a fraction of the axes."""
    return math.log(model.profile.at(LAST) / low) / math.log(high / low)


def spread(ends: list[tuple[float, Measured]]) -> list[tuple[float, float, Measured]]:
    """(end, height of the label, model): labels in the order of their ends, `LABEL_GAP` apart, inside the axes."""
    heights = [end for end, _ in ends]
    for _ in range(400):  # neighbours push each other apart by halves until none overlap
        heights[-1] = min(heights[-1], 1.0)
        for i in range(len(heights) - 1):
            overlap = LABEL_GAP - (heights[i + 1] - heights[i])
            if overlap > 0:
                heights[i] -= overlap / 2
                heights[i + 1] += overlap / 2
    return [(end, height, model) for (end, model), height in zip(ends, heights, strict=True)]
