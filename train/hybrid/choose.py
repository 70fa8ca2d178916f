"""Which layers keep their attention: those without which most is lost when one alone is swapped for its mixer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from memkv.hybrids.mapping import to_bamba
from memkv.model import HybridModel
from train.hybrid.config import Choose
from train.hybrid.judge import perplexity, probes
from train.hybrid.match import put_in


@dataclass(frozen=True)
class Swapped:
    """What is left when one layer has its mixer instead of attention.

    Attributes:
        layer: its index; -1 for the base itself.
        perplexity: on held-out text.
        confidence: mean probability of the right one of four answers, with the rules in context.
    """

    layer: int
    perplexity: float
    confidence: float


def sensitivities(
    base: HybridModel,
    mixers: Sequence[nn.Module],
    stream: NDArray[np.int32],
    config: Choose,
    known: Sequence[Swapped] = (),
) -> Iterator[Swapped]:
    """The base, and then each layer swapped alone; those that are known already are left out."""
    layers = base.hf.config.num_hidden_layers
    there = {each.layer for each in known}
    for layer in range(-1, layers):
        if layer in there:
            continue
        hybrid = to_bamba(base.hf, [index for index in range(layers) if index != layer])
        put_in(hybrid, mixers)
        read = perplexity(hybrid, stream, config.tokens)
        _, sure = probes(HybridModel(hybrid, base.tokenizer, name="swapped"), config.policies)
        yield Swapped(layer, read, sure)


def chosen(found: Sequence[Swapped], config: Choose) -> tuple[int, ...]:
    """The layers that keep their attention: those that cost most text and probes when they are swapped.

    Args:
        found: the base (layer -1) and every layer swapped alone.
        config: how many, and what probes weigh beside text.
    """
    if config.layers:
        return tuple(sorted(config.layers))
    base = next(each for each in found if each.layer < 0)
    swapped = [each for each in found if each.layer >= 0]
    by_text = shares([math.log(each.perplexity / base.perplexity) for each in swapped])
    by_probes = shares([base.confidence - each.confidence for each in swapped])
    cost = [text + config.probes_weigh * probe for text, probe in zip(by_text, by_probes, strict=True)]
    best = sorted(range(len(swapped)), key=lambda at: (-cost[at], swapped[at].layer))[: config.keep]
    return tuple(sorted(swapped[at].layer for at in best))


def shares(losses: Sequence[float]) -> list[float]:
    """Each loss as a share of all, so that text and probes can be added; what got better lost nothing."""
    lost = [max(0.0, each) for each in losses]
    return [each / (sum(lost) or 1.0) for each in lost]
