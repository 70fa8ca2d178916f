"""INT4 and the other quantizers on the embedded model's real cache: bytes, and speed on one core."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch

from eval.bench.harness import Bench, Goal, Row
from memkv.compress import QUANTIZERS, decompress

GOALS = {"int4": Goal("at_least", 500.0)}


def rows(bench: Bench) -> list[Row]:
    """Share of the bf16 bytes, and MB of bf16 a second for compress and decompress on one thread."""
    full = bench.model.capture(bench.live)
    megabytes = full.payload / 1e6
    result = []
    for name, quantizer in QUANTIZERS.items():
        small = quantizer().compress(full)
        size = Goal("at_most", 0.30) if name == "int4" else None
        share = [small.payload / full.payload]
        result.append(Row(f"{name}: bytes, scales and window counted", share, unit="of bf16", goal=size))
        with one_thread():
            packing = seconds(partial(quantizer().compress, full), bench.rounds)
            opening = seconds(partial(decompress, small), bench.rounds)
        for step, times in (("quantize", packing), ("dequantize", opening)):
            speed = [megabytes / each for each in times]
            result.append(Row(f"{name}: {step}, one core", speed, unit="MB/s of bf16", goal=GOALS.get(name)))
    return result


def seconds(work: Callable[[], object], rounds: int) -> list[float]:
    """Seconds of each round, after one that does not count."""
    work()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return times


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one core inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
