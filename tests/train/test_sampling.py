"""Answers written many at once are the answers that a prompt gets by itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from tiny_policy import adapted, tiny_base

from train.policy import Base
from train.sampling import sample

PROMPTS = ["Which folder do notes go to?", "No.", "The deputy editor approves anonymous sources from now on."]


@pytest.fixture(params=["llama", "granitemoehybrid", "lfm2"])
def base(request: pytest.FixtureRequest, tmp_path: Path) -> Base:
    return tiny_base(request.param, tmp_path)


@pytest.fixture
def policy(base: Base) -> PeftModel:
    return adapted(base)


@pytest.mark.parametrize("reads", [True, False])
def test_a_prompt_that_is_read_once_for_all_its_answers_gets_the_same(
    base: Base, policy: PeftModel, reads: bool
) -> None:
    shared = sample(policy, base.tokenizer, PROMPTS, 12, each=3, reads=reads)
    alone = [sample(policy, base.tokenizer, [prompt], 12, reads=reads)[0] for prompt in PROMPTS]
    assert shared == [answer for answer in alone for _ in range(3)]


def test_sampled_answers_differ_and_come_again_with_the_same_seed(base: Base, policy: PeftModel) -> None:
    def drawn() -> list[list[int]]:
        torch.manual_seed(7)
        return sample(policy, base.tokenizer, PROMPTS[:1], 12, each=4, temperature=1.0)

    first = drawn()
    assert len({tuple(answer) for answer in first}) > 1
    assert drawn() == first


def test_the_model_goes_on_training_afterwards(base: Base, policy: PeftModel) -> None:
    policy.train()
    sample(policy, base.tokenizer, PROMPTS, 4)
    assert policy.training


def test_in_mixed_precision_the_adapter_keeps_its_weights_in_fp32(base: Base, policy: PeftModel) -> None:
    answers = sample(policy, base.tokenizer, PROMPTS, 4, each=2, mixed_precision=True)
    assert len(answers) == 2 * len(PROMPTS)
    assert {weight.dtype for name, weight in policy.named_parameters() if "lora_" in name} == {torch.float32}


def test_an_answer_ends_with_the_token_that_ends_it(base: Base, policy: PeftModel) -> None:
    [whole] = sample(policy, base.tokenizer, PROMPTS[:1], 12)
    policy.generation_config.eos_token_id = [whole[4], 2]
    assert sample(policy, base.tokenizer, PROMPTS[:1], 12) == [whole[: whole.index(whole[4]) + 1]]
