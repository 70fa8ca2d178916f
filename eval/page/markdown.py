"""The report as Markdown, for where no page can be shown."""

from __future__ import annotations

from eval.page.headline import ends, headline
from eval.page.html import facts
from eval.page.report_table import ReportTable, TableCell
from eval.page.source import Source, provenance, report_command
from eval.page.tables import (
    at_rest_table,
    calibration_table,
    comparison_table,
    failure_table,
    front_tables,
    knowing_table,
    main_table,
    survival_table,
)


def markdown(source: Source) -> str:
    """The summary: headline, tables, power, provenance. Charts and every breakdown are in the page."""
    analysis, lines = source.analysis, source.lines
    tables = [main_table(lines), *front_tables(analysis, lines), comparison_table(lines), survival_table(lines)]
    tables += [knowing_table(lines), calibration_table(lines), at_rest_table(lines), failure_table(lines)]
    parts = [
        "# How many rules survive",
        f"**{headline(lines)}**",
        ends(lines),
        facts(source),
        f"Made by `{report_command(source)}`, which writes `report.html` beside this file: charts and every breakdown.",
        "\n".join(f"- {note}" for note in (*analysis.notes, analysis.power.statement)),
        *(rendered(table) for table in tables if table.sections),
        "## Where it comes from",
        "\n".join(f"- {name}: {value}" for name, value in provenance(source)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def rendered(table: ReportTable) -> str:
    """One table; several sections become a first column each, footnotes a list."""
    many = len(table.sections) > 1 or bool(table.sections[0][0])
    headers = (["budget"] if many else []) + [name or " " for name, _ in table.columns]
    lines = [f"## {table.title}", "", table.says, "", row_of(headers)]
    lines.append(row_of(["---" if n < 1 + many else "---:" for n in range(len(headers))]))
    for heading, rows in table.sections:
        short = heading.partition(":")[0].partition(" of ")[0]
        lines += [row_of(([short] if many else []) + [cell_of(cell) for cell in row]) for row in rows]
    lines += ["", *(f"{number}. {reason}" for number, reason in enumerate(table.reasons, 1))]
    explained = dict.fromkeys(f"*{name}*: {words}" for name, words in table.columns if words)
    return "\n".join(
        [
            *lines,
            *([""] if table.reasons else []),
            *([f"{'; '.join(explained)}.", ""] if explained else []),
            f"From {table.source}.",
        ]
    )


def row_of(cells: list[str]) -> str:
    """One line of a table."""
    return "| " + " | ".join(cells) + " |"


def cell_of(cell: TableCell) -> str:
    """A cell's text, with its footnote and what is significant in bold."""
    text = cell.text.replace("|", "\\|")
    text = f"**{text}**" if cell.look == "strong" else text
    return f"{text} ({cell.note})" if cell.note else text
