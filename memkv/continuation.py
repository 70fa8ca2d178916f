"""Is going on from a cache right? Shown on the model at hand before anything is stored.

transformers 5.23 goes on wrongly from some caches and does not say so: Bamba counts positions from 0 unless they are
passed, Mamba-1 and Jamba drop state when several tokens follow a cached one. So two pieces are compared with one
cache-free pass over the same tokens, and the fastest way that agrees is used from then on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Mode = Literal["pieces", "token by token"]

# One pass and two passes round differently. fp32 rounding stays below 1e-5 of the largest logit; the smallest real
# error seen (Jamba, random weights) is 1e-4 of it. Lower precisions are checked in fp32 where memory allows.
TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-5}
LOOSE_TOLERANCE = 0.05

CHECK_TOKENS = 40
# (first piece, second piece): more than one token after the cache, also beyond a convolution's width.
SPLITS = ((23, 17), (37, 3))


@dataclass(frozen=True)
class Continuation:
    """How a model's cache is continued exactly.

    `error` is the largest logit difference to one cache-free pass, as a share of the largest logit, for the chosen
    `mode`; `error_in_pieces` the same for several tokens at once; `exact` is whether `error` is within rounding.
    """

    mode: Mode
    error: float
    error_in_pieces: float
    exact: bool

    def describe(self) -> str:
        """One line for people."""
        if not self.exact:
            return f"continuing from a cache is off by {self.error:.1%} of the largest logit: not usable"
        if self.mode == "pieces":
            return f"continuing in pieces with explicit positions is exact (relative difference {self.error:.0e})"
        return (
            f"continuing token by token is exact (relative difference {self.error:.0e}); "
            f"in pieces this model would be off by {self.error_in_pieces:.1e}"
        )


# (pieces of tokens) -> logits of the last piece (TV); `None` as cache-free marker is `one_pass`.
InPieces = Callable[[Sequence[Sequence[int]]], Tensor]


def check_continuation(one_pass: Callable[[Sequence[int]], Tensor], in_pieces: InPieces, vocab: int) -> Continuation:
    """Compare pieces with one pass on fixed pseudo-random tokens.

    Args:
        one_pass: token ids -> logits of every position (TV) by a cache-free forward pass.
        in_pieces: pieces of token ids, each continued from the cache of those before -> logits of the last piece (TV).
        vocab: vocabulary size.
    """
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, vocab, (CHECK_TOKENS,), generator=generator).tolist()
    reference_TV = one_pass(tokens)
    tolerance = TOLERANCE.get(reference_TV.dtype, LOOSE_TOLERANCE)
    scale = reference_TV.abs().max().item()

    def error(pieces: Sequence[Sequence[int]]) -> float:
        last = len(pieces[-1])
        return (in_pieces(pieces) - reference_TV[-last:]).abs().max().item() / scale

    several = max(error([tokens[:first], tokens[first:]]) for first, _ in SPLITS)
    if several <= tolerance:
        return Continuation("pieces", several, several, True)
    first = SPLITS[0][0]
    single = error([tokens[:first], *([token] for token in tokens[first:])])
    return Continuation("token by token", single, several, single <= tolerance)
