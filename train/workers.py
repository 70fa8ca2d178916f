"""Work spread over processes that live as long as a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any

import torch

Spread = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]  # as `map`


@contextmanager
def spread_over(processes: int) -> Iterator[Spread]:
    """`map` in so many processes of one thread each, results in order; with 1 in this one."""
    if processes == 1:
        yield map
        return
    with ProcessPoolExecutor(processes, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        yield pool.map
