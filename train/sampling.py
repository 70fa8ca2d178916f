"""Answers written many at once: every prompt is read once, however many answers it gets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from peft import PeftModel
from peft.helpers import disable_input_dtype_casting
from torch import Tensor
from transformers import DynamicLayer, PreTrainedTokenizerBase

from train.merged import merged
from train.shared import Read, places, read_prompts

FULL = 0.75  # share of a batch that still writes, at which the others are taken out


@contextmanager
def adapter_in_bf16(model: PeftModel, on: bool) -> Iterator[None]:
    """Products of the adapter in bf16 while its weights stay fp32; PEFT alone would take every input to fp32 first.

    Only for what runs under autocast.
    """
    with disable_input_dtype_casting(model, active=on):
        yield


@torch.no_grad()
def sample(
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    most: int,
    *,
    each: int = 1,
    temperature: float = 0.0,
    mixed_precision: bool = False,
    reads: bool = True,
) -> list[list[int]]:
    """`each` answers to every text, one after the other, as tokens with the one that ends them.

    Args:
        model: the policy.
        tokenizer: its tokenizer.
        texts: whole prompts.
        most: tokens of an answer.
        each: answers to a text; at temperature 0 they would all be the same.
        temperature: of sampling; 0 is greedy.
        mixed_precision: compute in bf16.
        reads: whether the adapter is on while the prompt is read.
    """
    prompts = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    ends = model.generation_config.eos_token_id
    stops = torch.tensor([*(ends if isinstance(ends, list) else [ends]), tokenizer.eos_token_id], device=model.device)
    training = model.training
    model.eval()
    with (
        merged(model, reads and model.dtype == torch.float32),
        adapter_in_bf16(model, mixed_precision),
        torch.autocast(model.device.type, torch.bfloat16, mixed_precision),
    ):
        read = read_prompts(model, [prompt for prompt in prompts for _ in range(each)], reads)
        found = decode(model, read, most, temperature, stops)
    model.train(training)
    return found


def decode(model: PeftModel, read: Read, most: int, temperature: float, stops: Tensor) -> list[list[int]]:
    """An answer to each prompt. Answers that are over leave the batch: half of them take a third of the longest."""
    cache, mask_BP, token_B1 = read.cache, read.mask_BP, read.last_B1
    cache.layers = [Roomy(layer, most) if type(layer) is DynamicLayer else layer for layer in cache.layers]
    found: list[list[int]] = [[] for _ in token_B1]
    rows_B = torch.arange(len(found), device=model.device)
    open_B = torch.ones_like(rows_B, dtype=torch.bool)
    for _ in range(most):
        mask_BP = torch.nn.functional.pad(mask_BP, (0, 1), value=1)
        logits_B1V = model(
            input_ids=token_B1,
            attention_mask=mask_BP,
            position_ids=places(mask_BP)[:, -1:],
            past_key_values=cache,
            logits_to_keep=1,
        ).logits
        token_B1 = drawn(logits_B1V[:, -1].float(), temperature)
        for row, token, going in zip(rows_B.tolist(), token_B1[:, 0].tolist(), open_B.tolist(), strict=True):
            if going:
                found[row].append(token)
        open_B &= ~torch.isin(token_B1[:, 0], stops)
        if not open_B.any():
            break
        if open_B.float().mean() <= FULL:
            kept = open_B.nonzero()[:, 0]
            cache.reorder_cache(kept)
            rows_B, mask_BP, token_B1, open_B = rows_B[kept], mask_BP[kept], token_B1[kept], open_B[kept]
    return found


def drawn(logits_BV: Tensor, temperature: float) -> Tensor:
    """One token for each row (B1)."""
    if not temperature:
        return logits_BV.argmax(-1, keepdim=True)
    return torch.multinomial(torch.softmax(logits_BV / temperature, -1), 1)


class Roomy(DynamicLayer):
    """A layer with room for what is written: `DynamicLayer` copies all that was read with every token."""

    def __init__(self, layer: DynamicLayer, room: int) -> None:
        super().__init__()
        assert layer.keys is not None and layer.values is not None
        self.lazy_initialization(layer.keys, layer.values)
        self._room = room
        self._take(layer.keys, layer.values)

    def _take(self, keys: Tensor, values: Tensor) -> None:
        """Keys and values (BHTD) at the beginning of larger tensors."""
        self._length = keys.shape[-2]
        shape = (*keys.shape[:-2], self._length + self._room, keys.shape[-1])
        self._all = [keys.new_empty(shape), values.new_empty(shape)]
        self._write([keys, values], 0)

    def _write(self, new: Sequence[Tensor], at: int) -> None:
        for held, tensor in zip(self._all, new, strict=True):
            held[..., at : self._length, :] = tensor
        self.keys, self.values = (held[..., : self._length, :] for held in self._all)

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """See `DynamicLayer`."""
        at = self._length
        self._length += key_states.shape[-2]
        self._room -= key_states.shape[-2]
        self._write([key_states, value_states], at)
        return self.keys, self.values

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """The rows of a batch that are named, as a batch."""
        self._take(self.keys[beam_idx], self.values[beam_idx])
