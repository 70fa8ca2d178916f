"""Fair timing: contenders take turns within one run, and a row shows medians, spread and whether the goal is met."""

from __future__ import annotations

import gc
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console
from rich.table import Table

from memkv import HybridModel
from memkv.live import LiveCache

ROOT = Path(__file__).parents[2]
TOKENS = 2048


@dataclass(frozen=True)
class Goal:
    """What a row must reach, as a bound on one number.

    `ratio` bounds ours / peer from above, `speedup` bounds peer / ours from below, `at_most` and `at_least` bound the
    median of ours in the row's unit.
    """

    kind: Literal["ratio", "speedup", "at_most", "at_least"]
    limit: float

    def value(self, ours: float, peer: float) -> float:
        """The number that the goal bounds, from the two medians."""
        if self.kind == "ratio":
            return ours / peer
        return peer / ours if self.kind == "speedup" else ours

    def met(self, ours: float, peer: float) -> bool:
        """Whether it is inside the bound."""
        value = self.value(ours, peer)
        return value >= self.limit if self.kind in ("speedup", "at_least") else value <= self.limit


@dataclass(frozen=True)
class Row:
    """One comparison: samples of memkv and of the peer, in `unit`. A goal on ours alone needs no peer."""

    name: str
    ours: Sequence[float]
    peer: Sequence[float] = ()
    unit: str = "ms"
    goal: Goal | None = None
    peer_name: str = ""
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """Everything in the row, samples included."""
        ours = statistics.median(self.ours)
        peer = statistics.median(self.peer) if self.peer else float("nan")
        return {
            "name": self.name,
            "peer_name": self.peer_name,
            "unit": self.unit,
            "ours": {"median": ours, "p10": percentile(self.ours, 10), "p90": percentile(self.ours, 90)},
            "peer": {"median": peer, "p10": percentile(self.peer, 10), "p90": percentile(self.peer, 90)}
            if self.peer
            else None,
            "ratio": ours / peer if self.peer else None,
            "goal": None if self.goal is None else {"kind": self.goal.kind, "limit": self.goal.limit},
            "met": None if self.goal is None else self.goal.met(ours, peer),
            "note": self.note,
            "samples": {"ours": list(self.ours), "peer": list(self.peer)},
        }


@dataclass
class Bench:
    """What the benchmarks share: how often, where on the disk, and one conversation of 2,048 tokens, read once."""

    rounds: int
    folder: Path
    say: Callable[[str], None]
    tokens: int = TOKENS

    @cached_property
    def model(self) -> HybridModel:
        """The embedded model in bf16."""
        return HybridModel.from_pretrained(notify=self.say)

    @cached_property
    def token_ids(self) -> list[int]:
        """The first tokens of the LICENSE file: English prose that every checkout has."""
        assert self.model.tokenizer is not None
        ids: list[int] = self.model.tokenizer((ROOT / "LICENSE").read_text(encoding="utf-8"))["input_ids"]
        assert len(ids) >= self.tokens
        return ids[: self.tokens]

    @cached_property
    def live(self) -> LiveCache:
        """The conversation's cache. Benchmarks must not write to it: fork it."""
        self.say(f"Reading {self.tokens} tokens")
        live = self.model.new_cache()
        self.model.extend(live, self.token_ids)
        return live


def take_turns(
    contenders: Mapping[str, Callable[[], float | None]], rounds: int, warmup: int = 2
) -> dict[str, list[float]]:
    """Milliseconds per round and contender; one call each a round, the order rotating, so that drift hits all alike.

    A contender that returns a number has timed itself (another process, or steps that must not count).
    """
    names = list(contenders)
    times: dict[str, list[float]] = {name: [] for name in names}
    for number in range(warmup + rounds):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            gc.collect()
            gc.disable()
            start = time.perf_counter()
            own_time = contenders[name]()
            elapsed = (time.perf_counter() - start) * 1e3
            gc.enable()
            if number >= warmup:
                times[name].append(elapsed if own_time is None else own_time)
    return times


def percentile(samples: Sequence[float], percent: int) -> float:
    """Linear interpolation between the two nearest samples."""
    ordered = sorted(samples)
    place = (len(ordered) - 1) * percent / 100
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def spread(samples: Sequence[float]) -> str:
    """`46.1 [44.9-51.0]`: median, then the 10th and 90th percentile; one sample is shown as it is."""
    if not samples:
        return ""
    middle = f"{statistics.median(samples):,.4g}"
    return middle if len(samples) == 1 else f"{middle} [{percentile(samples, 10):,.4g}-{percentile(samples, 90):,.4g}]"


def goal_text(row: Row) -> str:
    """The goal in words, and whether it is met."""
    if row.goal is None:
        return ""
    words = {
        "ratio": f"≤ {row.goal.limit:g} x",
        "speedup": f"≥ {row.goal.limit:g} x faster",
        "at_most": f"≤ {row.goal.limit:g} {row.unit}",
        "at_least": f"≥ {row.goal.limit:g} {row.unit}",
    }[row.goal.kind]
    return f"{words}: {'yes' if row.to_json()['met'] else 'NO'}"


def print_table(rows: Sequence[Row], console: Console) -> None:
    """Medians with [p10-p90], the ratio of the medians, and the goal."""
    table = Table(title=rf"median \[p10-p90]; {machine()}", title_justify="left")
    for heading in ("", "peer", "unit", "memkv", "the peer", "memkv / peer", "goal"):
        table.add_column(heading, justify="left" if heading in ("", "peer", "goal") else "right")
    for row in rows:
        ratio = row.to_json()["ratio"]
        peer = f"{row.peer_name} ({row.note})" if row.note else row.peer_name
        numbers = (spread(row.ours), spread(row.peer), "" if ratio is None else f"{ratio:.3g}")
        table.add_row(row.name, peer, row.unit, *numbers, goal_text(row))
    console.print(table)


def machine() -> str:
    """Cores, torch threads and load: what the figures depend on."""
    threads = f"torch {torch.__version__} on {torch.get_num_threads()} threads"
    return f"{os.cpu_count()} cores, {threads}, load {os.getloadavg()[0]:.1f}"
