"""The adapter inside the weights while answers are written, which spares two products a layer with every token."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer


@contextmanager
def merged(model: PeftModel, on: bool) -> Iterator[None]:
    """Add the adapter to the weights of the base, and put these back bit by bit: taking it off again would round.

    For weights in fp32; those in bf16 are too coarse to hold the sum.
    """
    if not on:
        yield
        return
    weights = [layer.get_base_layer().weight for layer in model.modules() if isinstance(layer, BaseTunerLayer)]
    before = [weight.detach().clone() for weight in weights]
    model.merge_adapter()
    try:
        yield
    finally:
        model.unmerge_adapter()
        for weight, kept in zip(weights, before, strict=True):
            weight.data.copy_(kept)
