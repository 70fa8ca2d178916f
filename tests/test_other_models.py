"""Architectures that memkv names nowhere simply work, or are refused by name."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_chat import random_tokens
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from memkv.errors import UnsupportedModel
from memkv.model import HybridModel
from memkv.snapshot_file import from_buffer, to_buffers

COMMON: dict[str, Any] = {
    "vocab_size": 128, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 512, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 2,
}  # fmt: skip
MLA = {
    "kv_lora_rank": 8, "q_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 8, "v_head_dim": 8,
    "n_routed_experts": 4, "moe_intermediate_size": 16, "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1,
    "num_experts_per_tok": 2, "num_key_value_heads": 4, "index_n_heads": 2, "index_head_dim": 8, "index_topk": 64,
}  # fmt: skip
# model type -> (a kind of layer that it brings, its own fields)
WORKING: dict[str, tuple[str, dict[str, Any]]] = {
    "mistral": ("sliding", {"sliding_window": 8}),
    "qwen3": ("full", {}),
    "deepseek_v32": ("indexed", MLA),
    "gpt_oss": ("sliding", {"num_local_experts": 2, "num_experts_per_tok": 1, "sliding_window": 8}),
    "llama4_text": ("sliding", {"num_local_experts": 2, "intermediate_size_mlp": 64, "attention_chunk_size": 16}),
    "nemotron_h": (
        "empty",
        {
            "hybrid_override_pattern": "M-*-", "mamba_num_heads": 4, "mamba_head_dim": 16, "ssm_state_size": 8,
            "n_groups": 1, "chunk_size": 16,
        },
    ),
    "falcon_mamba": ("linear", {"state_size": 8, "time_step_rank": 4}),
}  # fmt: skip


def build(kind: str, fields: dict[str, Any]) -> PreTrainedModel:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **{**COMMON, **fields})).eval()


@pytest.mark.parametrize("kind", WORKING)
def test_a_model_named_nowhere_simply_works(kind: str) -> None:
    layer, fields = WORKING[kind]
    model = HybridModel(build(kind, fields), name=kind)
    assert layer in model.layer_kinds
    live = model.new_cache()
    model.extend(live, random_tokens(45))
    data = memoryview(bytearray(b"".join(to_buffers(model.capture(live)))))
    restored = model.restore(from_buffer(data))
    logits_V = model.extend(live, [5, 6, 7])
    assert torch.equal(model.extend(restored, [5, 6, 7]), logits_V)
    assert list(model.generate(live, 8)) == list(model.generate(restored, 8))
    reference_V = model.one_pass_logits(live.token_ids[:48])[-1]
    assert torch.allclose(logits_V, reference_V, atol=2e-5 * reference_V.abs().max().item())


@pytest.mark.parametrize("kind", ["minimax", "xlstm"])
def test_a_model_with_a_cache_of_its_own_is_refused_by_name(kind: str) -> None:
    experts = {"num_local_experts": 2, "num_experts_per_tok": 1} if kind == "minimax" else {}
    with pytest.raises(UnsupportedModel, match="memkv measure"):
        HybridModel(build(kind, experts))
