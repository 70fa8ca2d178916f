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
from eval.report_svg import Scale, spread
from eval.row_file import read_rows, to_line
from eval.rows import Failure, Row, Times
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
    active = 0 if name == "none" else int(full * (0.1 if name == "curated" else (budget or 1.0) * rng.uniform(0.9, 1.0)))
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
