"""What a hybrid is worth: perplexity on text that nothing was trained on, and probes of rules in its context."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from eval.rule_probes import POLICIES, ask_all, conversation
from memkv.model import HybridModel

LENGTH = 2048  # tokens of a row
CHANCE = 0.25


@dataclass(frozen=True)
class Worth:
    """Measured on one model.

    Attributes:
        perplexity: of the next token.
        right: share of four-way probes that are answered rightly, and `confidence` the right one's mean probability.
    """

    perplexity: float
    right: float
    confidence: float


@torch.no_grad()
def perplexity(model: nn.Module, stream: NDArray[np.int32], tokens: int, length: int = LENGTH) -> float:
    """Of a causal model on so many tokens of a stream, in rows of `length`."""
    length = min(length, tokens, len(stream))
    total, count = 0.0, 0
    for start in range(0, min(tokens, len(stream)) - length + 1, length):
        row = torch.from_numpy(stream[start : start + length].astype(np.int64))[None].to(
            next(model.parameters()).device
        )
        logits = model(row).logits
        total += float(cross_entropy(logits[:, :-1], row[:, 1:], "sum"))
        count += length - 1
    return math.exp(total / count)


def cross_entropy(logits_BTV: Tensor, ids_BT: Tensor, reduction: str = "mean") -> Tensor:
    """Of ids, in fp32."""
    return functional.cross_entropy(logits_BTV.float().flatten(0, 1), ids_BT.flatten(), reduction=reduction)


def probes(model: HybridModel, policies: int, filler: Sequence[str] = ()) -> tuple[float, float]:
    """Share of the rule probes of so many policies that are right with the policy in context, and the confidence."""
    right: list[bool] = []
    sure: list[float] = []
    for number, policy in enumerate(POLICIES[:policies]):
        live = model.new_cache()
        model.extend(live, conversation(model, policy, filler[number % len(filler)] if filler else ""))
        score = ask_all(model, live, policy.probes)
        right += score.right
        sure += score.probability
    return float(np.mean(right)), float(np.mean(sure))
