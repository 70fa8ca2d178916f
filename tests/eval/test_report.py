from __future__ import annotations

import gzip
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from synthetic_rows import failed, forgot, row, scenario

from eval import report
from eval.page.lines import family, leaders, matched
from eval.page.plots import frontier, made_up, unbeaten
from eval.page.source import made_from
from eval.page.svg import Scale, spread
from eval.rows import Failure, Row, Times
from eval.running.row_file import read_rows, to_line
from eval.scenarios import Meeting, Probe, Rule, Scenario, Status, Turn, write_scenarios
from memkv.errors import ConfigError

STATUSES: tuple[Status, ...] = ("active",) * 4 + ("superseded", "revoked", "quoted", "never", "never")
TYPES = ("prohibition", "cap", "format", "authority", "conditional", "preference", "order", "expiring", "obligation")
# System -> share of rules it keeps at each budget, or at its own size.
BUDGETED = {
    "summary": (0.3, 0.4),
    "registry": (0.45, 0.6),
    "recency": (0.2, 0.35),
    "memory file": (0.35, 0.45),
    "bm25": (0.5, 0.6),
    "hybrid": (0.55, 0.7),
    "snapkv": (0.5, 0.65),
    "kvzip+int4": (0.68, 0.75),
}
UNBUDGETED = {"none": 0.0, "full": 0.9, "curated": 0.85, "exact restore": 0.88, "int4": 0.82}
BUDGETS = (0.125, 0.33)
RUN = {
    "config": {"model": "smollm2-135m", "dtype": "bfloat16", "device": "cpu", "split": "test", "seed": 0},
    "scenarios": {"file": "scenarios.jsonl", "count": 8, "blake3": "d920b053"},
    "model": {"weights": "3e376c4806b27a86", "dtype": "bfloat16"},
    "parts": [
        {
            "command": "python -m eval.run --config configs/quick.yaml",
            "commit": {"id": "0123abcd", "dirty": True},
            "python": "3.11.7",
            "versions": {"torch": "2.13.0", "transformers": "5.23.0"},
            "machine": {"cpu": "AMD <EPYC>", "cores": 2, "memory": "23.5 GiB", "system": "Linux"},
            "workers": 2,
            "started": "2026-11-22T08:08:33+00:00",
        }
    ],
}


def various(number: int) -> Scenario:
    """Rules of every type and status; 1 to 10 rounds, 2 or 4 sessions."""
    made = scenario(f"s{number}", f"p{number // 2}", [(f"f/{n}", status) for n, status in enumerate(STATUSES)])
    rules: list[Rule] = [replace(r, type=TYPES[(n + number) % 9]) for n, r in enumerate(made.rules)]
    words = "words and more " * (50 * (number % 4))
    meeting = (Turn("user", words + "Some words."), Turn("assistant", "Noted."))
    meetings = tuple(Meeting(f"2024-05-0{day + 1}", meeting) for day in range(2 + 2 * (number % 2)))
    rounds = ((len(meetings) * 2,), (2, len(meetings) * 2), (1, 2, 3, len(meetings) * 2))[number % 3]
    return replace(made, rules=tuple(rules), meetings=meetings, rounds=rounds)


def keeping(share: float, rng: np.random.Generator) -> object:
    """Keeps this share; unsure where it forgot, and sometimes makes a rule up."""

    def likelihoods(scenario: Scenario, probe: Probe) -> Sequence[float]:
        top = rng.uniform(0.4, 0.9)
        place = probe.answer if rng.random() < share else int(rng.integers(0, len(probe.options)))
        rest = (1 - top) / (len(probe.options) - 1)
        return [top if index == place else rest * rng.uniform(0.9, 1.0) for index in range(len(probe.options))]

    return likelihoods


def rows_of(scenarios: Sequence[Scenario]) -> list[Row]:
    """All systems; the registry does not fit in some conversations, the memory file in none, and once it crashes."""
    rng = np.random.default_rng(0)
    rows = []
    cells = [(name, budget, shares[n]) for name, shares in BUDGETED.items() for n, budget in enumerate(BUDGETS)]
    cells += [(name, None, share) for name, share in UNBUDGETED.items()]
    for s in scenarios:
        full = 40_000_000 + 1_000_000 * len(s.meetings)
        rows += [row(s, "screen", forgot, seed=seed, full_bytes=full) for seed in (0, 1)]
        for name, budget, share in cells:
            if name == "registry" and budget == 0.125 and s.id in ("s0", "s3"):
                unfit = Failure("DoesNotFit", "Too large", "Give it more.")
                rows.append(replace(failed(s, name, budget), failure=unfit))
            elif name == "memory file" and (budget == 0.125 or s.id == "s1"):
                rows.append(failed(s, name, budget))
            else:
                rows += [full_row(s, name, budget, share, full, rng, n) for n in range(1 + (name == "summary"))]
    return rows


def full_row(
    s: Scenario, name: str, budget: float | None, share: float, full: int, rng: np.random.Generator, seed: int
) -> Row:
    """One row with bytes, a text and, for some, a ledger."""
    cached = name.partition("+")[0] in ("snapkv", "kvzip", "exact restore", "int4")
    active = (
        0 if name == "none" else int(full * (0.1 if name == "curated" else (budget or 1.0) * rng.uniform(0.9, 1.0)))
    )
    said = None if cached else {r.id: "right" if rng.random() < share else "absent" for r in s.rules}
    ledger = {r.id: float(rng.random()) for r in s.rules} if name in ("summary", "registry") else None
    at_rest = {"text": 9_000, "kv": active} if cached else {"text": 9_000, "metadata": 120}
    return row(
        s,
        name,
        keeping(share, rng),  # type: ignore[arg-type]
        budget,
        seed,
        active_bytes=active,
        full_bytes=full,
        budget_bytes=None if budget is None else int(full * budget),
        at_rest=at_rest | ({"vectors": 40_000} if name in ("bm25", "hybrid") else {}),
        said=said,
        ledger=ledger,
        prefilled=900,
        unshared=9_000,
    )


def make_run(folder: Path, rows: Sequence[Row], scenarios: Sequence[Scenario], run: dict[str, object] = RUN) -> Path:
    """The folder that a run leaves behind."""
    folder.mkdir(parents=True, exist_ok=True)
    times = [Times(r.id, 2.0 if r.budget else 0.02, 0.03 + 0.4 * (r.budget or 1.0), 3.0) for r in rows]
    (folder / "rows.jsonl").write_text("".join(to_line(r) + "\n" for r in rows), encoding="utf-8")
    (folder / "times.jsonl").write_text("".join(to_line(t) + "\n" for t in times), encoding="utf-8")
    (folder / "run.json").write_text(json.dumps(run), encoding="utf-8")
    write_scenarios(folder / "scenarios.jsonl", scenarios)
    return folder


SCENARIOS = [various(number) for number in range(8)]


class Page(HTMLParser):
    """What a reader gets: words, ids, and every address that a browser would fetch; tags must close."""

    VOID = ("meta", "line", "circle", "path", "rect")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.ids: list[str] = []
        self.fetched: list[str] = []
        self.open: list[str] = []
        self.charts = 0
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.fetched += [f"{name}={value}" for name, value in attrs if name in ("src", "href", "srcset", "data")]
        self.ids += [value for name, value in attrs if name == "id" and value]
        self.fetched += [tag] if tag in ("link", "script", "iframe", "object", "img") else []
        self.charts += tag == "svg"
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).replace("\u00a0", " ").split())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with its report."""
    folder = make_run(tmp_path_factory.mktemp("report") / "run", rows_of(SCENARIOS), SCENARIOS)
    assert report.write(folder) == folder / "report.html"
    return folder


@pytest.fixture(scope="module")
def page(run: Path) -> Page:
    return Page((run / "report.html").read_text(encoding="utf-8"))


def terminal(folder: Path, width: int = 110) -> str:
    console = Console(width=width, file=None, record=True, quiet=False)
    with console.capture() as captured:
        console.print(report.table_of(report.read_source(folder)))
    return captured.get()


def test_the_page_is_one_file_that_fetches_nothing(run: Path, page: Page):
    text = (run / "report.html").read_text(encoding="utf-8")
    assert page.fetched == []
    assert not re.search(r"https?://|url\(|@import", text)
    assert len(text.encode()) < 2_000_000
    assert "prefers-color-scheme" in text and 'name="viewport"' in text
    assert len(page.ids) == len(set(page.ids))


def test_the_headline_is_made_of_the_numbers(run: Path, page: Page):
    lines = report.read_source(run).lines
    tight = [line for line in lines if line.row.budget == 0.125 and not line.row.failed]
    best = max(tight, key=lambda line: line.row.survival.value)
    summary = next(line for line in tight if line.row.system == "summary")
    start = f"At 12.5% of the conversation's bytes, {best.row.system} keeps most rules: "
    assert start + f"{100 * best.row.survival.value:.0f}% [{100 * best.row.survival.low:.0f}, " in page.text
    assert f"the prompted summary keeps {100 * summary.row.survival.value:.0f}% [" in page.text


def test_who_failed_somewhere_does_not_win(tmp_path: Path):
    rows = rows_of(SCENARIOS)
    sure = np.random.default_rng(1)
    rows += [full_row(s, "bm25x", 0.125, 1.0, 40_000_000, sure, 0) for s in SCENARIOS[1:]]
    rows.append(failed(SCENARIOS[0], "bm25x", 0.125))
    report.write(make_run(tmp_path, rows, SCENARIOS))
    text = (tmp_path / "REPORT.md").read_text(encoding="utf-8")
    assert "bytes, bm25x keeps most" not in text and "without a failed row" in text


def test_the_frontier_is_of_those_that_nothing_beats_and_that_never_failed(tmp_path: Path):
    rng = np.random.default_rng(4)
    some = {"good": (0.6, 0.25), "bad": (0.1, 0.4), "wide": (1.0, 0.5)}
    rows = [full_row(s, n, budget, share, 40_000_000, rng, 0) for s in SCENARIOS for n, (share, budget) in some.items()]
    rows += [full_row(s, "spared", 0.125, 0.3, 40_000_000, rng, 0) for s in SCENARIOS[1:]]
    rows.append(failed(SCENARIOS[0], "spared", 0.125))
    lines = report.read_source(make_run(tmp_path, rows, SCENARIOS)).lines
    assert [line.row.system for line in unbeaten(lines)] == ["spared", "good", "wide"]
    drawn = frontier(lines).svg
    assert ">good 25%<" in drawn and ">wide 50%<" in drawn
    assert ">spared 12.5%<" not in drawn and ">bad 40%<" not in drawn


def test_who_failed_somewhere_leads_no_chart_before_those_that_did_not(tmp_path: Path):
    rng = np.random.default_rng(4)
    rows = [full_row(s, "bm25", 0.125, 0.3, 40_000_000, rng, 0) for s in SCENARIOS]
    rows += [full_row(s, "dense", 0.125, 1.0, 40_000_000, rng, 0) for s in SCENARIOS[1:]]
    rows.append(failed(SCENARIOS[0], "dense", 0.125))
    lines = report.read_source(make_run(tmp_path, rows, SCENARIOS)).lines
    assert lines[0].row.system == "dense"
    assert [line.row.system for line in leaders(lines)] == ["bm25"]


def test_a_retrieval_with_chunks_of_its_own_size_is_still_one():
    assert family("dense 32") == family("dense") == "retrieval"


def test_systems_side_by_side_have_one_budget(tmp_path: Path):
    rng = np.random.default_rng(5)
    cells = [("summary", 0.125), ("summary", 0.33), ("bm25", 0.33), ("snapkv", 0.5), ("full", None)]
    rows = [full_row(s, name, budget, 0.5, 40_000_000, rng, 0) for s in SCENARIOS for name, budget in cells]
    source = report.read_source(make_run(tmp_path, rows, SCENARIOS))
    assert [line.label for line in matched(source.lines)] == ["summary 33%", "bm25 33%", "snapkv 50%", "full"]
    drawn = made_up(source.lines)
    assert "at 33% of the conversation's bytes (others as labelled)" in drawn.says
    assert ">snapkv 50%<" in drawn.svg and ">summary<" in drawn.svg and ">full<" in drawn.svg


def test_scenarios_say_themselves_where_they_are_from(tmp_path: Path):
    sealed = [replace(s, seed="sealed:0123456789ab") for s in SCENARIOS]
    report.write(make_run(tmp_path, rows_of(sealed), sealed))
    text = (tmp_path / "REPORT.md").read_text(encoding="utf-8")
    assert "- scenarios: 8, split test, seed sealed:0123456789ab" in text
    made = [replace(s, split="own", seed=f"by hand {n}") for n, s in enumerate(SCENARIOS)]
    assert made_from(made) == "split own, seed by hand 0, by hand 1, by hand 2 and 5 more"


def test_every_figure_says_where_it_is_from(run: Path, page: Page):
    text = (run / "report.html").read_text(encoding="utf-8")
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", text, re.DOTALL)
    assert len(captions) == text.count("<figure") == page.charts == 14
    assert all("rows.jsonl" in caption or "times.jsonl" in caption for caption in captions)
    assert all("python -m eval.report run" in caption for caption in captions)


def test_provenance_is_on_the_page(run: Path, page: Page):
    for known in (
        "0123abcd with changed files",
        "torch 2.13.0",
        "AMD <EPYC>",
        "3e376c4806b27a86",
        "configs/quick.yaml",
    ):
        assert known in page.text
    assert "the run has not ended" in page.text
    assert str(run.parent) not in (run / "report.html").read_text(encoding="utf-8")


def test_what_is_missing_has_its_reason(page: Page, run: Path):
    for reason in ("no text to read", "all 8 rows failed (BudgetExceeded)", "no rows of summary without a budget"):
        assert reason in page.text
        assert reason in (run / "REPORT.md").read_text(encoding="utf-8")
    assert "memory file, registry" in page.text  # scored where they did not fail


def test_what_does_not_fit_is_told_from_what_failed(run: Path):
    lines = {line.key: line for line in report.read_source(run).lines}
    assert (lines["registry", 0.125].unfit, lines["registry", 0.125].broken) == (2, 0)
    assert (lines["memory file", 0.33].unfit, lines["memory file", 0.33].broken) == (0, 1)
    row = next(line for line in terminal(run).splitlines() if "registry " in line and "12.5%" in line)
    assert "0 / 2" in row


def test_the_terminal_table_fits_110_columns(run: Path):
    shown = terminal(run, width=200)
    table = [line for line in shown.splitlines() if line.startswith((" ", "─"))]
    assert table and max(map(len, table)) <= 110
    for system in (*BUDGETED, *UNBUDGETED):
        assert re.search(rf"^ {re.escape(system)} ", shown, re.MULTILINE)


def test_markdown_tables_are_whole(run: Path):
    text = (run / "REPORT.md").read_text(encoding="utf-8")
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({line.count("|") for line in block.splitlines()}) == 1
    assert "## Differences, Holm-adjusted" in text and "80% power" in text


def test_a_second_report_is_the_same_to_the_byte(run: Path):
    before = (run / "report.html").read_bytes()
    report.write(run)
    assert (run / "report.html").read_bytes() == before


def test_gzipped_rows_give_the_same_page(run: Path, tmp_path: Path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "run.json").write_bytes((run / "run.json").read_bytes())
    for name in ("rows.jsonl", "times.jsonl", "scenarios.jsonl"):
        (folder / f"{name}.gz").write_bytes(gzip.compress((run / name).read_bytes()))
    report.write(folder)
    assert (folder / "report.html").read_bytes() == (run / "report.html").read_bytes()


def test_names_are_text_and_not_markup(tmp_path: Path):
    rng = np.random.default_rng(2)
    rows = [full_row(s, "compact:<b>&|", 0.125, 0.5, 40_000_000, rng, 0) for s in SCENARIOS]
    report.write(make_run(tmp_path, rows, SCENARIOS))
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "compact:<b>" not in text and "compact:<b>&|" in Page(text).text
    assert "compact:<b>&\\|" in (tmp_path / "REPORT.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("kept", ["nothing", "screen", "one row", "failed", "no budget", "no summary", "no bytes"])
def test_a_poor_run_gives_a_report_that_says_so(kept: str, tmp_path: Path):
    rows = rows_of(SCENARIOS)
    chosen = {
        "nothing": [],
        "screen": [r for r in rows if r.system == "screen"],
        "one row": rows[2:3],
        "failed": [failed(s, "summary", 0.125) for s in SCENARIOS],
        "no budget": [r for r in rows if r.budget is None],
        "no summary": [r for r in rows if r.system in ("bm25", "full")],
        "no bytes": [replace(r, active_bytes=None, at_rest={}, said=None) for r in rows if r.system == "full"],
    }[kept]
    said = {
        "nothing": "No system of this run has a byte budget",
        "screen": "Nothing to draw",
        "one row": "one scenario pair",
        "failed": "No row at 12.5% of the conversation's bytes was scored",
        "no budget": "No system of this run has a byte budget",
        "no summary": "no scored prompted summary",
        "no bytes": "no row has measured bytes",
    }[kept]
    folder = make_run(tmp_path, chosen, SCENARIOS)
    report.write(folder)
    assert said in Page((folder / "report.html").read_text(encoding="utf-8")).text
    assert terminal(folder)


def test_retention_is_refused_on_the_first_screen(tmp_path: Path):
    rng = np.random.default_rng(3)
    rows = [full_row(s, name, None, 0.5, 40_000_000, rng, 0) for s in SCENARIOS for name in ("full", "none")]
    report.write(make_run(tmp_path, rows, SCENARIOS))
    text = (tmp_path / "REPORT.md").read_text(encoding="utf-8")
    assert "Effective retention is refused (ceiling and floor do not separate" in text.partition("## ")[0]


@pytest.mark.parametrize("damage", ["no folder", "no run.json", "no scenarios", "damaged rows", "damaged gzip"])
def test_a_folder_that_is_no_run_is_named(damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = tmp_path / "run"
    if damage != "no folder":
        make_run(folder, rows_of(SCENARIOS[:1]), SCENARIOS[:1])
    if damage == "no run.json":
        for file in folder.iterdir():
            file.unlink()
    elif damage == "no scenarios":
        (folder / "scenarios.jsonl").unlink()
    elif damage == "damaged rows":
        (folder / "rows.jsonl").write_text('{"id": 1}\n', encoding="utf-8")
    elif damage == "damaged gzip":
        (folder / "rows.jsonl").unlink()
        (folder / "rows.jsonl.gz").write_bytes(b"\x1f\x8b not gzip")
    with pytest.raises(ConfigError):
        report.write(folder)
    with pytest.raises(SystemExit) as stopped:
        report.main([str(folder)])
    assert stopped.value.code == 1 and "ConfigError: " in capsys.readouterr().err
    assert not (folder / "report.html").exists()


def test_the_command_writes_both_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = make_run(tmp_path / "run", rows_of(SCENARIOS[:2]), SCENARIOS[:2])
    report.main([str(folder)])
    assert (folder / "report.html").is_file() and (folder / "REPORT.md").is_file()
    assert f"Report: {folder / 'report.html'}" in capsys.readouterr().out.replace("\n", "")


def test_a_half_finished_run_has_rows_that_count(tmp_path: Path):
    rows = rows_of(SCENARIOS)[:40]
    folder = make_run(tmp_path, rows, SCENARIOS)
    with (folder / "rows.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"id": "cut sho')
    report.write(folder)
    assert len(read_rows(folder / "rows.jsonl")) == 40


def test_labels_never_come_too_near():
    placed = spread([50.0, 50.0, 51.0, 90.0, 10.0], 13.0, 0.0, 100.0)
    assert min(b - a for a, b in zip(sorted(placed), sorted(placed)[1:], strict=False)) >= 13.0 - 1e-9
    assert placed.index(max(placed)) == 3 and placed.index(min(placed)) == 4
    assert min(spread([0.0, 0.0], 13.0, 5.0, 100.0)) >= 5.0


def test_a_scale_has_round_ticks():
    assert Scale(0.0, 1.0, 0.0, 100.0).ticks() == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert Scale(3.0, 40.0, 0.0, 100.0, log=True, base=2.0).ticks() == [4.0, 8.0, 16.0, 32.0]
    assert Scale(1.0, 100.0, 0.0, 100.0, log=True)(10.0) == pytest.approx(50.0)
