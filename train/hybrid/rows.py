"""Rows of a token stream, the same at every resumption; and learning rates by how far a stage has come."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

LOWEST = 0.1  # of the learning rate, at the end


class Rows:
    """A stream cut into rows, from its beginning again when it ends.

    Attributes:
        taken: tokens that were given out, which is all that a checkpoint has to know.
    """

    def __init__(self, stream: NDArray[np.int32], taken: int = 0) -> None:
        self.stream, self.taken = stream, taken

    def next(self, rows: int, length: int) -> Tensor:
        """The next rows (BT)."""
        places = (self.taken + np.arange(rows * length)) % len(self.stream)
        self.taken += rows * length
        return torch.from_numpy(self.stream[places].astype(np.int64)).view(rows, length)


def rate(step: int, steps: int, warmup: int) -> float:
    """Share of the highest learning rate at a step: linear warm-up, then a cosine to LOWEST."""
    if step < warmup:
        return (step + 1) / warmup
    done = min(1.0, (step - warmup) / max(1, steps - warmup))
    return LOWEST + (1 - LOWEST) * 0.5 * (1 + math.cos(math.pi * done))
