"""A character tokenizer for the tiny models, with chat templates of the kinds that make boundaries hard."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import torch
from tiny_models import VOCAB, tiny
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from memkv.hybrids.mapping import to_bamba
from memkv.model import HybridModel

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Refuses a system message and roles that do not alternate, as Gemma and Mistral do; trims what was said.
STRICT = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "<|im_start|>{{ m['role'] }}\n{{ m['content'] | trim }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Renders the last reply with an empty thought and earlier ones without, as Qwen3 does; the prompt opens a thought too.
THINKING = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['role'] == 'assistant' and loop.last %}<think></think>{% endif %}"
    "{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think></think>{% endif %}"
)
# Says what time it is, so that no two renderings have the same head.
CLOCK = "{{ strftime_now('%H:%M:%S.%f') }}\n" + CHATML
TEMPLATES = {"chatml": CHATML, "strict": STRICT, "thinking": THINKING, "clock": CLOCK, "none": None}


def tiny_tokenizer(template: str = "chatml", blank_first: bool = False) -> PreTrainedTokenizerFast:
    """One token a character, within the 128 of the tiny models.

    `<|im_end|>` is special in the tokenizer's own file only, as Gemma's end of turn is. With `blank_first` a blank is
    put before every text that is encoded by itself, as SentencePiece tokenizers do.
    """
    specials = ["<pad>", "<s>", "</s>", "<unk>", "<|im_start|>", "<|im_end|>"]
    vocab = {token: index for index, token in enumerate([*specials, *string.printable])}
    assert len(vocab) <= VOCAB
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    if blank_first:
        tokenizer.normalizer = normalizers.Prepend(" ")
    tokenizer.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    fast.chat_template = TEMPLATES[template]
    return fast


def tiny_chat(name: str = "llama", template: str = "chatml", **overrides: Any) -> HybridModel:
    """A tiny random model that can chat, in 4,096 positions."""
    limit = "n_positions" if name == "gpt2" else "max_position_embeddings"
    if name not in ("mamba", "mamba2"):
        overrides.setdefault(limit, 4096)
    return HybridModel(tiny(name, **overrides), tiny_tokenizer(template), name=f"tiny-{name}")


def save_with_hybrid(model: HybridModel, place: Path) -> Path:
    """The model in `place`/base, and a hybrid of it with attention in layer 1 in `place`/hybrid."""
    for name, hf in (("base", model.hf), ("hybrid", to_bamba(model.hf, [1]))):
        hf.save_pretrained(str(place / name))
        model.tokenizer.save_pretrained(str(place / name))
    return place


def random_tokens(count: int, seed: int = 0) -> list[int]:
    """Token ids outside the special ones."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(6, 100, (count,), generator=generator).tolist()
