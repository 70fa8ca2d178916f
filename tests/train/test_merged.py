"""An adapter inside the weights acts as beside them, and leaves no trace."""

from __future__ import annotations

from pathlib import Path

import torch
from tiny_policy import adapted, tiny_base

from train.merged import merged

IDS = torch.arange(5, 25)[None]


def test_it_gives_the_same_logits_and_the_weights_come_back_bit_by_bit(tmp_path: Path) -> None:
    model = adapted(tiny_base("llama", tmp_path)).eval()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    with torch.no_grad():
        beside = model(IDS).logits
        with merged(model, True):
            inside = model(IDS).logits
            assert any(not torch.equal(before[name], weight) for name, weight in model.state_dict().items())
        with model.disable_adapter():
            assert not torch.allclose(model(IDS).logits, beside, atol=1e-3), "the adapter does something"
        assert torch.allclose(inside, beside, atol=1e-5)
        assert torch.equal(model(IDS).logits, beside)
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())


def test_they_come_back_also_when_something_fails(tmp_path: Path) -> None:
    model = adapted(tiny_base("llama", tmp_path))
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    try:
        with merged(model, True):
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())
