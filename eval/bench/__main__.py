"""`python -m eval.bench`: every benchmark, one table; exit status 1 if a goal is missed."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from eval.bench.harness import ROOT, Bench, Row, machine, print_table

# Each module has `rows(bench: Bench) -> list[Row]`.
BENCHMARKS = (
    "restore_bench", "peers", "store_bench", "codec_bench", "sharing_bench", "recall_bench", "hybrid_bench",
    "server_bench",
)  # fmt: skip


def main() -> int:
    """Run what was asked for and print it."""
    parser = argparse.ArgumentParser(prog="python -m eval.bench", description=__doc__)
    parser.add_argument("--only", choices=BENCHMARKS, action="append", help="run these alone; may be repeated")
    parser.add_argument("--rounds", type=int, default=15, help="rounds of each comparison (default: %(default)s)")
    parser.add_argument("--folder", type=Path, default=ROOT / "build", help="the disk to write to: %(default)s")
    parser.add_argument("--json", action="store_true", help="all samples as JSON instead of the table")
    options = parser.parse_args()
    options.folder.mkdir(exist_ok=True)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.folder) as scratch:
        bench = Bench(options.rounds, Path(scratch), lambda said: print(said, file=sys.stderr))
        for name in options.only or BENCHMARKS:
            bench.folder = Path(scratch) / name
            bench.folder.mkdir()
            rows += importlib.import_module(f"eval.bench.{name}").rows(bench)
    if options.json:
        print(json.dumps({"machine": machine(), "rows": [row.to_json() for row in rows]}, indent=2))
    else:
        print_table(rows, Console() if sys.stdout.isatty() else Console(width=200))
    return 1 if any(row.to_json()["met"] is False for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
