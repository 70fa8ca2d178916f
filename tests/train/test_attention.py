"""Attention without copies of the keys is attention."""

from __future__ import annotations

import pytest
import torch
from tiny_models import tiny

from memkv.errors import UnsupportedModel
from train.attention import GROUPED, grouped_attention, offer_grouped_attention


@pytest.mark.parametrize("name", ["llama", "gemma3", "granitemoehybrid"])
def test_it_gives_the_same_logits_and_gradients(name: str) -> None:
    offer_grouped_attention()
    ids = torch.arange(24).view(2, 12) + 3
    mask = torch.ones_like(ids)
    mask[1, :5] = 0
    found = []
    for kind in ("eager", GROUPED):
        model = tiny(name)
        model.set_attn_implementation(kind)
        logits = model(input_ids=ids, attention_mask=mask).logits[:, 5:]
        logits.square().mean().backward()
        found.append([logits, *(weight.grad for weight in model.parameters() if weight.grad is not None)])
    assert all(torch.allclose(one, other, atol=1e-6) for one, other in zip(*found, strict=True))


def test_a_model_that_asks_for_more_is_refused() -> None:
    one = torch.ones(1, 1, 1, 4)
    with pytest.raises(UnsupportedModel, match=r"softcap.*machine\.attention to eager"):
        grouped_attention(torch.nn.Identity(), one, one, one, None, softcap=30.0)
