"""Rows that begin alike are read once, and come out as if each had been read whole, gradients included."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from tiny_chat import random_tokens
from tiny_policy import adapted, tiny_base
from torch import Tensor

from train.shared import IGNORED, common, read_prompts, shared_prompts, split

START = random_tokens(9)  # what all prompts begin with
PROMPTS = [[*START, *random_tokens(length, seed=length)] for length in (5, 1, 12, 5)]
ANSWERS = [random_tokens(length, seed=50 + length) for length in (4, 7, 1, 6)]


@pytest.fixture
def policy(tmp_path: Path) -> PeftModel:
    """Of plain attention."""
    return adapted(tiny_base("llama", tmp_path))


def batch(side: str) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, their mask and their labels, padded as TRL's two trainers do."""
    rows = [[*prompt, *answer] for prompt, answer in zip(PROMPTS, ANSWERS, strict=True)]
    if side == "right":
        width = max(map(len, rows))
        columns = [(0, len(prompt), width - len(row)) for prompt, row in zip(PROMPTS, rows, strict=True)]
    else:
        most, longest = max(map(len, PROMPTS)), max(map(len, ANSWERS))
        columns = [(most - len(p), len(p), longest - len(a)) for p, a in zip(PROMPTS, ANSWERS, strict=True)]
    ids = [[0] * left + row + [0] * right for row, (left, _, right) in zip(rows, columns, strict=True)]
    mask = [[0] * left + [1] * len(row) + [0] * right for row, (left, _, right) in zip(rows, columns, strict=True)]
    labels = [
        [IGNORED] * (left + prompt) + answer + [IGNORED] * right
        for answer, (left, prompt, right) in zip(ANSWERS, columns, strict=True)
    ]
    return torch.tensor(ids), torch.tensor(mask), torch.tensor(labels)


def whole(model: PeftModel, prompt: list[int], answer: list[int], reads: bool) -> Tensor:
    """Hidden states that predict the answer, by one pass over the row.

    Where the adapter does not read, it adds nothing up to the prompt's last token.
    """
    on = torch.tensor([reads] * (len(prompt) - 1) + [True] * (len(answer) + 1))[None, :, None]
    hooks = [
        module.register_forward_hook(lambda module, given, found: found * on)
        for name, module in model.named_modules()
        if name.endswith("lora_B.default")
    ]
    ids = torch.tensor([[*prompt, *answer]])
    hidden: Tensor = model.get_base_model().base_model(input_ids=ids, use_cache=False).last_hidden_state
    for hook in hooks:
        hook.remove()
    return hidden[0, len(prompt) - 1 :]


def gradients(model: PeftModel) -> dict[str, Tensor]:
    found = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
    model.zero_grad()
    return found


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize(
    ("name", "reads"), [("llama", True), ("llama", False), ("granitemoehybrid", False), ("lfm2", False)]
)
def test_hidden_states_and_gradients_are_those_of_rows_read_whole(
    name: str, reads: bool, side: str, tmp_path: Path
) -> None:
    policy = adapted(tiny_base(name, tmp_path))
    ids, mask, labels = batch(side)
    backbone = policy.get_base_model().base_model
    with shared_prompts(policy, reads):
        for hook in policy._forward_pre_hooks.values():
            hook(policy, (), {"labels": labels})
        found = backbone(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    weights = torch.linspace(-1, 1, found.shape[-1])
    (found @ weights).sum().backward()
    ours = gradients(policy)
    for row, (prompt, answer) in enumerate(zip(PROMPTS, ANSWERS, strict=True)):
        start = next(column for column, label in enumerate(labels[row].tolist()) if label != IGNORED)
        reference = whole(policy, prompt, answer, reads)
        torch.testing.assert_close(found[row, start - 1 : start + len(answer)], reference, rtol=1e-4, atol=1e-5)
        (reference @ weights).sum().backward()
    theirs = gradients(policy)
    assert ours.keys() == theirs.keys()
    largest = max(gradient.norm() for gradient in theirs.values())
    for weight, gradient in theirs.items():
        error = (ours[weight] - gradient).norm()
        assert error <= 1e-3 * gradient.norm() + 1e-5 * largest, f"{weight}: off by {error} of {gradient.norm()}"


def test_outside_and_without_labels_the_model_is_as_it_was(policy: PeftModel) -> None:
    ids = torch.tensor([PROMPTS[0]])
    before = policy(input_ids=ids).logits
    with shared_prompts(policy, reads=True):
        inside = policy(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    assert torch.equal(before, inside)
    assert torch.equal(before, policy(input_ids=ids).logits)
    assert not policy._forward_pre_hooks


@pytest.mark.parametrize("name", ["granitemoehybrid", "lfm2"])
def test_a_recurrent_model_reads_its_rows_whole(name: str, tmp_path: Path) -> None:
    policy = adapted(tiny_base(name, tmp_path))
    before = policy.get_base_model().base_model.forward
    with shared_prompts(policy, reads=True):
        assert policy.get_base_model().base_model.forward == before


@pytest.mark.parametrize("reads", [True, False])
def test_equal_prompts_are_read_once(policy: PeftModel, reads: bool) -> None:
    tokens = []
    hook = policy.register_forward_pre_hook(
        lambda module, arguments, named: tokens.append(named["input_ids"].numel()), with_kwargs=True
    )
    read = read_prompts(policy, [PROMPTS[0]] * 8, reads)
    hook.remove()
    assert sum(tokens) == len(PROMPTS[0]) - 1
    assert read.mask_BP.shape == (8, len(PROMPTS[0]) - 1) and read.last_B1.tolist() == [[PROMPTS[0][-1]]] * 8


def test_a_row_is_split_where_its_labels_begin() -> None:
    row = split([0, 5, 6, 7, 8, 0], [0, 1, 1, 1, 1, 0], [IGNORED, IGNORED, IGNORED, 7, 8, IGNORED])
    assert (row.prompt, row.answer, row.start) == ([5, 6], [7, 8], 3)
    nothing = split([5, 6], [1, 1], [IGNORED, IGNORED])
    assert (nothing.prompt, nothing.answer) == ([5, 6], [])


def test_the_common_beginning() -> None:
    assert common([[1, 2, 3], [1, 2, 4, 5], [1, 2]]) == 2
    assert common([[1], [2]]) == 0
    assert common([[1, 2]]) == 2
