"""The report as one self-contained page: `report.html.jinja` filled with tables and charts."""

from __future__ import annotations

import json
import re
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from eval.page.headline import ends, headline
from eval.page.lines import FAMILIES, Line, percent, with_interval
from eval.page.plots import figures
from eval.page.source import Source, provenance, report_command
from eval.page.tables import detail_tables, front_tables, main_table

TEMPLATE = "report.html.jinja"


def html(source: Source) -> str:
    """The page."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    analysis, lines = source.analysis, source.lines
    drawn = figures(analysis, lines)
    return environment.get_template(TEMPLATE).render(
        headline=unbroken(headline(lines)),
        ends=unbroken(ends(lines)),
        facts=facts(source),
        families=FAMILIES,
        scale=scale(lines),
        main=main_table(lines),
        notes=analysis.notes,
        power=analysis.power.statement,
        tradeoffs=drawn[:4],
        charts=drawn[4:],
        front=front_tables(analysis, lines),
        details=detail_tables(analysis, lines),
        provenance=provenance(source),
        config=json.dumps(source.run["config"], indent=1),
        command=report_command(source),
    )


def unbroken(text: str) -> str:
    """No line break inside an interval or a p-value."""
    return re.sub(r"(?<=%) (?=\[)|(?<=,) (?=[\d+−-]+\])|(?<=\bp) (?=[\d<])", "\u00a0", text)


def facts(source: Source) -> str:
    """What was run, in one line."""
    counts, config = source.analysis.counts, source.run["config"]
    never = "" if counts.never_share is None else f" ({percent(counts.never_share)} about rules that never were)"
    found = [
        str(config.get("model")),
        f"{counts.scenarios} scenarios in {counts.pairs} pair{'s' * (counts.pairs != 1)}",
        f"{counts.families} template families",
        f"{counts.probes:,} probes{never}",
        f"{counts.discarded} of {counts.survival_probes} discarded by screening",
        f"{counts.rows:,} rows, {counts.failed} without answers",
    ]
    return " · ".join(found)


def scale(lines: list[Line]) -> dict[str, tuple[str, str]]:
    """Floor and ceiling as lines in every bar: name -> place, text."""
    found = {line.row.system: line.row.survival for line in lines if line.row.system in ("none", "full")}
    return {
        name: (f"{100 * value.value:.1f}%", with_interval(value))
        for name, value in found.items()
        if value.value is not None
    }
