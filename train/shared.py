"""What rows begin alike is read once, forwards and backwards: the instruction by all, a prompt by all its answers.

TRL reads every row whole. In a group of eight answers to one prompt of 400 tokens that is five times the work, so the
rows of a pass are taken apart, each different prompt is read once, and its cache is given to all its answers. The
numbers are the same but for rounding (`tests/train/test_shared.py`), the gradients of the prompt included.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from transformers import Cache, DynamicCache, DynamicLayer
from transformers.modeling_outputs import BaseModelOutputWithPast

IGNORED = -100  # the label of what is not learned


@dataclass(frozen=True)
class Read:
    """Prompts that were read up to their last token.

    Attributes:
        cache: one row a prompt.
        mask_BP: 1 where the cache holds a token.
        last_B1: the tokens that were not read.
    """

    cache: Cache
    mask_BP: Tensor
    last_B1: Tensor


def read_prompts(model: PeftModel, prompts: Sequence[Sequence[int]], reads: bool) -> Read:
    """Each different prompt once, and what they all begin with once for all, where no layer has a recurrent state.

    Args:
        model: the policy.
        prompts: as tokens.
        reads: with the adapter on and gradients, if they are asked for; else by the model as it is, without.
    """
    if reads:
        return _read(model, prompts)
    with torch.no_grad(), model.disable_adapter():
        return _read(model, prompts)


def _read(model: PeftModel, prompts: Sequence[Sequence[int]]) -> Read:
    """With the adapter as it is now."""
    distinct = list(dict.fromkeys(map(tuple, prompts)))
    heads = [prompt[:-1] for prompt in distinct]
    cache = DynamicCache(config=model.config)
    shared = common(heads) if attends_only(cache) else 0
    width = max(len(head) for head in heads) - shared
    rest = [(*[0] * (width + shared - len(head)), *head[shared:]) for head in heads]
    mask = [(*[1] * shared, *[0] * (width + shared - len(head)), *[1] * (len(head) - shared)) for head in heads]
    mask_UP = torch.tensor(mask, device=model.device)
    if shared:
        beginning = torch.tensor([heads[0][:shared]], device=model.device)
        model(input_ids=beginning, past_key_values=cache, logits_to_keep=1)
        cache.batch_repeat_interleave(len(distinct))
    if width:
        model(
            input_ids=torch.tensor(rest, device=model.device),
            attention_mask=mask_UP,
            position_ids=places(mask_UP)[:, shared:],
            past_key_values=cache,
            logits_to_keep=1,
        )
    number = {prompt: row for row, prompt in enumerate(distinct)}
    rows_B = torch.tensor([number[tuple(prompt)] for prompt in prompts], device=model.device)
    cache.reorder_cache(rows_B)
    return Read(cache, mask_UP[rows_B], torch.tensor([prompt[-1:] for prompt in prompts], device=model.device))


def attends_only(cache: Cache) -> bool:
    """Whether all layers are of plain attention, whose cache can be put together and taken apart."""
    return all(type(layer) is DynamicLayer for layer in cache.layers)


def common(texts: Sequence[Sequence[int]]) -> int:
    """Length of what all begin with."""
    return sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, zip(*texts, strict=False)))


def places(mask_BT: Tensor) -> Tensor:
    """Position of each token among those that are there."""
    return (mask_BT.cumsum(-1) - 1).clamp(min=0)


@contextmanager
def shared_prompts(model: PeftModel, reads: bool) -> Iterator[None]:
    """Inside, passes that are given labels, as those of TRL's trainers, read prompts as `read_prompts` does.

    An answer begins with the first label. In a model with recurrent layers an adapter that `reads` goes over whole
    rows, as ever: the states are written in place, which gradients do not survive.
    """
    backbone = model.get_base_model().base_model
    plain = backbone.forward
    if reads and not attends_only(DynamicCache(config=model.config)):
        yield
        return
    given: list[Tensor] = []

    def remember(module: Any, arguments: Any, named: dict[str, Any]) -> None:
        """TRL hands labels to the model's head, which the backbone does not see."""
        given[:] = [named["labels"]] if named.get("labels") is not None else []

    def forward(input_ids: Tensor, attention_mask: Tensor | None = None, **others: Any) -> BaseModelOutputWithPast:
        """The hidden states of the answers, each one predicting the next token; elsewhere 0."""
        if not given or attention_mask is None:
            return plain(input_ids=input_ids, attention_mask=attention_mask, **others)
        labels_BT = given.pop()
        rows = [
            split(ids, mask, labels)
            for ids, mask, labels in zip(input_ids.tolist(), attention_mask.tolist(), labels_BT.tolist(), strict=True)
        ]
        read = read_prompts(model, [row.prompt for row in rows], reads)
        width = max(len(row.answer) for row in rows)
        answers = [(*row.answer, *[0] * (width - len(row.answer))) for row in rows]
        new = [(1, *[1] * len(row.answer), *[0] * (width - len(row.answer))) for row in rows]
        answers_BA = torch.tensor(answers, device=input_ids.device, dtype=torch.long)
        mask_BT = torch.cat([read.mask_BP, torch.tensor(new, device=input_ids.device)], 1)
        written = plain(
            input_ids=torch.cat([read.last_B1, answers_BA], 1),
            attention_mask=mask_BT,
            position_ids=places(mask_BT)[:, read.mask_BP.shape[1] :],
            past_key_values=read.cache,
            use_cache=True,
        ).last_hidden_state
        hidden_BTD = written.new_zeros(*input_ids.shape, written.shape[-1])
        for number, row in enumerate(rows):
            length = len(row.answer) + 1
            hidden_BTD[number, row.start - 1 : row.start - 1 + length] = written[number, :length]
        return BaseModelOutputWithPast(last_hidden_state=hidden_BTD)

    hook = model.register_forward_pre_hook(remember, with_kwargs=True)
    backbone.forward = forward
    try:
        yield
    finally:
        del backbone.forward
        hook.remove()


@dataclass(frozen=True)
class Row:
    """A prompt, an answer, and the column in which the answer begins."""

    prompt: list[int]
    answer: list[int]
    start: int


def split(ids: Sequence[int], mask: Sequence[int], labels: Sequence[int]) -> Row:
    """One row of a batch, padded on either side."""
    start = next((column for column, label in enumerate(labels) if label != IGNORED), len(ids))
    prompt = [token for token, there in zip(ids[:start], mask[:start], strict=True) if there]
    answer = [token for token, there in zip(ids[start:], mask[start:], strict=True) if there]
    return Row(prompt, answer, start)
