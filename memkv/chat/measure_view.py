"""The tables of `memkv measure`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from memkv.config import format_bytes
from memkv.reference.claims import READINGS, Check
from memkv.reference.measured import Measured

PIPED_WIDTH = 150  # columns where standard output is no terminal
VERDICT_STYLES = {"holds": "green", "off by": "yellow", "wrong": "red"}


def wide() -> Console:
    """Standard output; a pipe gets tables of a fixed width instead of 80 columns."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else PIPED_WIDTH)


def models_table(models: Sequence[Measured], tokens: Sequence[int]) -> Table:
    """One row a model: what a token costs, what is held anyway, and totals."""
    dtype = models[0].profile.dtype
    table = Table(title=f"Cache of one sequence at {dtype}, measured", title_justify="left", caption_justify="left")
    table.caption = (
        "A token: of the part that grows. Fixed: recurrent and conv state. Window: bounded KV when full.\n"
        "FP8, INT4: memkv's codecs, scales counted; windows and state stay whole.\n"
        "* beyond the positions that the model was made for."
    )
    table.add_column("Model", no_wrap=True)
    for name in ("A token", "FP8", "INT4", "Fixed", "Window"):
        table.add_column(name, justify="right", no_wrap=True)
    for n_tokens in tokens:
        table.add_column(f"{short_count(n_tokens)} tokens", justify="right", no_wrap=True, style="bold")
    for codec in ("FP8", "INT4"):
        table.add_column(f"{short_count(middle(tokens))} {codec}", justify="right", no_wrap=True)
    for model in models:
        table.add_row(*_model_cells(model, tokens))
    return table


def _model_cells(model: Measured, tokens: Sequence[int]) -> list[str]:
    law = model.profile
    positions = getattr(model.config, "max_position_embeddings", None)
    window = sum(size * width for width, size in law.windows.items())
    per_token = [law.per_token, model.quantized_per_token("fp8"), model.quantized_per_token("int4")]
    totals = [format_bytes(law.at(n)) + ("*" if positions and law.per_token and n > positions else " ") for n in tokens]
    return [
        model.name if law.exact else f"{model.name} (not exact)",
        *(size_or_dash(size) for size in per_token),
        size_or_dash(law.fixed),
        size_or_dash(window),
        *totals,
        *(size_or_dash(model.quantized_at(codec, middle(tokens))) for codec in ("fp8", "int4")),
    ]


def model_details(model: Measured, tokens: Sequence[int]) -> Text:
    """How one model's law was found, and what it says by kind."""
    law = model.profile
    lines = [f"Run at {', '.join(map(str, law.lengths))} tokens; the law is {'exact' if law.exact else 'NOT exact'}."]
    if law.note:
        lines.append(law.note)
    for one in law.laws:
        bound = f", at most {one.window:,} tokens" if one.window is not None else ""
        lines.append(f"{one.kind}: {one.fixed:,} bytes + {one.per_token:,} a token{bound}")
    for n_tokens in tokens:
        kinds = ", ".join(f"{kind} {format_bytes(size)}" for kind, size in law.by_kind_at(n_tokens).items())
        lines.append(f"At {n_tokens:,} tokens: {law.at(n_tokens):,} bytes ({kinds})")
    lines.append(f"Weights: {format_bytes(model.weights)}. Source: {model.source}")
    return Text("\n".join(lines))


def claims_table(checks: Sequence[Check]) -> Table:
    """One row a published claim: its number, ours, the verdict, one sentence."""
    table = Table(title="Published claims", title_justify="left", caption_justify="left", show_lines=False)
    table.caption = "KB and GB of a claim mean powers of 1,000 or 1,024, whichever is nearer. ±: tolerance of `holds`."
    table.add_column("System", max_width=16)
    table.add_column("Claim", max_width=28)
    table.add_column("Claimed", justify="right", max_width=14)
    table.add_column("Measured", justify="right", max_width=14)
    table.add_column("±", justify="right", no_wrap=True)
    table.add_column("Verdict", max_width=18)
    table.add_column("In a sentence", ratio=1)
    previous = ""
    for check in checks:
        if previous and check.system != previous:
            table.add_section()
        missing = check.measured is None
        table.add_row(
            check.system if check.system != previous else "",
            check.claim,
            "" if missing else ("at most " if check.at_most else "") + f"{check.claimed:,g} {check.unit}",
            "" if check.measured is None else quantity(check.measured, check.unit),
            "" if missing or check.at_most else f"{check.tolerance:.0%}",
            Text("not reproducible" if missing else check.verdict, style=verdict_style(check.verdict)),
            check.why,
        )
        previous = check.system
    return table


def verdict_style(verdict: str) -> str:
    """Colour of a verdict."""
    return next((style for start, style in VERDICT_STYLES.items() if verdict.startswith(start)), "cyan")


def quantity(value: float, unit: str) -> str:
    """Bytes in binary units; anything else with its own unit."""
    if unit in READINGS:
        return format_bytes(value)
    return f"{value:,.2f}".rstrip("0").rstrip(".") + f" {unit}"


def size_or_dash(size: float) -> str:
    """`128.0 KiB`, or a dash for nothing."""
    return format_bytes(size) if size else "–"


def short_count(n_tokens: int) -> str:
    """4096 -> 4K, 1048576 -> 1M, where that is exact."""
    for factor, letter in ((2**20, "M"), (2**10, "K")):
        if n_tokens % factor == 0:
            return f"{n_tokens // factor}{letter}"
    return f"{n_tokens:,}"


def middle(tokens: Sequence[int]) -> int:
    """The length that the codecs' totals are shown for."""
    return sorted(tokens)[len(tokens) // 2]
