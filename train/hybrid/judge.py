"""What a hybrid is worth: perplexity on text that nothing was trained on, and probes of rules in its context."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from eval.rule_probes import POLICIES, ask_all, conversation
from memkv.model import HybridModel

LENGTH = 2048  # tokens of a row


@torch.no_grad()
def perplexity(model: nn.Module, stream: NDArray[np.int32], tokens: int, length: int = LENGTH) -> float:
    """Of a causal model on so many tokens of a stream, in rows of `length`."""
    length = min(length, tokens, len(stream))
    total, count = 0.0, 0
    for start in range(0, min(tokens, len(stream)) - length + 1, length):
        row = torch.from_numpy(stream[start : start + length].astype(np.int64))[None].to(
            next(model.parameters()).device
        )
        logits = model(row, use_cache=False).logits
        total += float(functional.cross_entropy(logits[0, :-1].float(), row[0, 1:], reduction="sum"))
        count += length - 1
    return math.exp(total / count)


def probes(model: HybridModel, policies: int) -> tuple[float, float]:
    """Share of the rule probes of so many policies that are right with the policy in context, and the confidence."""
    right: list[bool] = []
    sure: list[float] = []
    for policy in POLICIES[:policies]:
        live = model.new_cache()
        model.extend(live, conversation(model, policy))
        score = ask_all(model, live, policy.probes)
        right += score.right
        sure += score.probability
    return float(np.mean(right)), float(np.mean(sure))
