"""The reference table: every shipped configuration measured, every published claim answered."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import torch
import transformers

from memkv.reference.claims import VARIANTS, Check, checks, eviction_checks, measure_named_model
from memkv.reference.evicted import eviction_factors
from memkv.reference.measured import CODECS, Measured, names

TOKENS = (4096, 131_072, 1_048_576)


@dataclass(frozen=True)
class Table:
    """`models` are the shipped configurations by name; `checks` the claims, in the order of FIELD.md."""

    models: tuple[Measured, ...]
    checks: tuple[Check, ...]


def build(on_step: Callable[[str, int, int], object] = lambda name, done, total: None, workers: int = 2) -> Table:
    """Measure everything: a minute of work for one core, in `workers` processes of their own, under 2 GB in all.

    Args:
        on_step: called with (what was measured last, how many are done, how many there are).
        workers: 1 stays in this process.
    """
    wanted = [*names(), *VARIANTS]
    found: dict[str, Measured] = {}
    evictions = eviction_checks(eviction_factors((2.0, 5.0)))
    for name, model in _in_parallel(wanted, workers) if workers > 1 else ((n, measure_named_model(n)) for n in wanted):
        found[name] = model
        on_step(name, len(found), len(wanted))
    return Table(tuple(found[name] for name in names()), (*checks(found), *evictions))


def _in_parallel(wanted: list[str], workers: int) -> Iterator[tuple[str, Measured]]:
    # Meta tensors cost Python time, so threads would not help. Spawned, not forked: torch holds threads already.
    with ProcessPoolExecutor(workers, get_context("spawn"), initializer=_quiet_worker) as pool:
        tasks = {pool.submit(measure_named_model, name): name for name in wanted}
        for task in as_completed(tasks):
            yield tasks[task], task.result()


def _quiet_worker() -> None:
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()  # which kernels are missing says nothing about sizes


def model_row(model: Measured, tokens: tuple[int, ...] = TOKENS) -> dict[str, Any]:
    """One model as plain data: every size in bytes."""
    law = model.profile
    positions = getattr(model.config, "max_position_embeddings", None)
    return {
        "name": model.name,
        "dtype": law.dtype,
        "layers": len(law.layers),
        "bytes_per_token": law.per_token,
        "fixed_bytes": law.fixed,
        "windows": [{"tokens": window, "bytes_per_token": size} for window, size in law.windows.items()],
        "bytes_at": {str(n): law.at(n) for n in tokens},
        "by_kind_at": {str(n): law.by_kind_at(n) for n in tokens},
        "codecs": {
            codec: {
                "bytes_per_token": model.quantized_per_token(codec),
                "bytes_at": {str(n): model.quantized_at(codec, n) for n in tokens},
            }
            for codec in CODECS
        },
        "max_position_embeddings": positions,
        "weights_bytes": model.weights,
        "exact": law.exact,
        "note": law.note,
        "measured_at_tokens": list(law.lengths),
        "source": model.source,
    }


def check_row(check: Check) -> dict[str, Any]:
    """One claim as plain data."""
    return {
        "system": check.system,
        "claim": check.claim,
        "claimed": check.claimed,
        "unit": check.unit,
        "claimed_read_as": check.expected,
        "measured": check.measured,
        "tolerance": check.tolerance,
        "verdict": check.verdict,
        "why": check.why,
    }


def as_data(table: Table, tokens: tuple[int, ...] = TOKENS) -> dict[str, Any]:
    """The whole table as plain data, for JSON."""
    return {
        "models": [model_row(model, tokens) for model in table.models],
        "claims": [check_row(check) for check in table.checks],
    }
