"""The tables of the report as plain data, which the page and the Markdown summary both print."""

from __future__ import annotations

from collections.abc import Sequence

from eval.figures.analysis import Analysis
from eval.figures.breakdowns import Breakdown
from eval.figures.statistics import Comparison, Estimate
from eval.page.lines import (
    NOTHING,
    Line,
    at_matched,
    by_family,
    matched,
    p_value,
    percent,
    plain,
    points,
    seconds,
    share,
    significant,
    size,
    whole,
)
from eval.page.report_table import ReportTable, TableCell

LEVELS = {
    "type": "type of rule",
    "habit": "what the model does without the rule",
    "status": "status of the rule",
    "phrasing": "how the rule was phrased",
    "implicit": "words of rules (must, never, only) or none",
    "kind": "kind of probe",
    "domain": "domain",
    "rounds": "compactions in the whole conversation",
    "passed": "compactions since the rule was said last",
    "meetings": "sessions of the conversation",
    "sessions": "sessions since the rule was said",
    "delay": "words said after the rule",
}


def name_cell(line: Line, budget: bool = True) -> TableCell:
    """The system."""
    return TableCell(line.label if budget else line.row.system, "name", css=line.family)


def main_table(lines: Sequence[Line]) -> ReportTable:
    """One line a system and budget."""
    table = ReportTable(
        "systems",
        "Every system",
        "Sections by budget: the share of the full conversation's measured cache bytes that a system may have in "
        "front of a question. The best first in each.",
        "rows.jsonl and times.jsonl; Analysis.overall and Analysis.knowing",
        [
            ("system", ""),
            ("rules surviving", "share of probes on binding rules that are answered rightly, with its 95% interval"),
            ("text says", "share of binding rules that the memory's own text still states rightly, by a strict parse"),
            (
                "makes up / denies",
                "confabulation: yes to rules that never were; false denial: no to rules that were lost",
            ),
            (
                "vs summary",
                "points more than the prompted summary at the same budget; in bold: p < 0.05 after Holm's correction",
            ),
            (
                "active bytes",
                "live cache in front of a question, mean over rows; in brackets its share of the full conversation's",
            ),
            ("at rest", "everything kept between sessions: text, KV, vectors, index, metadata, parameters"),
            ("first token", "seconds from a question to the first token of its answer, median"),
            ("failed / does not fit", "rows that failed; rows in which the system cannot be as small as its budget"),
        ],
    )
    budgets = list(dict.fromkeys(line.row.budget for line in lines))
    for budget in budgets:
        heading = "No budget: as large as it is" if budget is None else f"{share(budget)} of the conversation's bytes"
        own = [line for line in lines if line.row.budget == budget]
        table.sections.append((heading, [main_row(table, line) for line in own]))
    return table


def main_row(table: ReportTable, line: Line) -> list[TableCell]:
    """One line of the main table. Where all rows failed that is the reason for everything."""
    row, known = line.row, line.known
    failed = TableCell(f"{line.broken} / {line.unfit}", "strong" if line.broken else "number", title=f"of {row.rows}")
    if line.dead:
        absent = [table.missing(line.dead, look="left" if n == 0 else "number") for n in range(7)]
        return [name_cell(line, budget=False), *absent, failed]
    pair = (known.confabulation, known.false_denial_lost)
    lacking = next((e.reason for e in pair if e.value is None), "")
    part = "" if row.cost.share is None else f" ({percent(row.cost.share)})"
    return [
        name_cell(line, budget=False),
        table.bar(row.survival, line.family),
        table.estimate(row.text_survival, bounds=False),
        TableCell(" / ".join(percent(e.value) for e in pair), note=table.note(lacking)),
        difference(table, row.against["summary"]),
        table.figure(row.cost.active_bytes, f"{size(row.cost.active_bytes)}{part}", "no row has measured bytes"),
        TableCell(size(row.cost.at_rest)),
        table.figure(row.cost.first_token, seconds(row.cost.first_token), "no row has times"),
        failed if row.failed else TableCell("0"),
    ]


def difference(table: ReportTable, test: Comparison) -> TableCell:
    """Points more than a baseline."""
    found = test.difference
    if found.value is None:
        return table.missing(found.reason)
    title = f"p {p_value(test.p)}, after Holm {p_value(test.p_holm)}, n {found.n}"
    note = table.note(found.reason) if found.low is None else 0
    return TableCell(points(found), "strong" if significant(test) else "number", title=title, note=note)


def level_table(breakdown: Breakdown, lines: Sequence[Line], everything: bool) -> ReportTable:
    """Scores by the levels of one dimension, tinted; one matched budget alone, or every line."""
    existence = breakdown.metric == "existence"
    what = "Existence probes right" if existence else "Rules surviving"
    says = "Asked whether there is such a rule in force: yes, no or not sure. " if existence else ""
    scope = "every budget" if everything else f"each system {at_matched(lines)}"
    asked = dict.fromkeys(breakdown.levels, 0)
    for cell in breakdown.cells:
        asked[cell.level] = max(asked[cell.level], cell.score.n)
    table = ReportTable(
        f"{breakdown.metric}-{breakdown.dimension}{'-all' if everything else ''}",
        f"{what} by {LEVELS[breakdown.dimension]}",
        f"{says}Share right, {scope}; in the page, intervals when pointed at.",
        f"rows.jsonl and scenarios.jsonl; Analysis.breakdowns, dimension {breakdown.dimension}, "
        f"metric {breakdown.metric}",
        [("system", ""), *((level, f"{asked[level]} probes") for level in breakdown.levels)],
    )
    cells = {(cell.system, cell.budget, cell.level): cell.score for cell in breakdown.cells}
    table.tinted = True
    absent = Estimate(None, reason="no probe of this level was answered")
    shown = by_family(lines) if everything else matched(lines)
    rows = [
        [name_cell(line), *(table.heat(cells.get((*line.key, level), absent), line.dead) for level in breakdown.levels)]
        for line in shown
    ]
    table.sections.append(("", rows))
    return table


def at_rest_table(lines: Sequence[Line]) -> ReportTable:
    """Bytes kept between sessions, by kind."""
    kinds = sorted({kind for line in lines for kind in line.row.cost.at_rest_by_kind})
    table = ReportTable(
        "at-rest-by-kind",
        "Bytes at rest by kind",
        "Everything kept between sessions, mean over rows: nothing is left out.",
        "rows.jsonl: at_rest; Analysis.overall (cost.at_rest, cost.at_rest_by_kind)",
        [("system", ""), ("total", ""), *((kind, "") for kind in kinds)],
    )
    rows = []
    for line in by_family(lines):
        cost = line.row.cost
        total = table.figure(cost.at_rest, size(cost.at_rest), line.dead)
        parts = [TableCell(size(cost.at_rest_by_kind.get(kind) or None)) for kind in kinds]
        rows.append([name_cell(line), total, *parts])
    table.sections.append(("", rows))
    return table


def comparison_table(lines: Sequence[Line]) -> ReportTable:
    """Every difference with its p-values."""
    table = ReportTable(
        "comparisons",
        "Differences, Holm-adjusted",
        "Percentage points more than the prompted summary at the same budget, than no memory, and, where it was run, "
        "than the trained policy at the same budget, on the probes that both answered; bootstrap paired by probe, "
        "clustered by scenario pair, crossed with family. p is adjusted over the whole table. The last column of "
        "each: the smallest true difference that this run would have found with 80% power at 5%.",
        "rows.jsonl; Analysis.overall (against)",
        [("system", "")],
    )
    names = list(lines[0].row.against) if lines else []
    for name in names:
        table.columns += [
            (f"vs {name}", ""),
            ("p", "not adjusted"),
            ("p, Holm", "adjusted"),
            ("detectable", "with 80% power"),
        ]
    rows = []
    for line in by_family(lines):
        cells = [name_cell(line)]
        for name in names:
            test = line.row.against[name]
            cells += [difference(table, test), TableCell(p_value(test.p)), TableCell(p_value(test.p_holm))]
            cells.append(TableCell(NOTHING if test.detectable is None else f"{100 * test.detectable:.0f} points"))
        rows.append(cells)
    table.sections.append(("", rows))
    return table


def survival_table(lines: Sequence[Line]) -> ReportTable:
    """Survival in other ways: retention, twins, without screening, what the text says."""
    table = ReportTable(
        "survival",
        "Retention and other views of survival",
        "Retention is (system − none) / (full − none), and is refused where the two ends do not separate. Twins: "
        "right in both conversations of a pair, which no habit of a model can be. Before screening: with the "
        "probes that a model gets right without the rule. False rules: rules that do not bind (revoked, expired, "
        "scoped, quoted, injected, never said) that the text states all the same.",
        "rows.jsonl: answers, said; Analysis.overall (retention, twins, unscreened, text_survival, false_rules)",
        [
            (name, "")
            for name in (
                "system",
                "surviving",
                "retention",
                "twins",
                "before screening",
                "text says",
                "false rules",
                "probes",
                "scenarios",
                "seeds",
            )
        ],
    )
    rows = []
    for line in by_family(lines):
        row = line.row
        found = (row.survival, row.retention, row.twins, row.unscreened, row.text_survival, row.false_rules)
        counts = (row.probes, row.scenarios, row.seeds)
        rows.append([name_cell(line), *map(table.estimate, found), *(TableCell(whole(count)) for count in counts)])
    table.sections.append(("", rows))
    return table


def knowing_table(lines: Sequence[Line]) -> ReportTable:
    """Whether it knows what was lost: the rates."""
    table = ReportTable(
        "knowing",
        "Knowing what was lost",
        "Silent: of lost rules, those not answered with not sure (and, of all binding rules, lost ones without a "
        "word). Confabulation: yes to rules that never were. Outdated yes: yes to rules that were said and do not "
        "bind. False denial: no to binding rules (and to lost ones among them). Stale: the superseded value "
        "chosen, and its mean probability.",
        "rows.jsonl: existence answers and losses; Analysis.knowing",
        [
            (name, "")
            for name in (
                "system",
                "silent",
                "silent, of all",
                "confabulation",
                "outdated yes",
                "false denial",
                "of lost",
                "stale choice",
                "stale probability",
            )
        ],
    )
    rows = []
    for line in by_family(lines):
        k = line.known
        found = (
            k.silent,
            k.silent_of_all,
            k.confabulation,
            k.outdated_yes,
            k.false_denial,
            k.false_denial_lost,
            k.stale_choice,
            k.stale_probability,
        )
        rows.append([name_cell(line), *map(table.estimate, found)])
    table.sections.append(("", rows))
    return table


def calibration_table(lines: Sequence[Line]) -> ReportTable:
    """Brier, ECE, AURC, AUROC."""
    table = ReportTable(
        "calibration",
        "Calibration and ranking",
        "Brier score (squared error of the probability of yes) and adaptive expected calibration error, for rules "
        "that survived, were lost, never were; 0 is best. Choice ECE: of the chosen value. AURC: mean risk over "
        "all coverages, 0 is best. AUROC: 0.5 is chance, 1 is best. Point estimates.",
        "rows.jsonl: scores, ledger, said; Analysis.knowing",
        [
            (name, "")
            for name in (
                "system",
                "Brier survived",
                "lost",
                "never",
                "ECE survived",
                "lost",
                "never",
                "all",
                "choice ECE",
                "AURC",
                "AUROC exists",
                "ledger/text",
                "ledger/probes",
            )
        ],
    )
    rows = []
    for line in by_family(lines):
        k = line.known
        found = [
            *k.brier.values(),
            *k.ece.values(),
            k.choice_ece,
            k.aurc,
            k.existence_auroc,
            k.ledger_text,
            k.ledger_probes,
        ]
        rows.append(
            [
                name_cell(line),
                *(
                    table.missing(e.reason) if e.value is None else TableCell(plain(e.value), title=f"n {e.n}")
                    for e in found
                ),
            ]
        )
    table.sections.append(("", rows))
    return table


def cost_table(lines: Sequence[Line]) -> ReportTable:
    """Bytes, tokens, seconds."""
    table = ReportTable(
        "costs",
        "Bytes, tokens and seconds",
        "Means over rows (seconds: medians). Peak: most live cache while the memory was built. Unshared: tokens "
        "that would have been read had every probe been answered from scratch.",
        "rows.jsonl and times.jsonl; Analysis.overall (cost)",
        [
            (name, "")
            for name in (
                "system",
                "budget",
                "active",
                "most active",
                "peak",
                "at rest",
                "tokens in front",
                "read",
                "read, unshared",
                "written",
                "building",
                "first token",
                "all probes",
            )
        ],
    )
    rows = []
    for line in by_family(lines):
        c = line.row.cost
        texts = [
            size(c.budget_bytes),
            size(c.active_bytes),
            size(c.most_active_bytes),
            size(c.peak_bytes),
            size(c.at_rest),
        ]
        texts += [whole(c.context_tokens), whole(c.prefilled), whole(c.unshared), whole(c.generated)]
        texts += [seconds(c.remember), seconds(c.first_token), seconds(c.answer)]
        rows.append([name_cell(line), *(TableCell(text) for text in texts)])
    table.sections.append(("", rows))
    return table


def failure_table(lines: Sequence[Line]) -> ReportTable:
    """Rows without answers, by error; without a section if there are none."""
    table = ReportTable(
        "failures",
        "Rows that failed or do not fit",
        "Counted, never scored. DoesNotFit: the system itself cannot be as small as its budget there. A system "
        "that failed in some scenarios is scored on the others, which may be easier ones. The run's run.log has "
        "every message.",
        "rows.jsonl: failure; Analysis.overall (failures)",
        [("system", ""), ("error", ""), ("rows", ""), ("of", "")],
    )
    rows = [
        [name_cell(line), TableCell(error, "left"), TableCell(whole(count)), TableCell(whole(line.row.rows))]
        for line in by_family(lines)
        for error, count in line.row.failures.items()
    ]
    if rows:
        table.sections.append(("", rows))
    return table


def front_tables(analysis: Analysis, lines: Sequence[Line]) -> list[ReportTable]:
    """Those that everybody should see below the charts."""
    by_name = {(b.dimension, b.metric): b for b in analysis.breakdowns}
    wanted = (("type", "survival"), ("status", "survival"), ("habit", "survival"), ("status", "existence"))
    return [level_table(by_name[key], lines, False) for key in wanted if key in by_name and by_name[key].levels]


def detail_tables(analysis: Analysis, lines: Sequence[Line]) -> list[ReportTable]:
    """Everything else, folded."""
    tables = [comparison_table(lines), survival_table(lines), knowing_table(lines), calibration_table(lines)]
    tables += [at_rest_table(lines), cost_table(lines), failure_table(lines)]
    tables += [level_table(b, lines, True) for b in analysis.breakdowns if b.levels]
    return [table for table in tables if table.sections]
