"""Answers written many at once: every prompt is read once, however many answers it gets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from peft import PeftModel
from peft.helpers import disable_input_dtype_casting
from transformers import PreTrainedTokenizerBase

from train.shared import read_prompts


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
    sampling = {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature else {"do_sample": False}
    training = model.training
    model.eval()
    with adapter_in_bf16(model, mixed_precision), torch.autocast(model.device.type, torch.bfloat16, mixed_precision):
        read = read_prompts(model, [prompt for prompt in prompts for _ in range(each)], reads)
        held = torch.zeros_like(read.mask_BP)  # `generate` only counts what stands before the last token
        ids = torch.cat([held, read.last_B1], 1)
        written = model.generate(
            input_ids=ids,
            attention_mask=torch.cat([read.mask_BP, torch.ones_like(read.last_B1)], 1),
            past_key_values=read.cache,
            max_new_tokens=most,
            pad_token_id=tokenizer.pad_token_id,
            **sampling,
        )
    model.train(training)
    ends = model.generation_config.eos_token_id
    stops = set(ends if isinstance(ends, list) else [ends]) | {tokenizer.eos_token_id}
    return [up_to_end(row, stops) for row in written[:, ids.shape[1] :].tolist()]


def up_to_end(tokens: Sequence[int], ends: set[int]) -> list[int]:
    """Tokens up to the first that ends an answer, and that one; all where none does."""
    last = next((index for index, token in enumerate(tokens) if token in ends), len(tokens) - 1)
    return list(tokens[: last + 1])
