"""The policy as a trainable model: the base with a LoRA adapter, and what it writes, many answers at once."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel, PreTrainedTokenizerBase, set_seed

from memkv import pretrained
from memkv.compaction.origin import Origin, read_origin, write_origin
from memkv.compaction.windows import Count
from memkv.errors import ConfigError, ModelUnavailable, UnsupportedModel
from memkv.fingerprint import weights_hash
from memkv.turns import ChatFormat
from train.attention import offer_grouped_attention
from train.sampling import sample
from train.states import State

WEIGHTS = "adapter_model.safetensors"
ORIGIN = torch.bfloat16  # in which a model mostly runs, whatever a policy was trained in


@dataclass(frozen=True)
class Lora:
    """The adapter: LoRA (arXiv 2106.09685) on every linear layer but the head.

    Attributes:
        rank: of its matrices.
        alpha: their product is scaled by alpha / rank.
        dropout: in training.
        reads: it is on while the prompt is read too. Without, the model reads as it is and the adapter comes on with
            the prompt's last token (activated LoRA, arXiv 2504.12397): a prompt then costs no backward pass.
    """

    rank: int = 16
    alpha: int = 32
    dropout: float = 0.0
    reads: bool = True


@dataclass(frozen=True)
class Base:
    """The model under the adapter, with its tokenizer and chat format.

    Attributes:
        name: as it was asked for.
        weights: their hash in the precision ORIGIN, as in a `Fingerprint` of the model in that precision.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str
    weights: str

    @property
    def chat(self) -> ChatFormat:
        """The chat format, as sessions use it."""
        return ChatFormat(self.tokenizer)

    def counter(self) -> Count:
        """Tokens of a text."""
        return self.chat.count

    def prompter(self) -> Callable[[State], str]:
        """A state as the text that the policy continues."""
        chat, count = self.chat, self.counter()
        return lambda state: chat.render(state.prompt(count), open_reply=True)


def load_base(name: str, dtype: str, device: str, attention: str = "sdpa") -> Base:
    """The base model, frozen, with one of transformers' implementations of attention, or `grouped`.

    Raises:
        ModelUnavailable: see `memkv.pretrained.load`.
        UnsupportedModel: its tokenizer adds tokens of its own.
    """
    model, tokenizer = pretrained.load(name, dtype=getattr(torch, dtype), device=device)
    offer_grouped_attention()
    model.set_attn_implementation(attention)
    model.requires_grad_(False)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "left"
    # The chat template writes the first token itself; a tokenizer that adds another would train on what is never read.
    if tokenizer("")["input_ids"]:
        tokenizer.add_bos_token = tokenizer.add_eos_token = False
    if tokenizer("")["input_ids"]:
        raise UnsupportedModel(
            f"The tokenizer of {name} adds tokens of its own to every text",
            "Use a model whose tokenizer can be told not to.",
        )
    return Base(model, tokenizer, name, weights_hash(model, ORIGIN))


def new_adapter(base: Base, lora: Lora, seed: int) -> PeftModel:
    """A fresh adapter on the base."""
    set_seed(seed)
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    return get_peft_model(base.model, config)


def trained_adapter(base: Base, folder: Path, lora: Lora) -> PeftModel:
    """The adapter in a folder, to be trained on.

    Raises:
        ModelUnavailable: no adapter there, or one for another model.
        ConfigError: it was trained to read, and is not to, or the other way round.
    """
    origin = read_origin(folder)
    if origin is not None and origin.reads != lora.reads:
        raise ConfigError(
            f"The adapter in {folder} was trained with lora.reads: {str(origin.reads).lower()}",
            "Set that in the configuration.",
        )
    try:
        model = PeftModel.from_pretrained(base.model, str(folder), is_trainable=True)
        held = {name.replace(".default", "") for name, _ in model.named_parameters() if ".default." in name}
        if wrong := sorted(held ^ set(load_file(folder / WEIGHTS))):
            raise ValueError(
                f"{len(wrong)} of its tensors do not fit {base.model.name_or_path}, the first is {wrong[0]}"
            )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise ModelUnavailable(f"No usable adapter in {folder}: {error}", "Train one: python -m train.sft.") from error
    return model


def save_adapter(model: PeftModel, base: Base, folder: Path, lora: Lora) -> None:
    """Write the adapter in bf16, with what it was trained on, whole or not at all."""
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    model.peft_config["default"].base_model_name_or_path = base.name  # PEFT would write this machine's path
    model.save_pretrained(str(partial), selected_adapters=["default"])
    weights = {name: tensor.to(torch.bfloat16) for name, tensor in load_file(partial / WEIGHTS).items()}
    save_file(weights, partial / WEIGHTS, metadata={"format": "pt"})
    write_origin(partial, Origin(base.name, base.weights, str(ORIGIN).removeprefix("torch."), lora.reads))
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


class Writer:
    """Writes answers to states in batches, of about equal length each.

    Args:
        model: the policy.
        base: its tokenizer and chat format.
        batch: answers written at once.
        max_tokens: of one answer.
        mixed_precision: compute in bf16.
        reads: see `Lora`.
    """

    def __init__(
        self, model: PeftModel, base: Base, batch: int, max_tokens: int, mixed_precision: bool, reads: bool
    ) -> None:
        self.model, self.base, self.batch, self.max_tokens = model, base, batch, max_tokens
        self.mixed_precision, self.reads = mixed_precision, reads
        self.prompt = base.prompter()

    def answers(self, states: Sequence[State]) -> list[str]:
        """One answer a state, greedily."""
        return [found[0] for found in self.several(states, 1)]

    def several(self, states: Sequence[State], each: int, temperature: float = 0.0, seed: int = 0) -> list[list[str]]:
        """`each` answers to every state; greedy at temperature 0."""
        texts = [self.prompt(state) for state in states]
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        found: list[list[str]] = [[] for _ in texts]
        set_seed(seed)
        written = self.tokens([texts[index] for index in order], each, temperature)
        answers = self.base.tokenizer.batch_decode(written, skip_special_tokens=True)
        for place, index in enumerate(order):
            found[index] = answers[place * each : (place + 1) * each]
        return found

    def tokens(self, texts: Sequence[str], each: int, temperature: float) -> list[list[int]]:
        """`each` answers to every prompt, one after the other, as tokens; in batches, in the order of the prompts."""
        found: list[list[int]] = []
        at_once = max(1, self.batch // each)
        for start in range(0, len(texts), at_once):
            found += sample(
                self.model,
                self.base.tokenizer,
                texts[start : start + at_once],
                self.max_tokens,
                each=each,
                temperature=temperature,
                mixed_precision=self.mixed_precision,
                reads=self.reads,
            )
        return found
