"""Tiny random models of every architecture that memkv names, for tests: milliseconds, fp32, seeded.

`tiny("bamba")` builds a model of a few layers with mixed layer kinds and a vocabulary of 128 tokens; keyword arguments
override configuration fields: `tiny("gemma3", sliding_window=4)`.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

VOCAB = 128
SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
ATTENTION = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512}
MAMBA2 = {
    "mamba_n_heads": 4,
    "mamba_d_head": 16,
    "mamba_n_groups": 1,
    "mamba_d_state": 8,
    "mamba_d_conv": 4,
    "mamba_expand": 2,
    "mamba_chunk_size": 16,
}

# name -> (model type, configuration fields); every model is 32 wide.
FIELDS: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("gpt2", {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 512}),
    "llama": ("llama", {"num_hidden_layers": 3, "head_dim": 8, **ATTENTION}),
    "gemma3": (
        "gemma3_text",
        {
            "num_hidden_layers": 3,
            "head_dim": 8,
            "sliding_window": 8,
            "query_pre_attn_scalar": 8,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            **ATTENTION,
        },
    ),
    "deepseek_v3": (
        "deepseek_v3",
        {
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "max_position_embeddings": 512,
            "q_lora_rank": 16,
            "kv_lora_rank": 12,
            "qk_rope_head_dim": 4,
            "qk_nope_head_dim": 8,
            "v_head_dim": 8,
            "moe_intermediate_size": 16,
            "n_routed_experts": 4,
            "num_experts_per_tok": 2,
            "n_group": 2,
            "topk_group": 1,
            "first_k_dense_replace": 1,
        },
    ),
    "mamba": ("mamba", {"num_hidden_layers": 3, "state_size": 8, "time_step_rank": 4}),
    "mamba2": (
        "mamba2",
        {"num_hidden_layers": 3, "num_heads": 4, "head_dim": 16, "state_size": 8, "n_groups": 2, "chunk_size": 16},
    ),
    "bamba": ("bamba", {"num_hidden_layers": 4, "attn_layer_indices": [1, 3], **ATTENTION, **MAMBA2}),
    "jamba": (
        "jamba",
        {
            "num_hidden_layers": 4,
            "attn_layer_period": 2,
            "attn_layer_offset": 1,
            "num_experts": 2,
            "num_experts_per_tok": 1,
            "mamba_d_state": 8,
            "mamba_dt_rank": 4,
            **ATTENTION,
        },
    ),
    "granitemoehybrid": (
        "granitemoehybrid",
        {
            "num_hidden_layers": 4,
            "layer_types": ["linear_attention", "full_attention", "linear_attention", "full_attention"],
            "num_local_experts": 2,
            "num_experts_per_tok": 1,
            "shared_intermediate_size": 32,
            **ATTENTION,
            **MAMBA2,
        },
    ),
    "qwen3_next": (
        "qwen3_next",
        {
            "num_hidden_layers": 4,
            "layer_types": ["linear_attention", "full_attention", "linear_attention", "full_attention"],
            "head_dim": 8,
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 8,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "moe_intermediate_size": 16,
            "shared_expert_intermediate_size": 16,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            **ATTENTION,
        },
    ),
    "lfm2": (
        "lfm2",
        {
            "num_hidden_layers": 4,
            "layer_types": ["conv", "full_attention", "conv", "full_attention"],
            "block_auto_adjust_ff_dim": False,
            **ATTENTION,
        },
    ),
    "recurrent_gemma": (
        "recurrent_gemma",
        {
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "lru_width": 32,
            "attention_window_size": 8,
            "block_types": ["recurrent", "attention"],
        },
    ),
    "falcon_h1": ("falcon_h1", {"num_hidden_layers": 3, "mamba_d_ssm": 64, "head_dim": 8, **ATTENTION, **MAMBA2}),
    "zamba2": (
        "zamba2",
        {
            "num_hidden_layers": 4,
            "layers_block_type": ["mamba", "hybrid", "mamba", "hybrid"],
            "num_attention_heads": 4,
            "num_mem_blocks": 1,
            "mamba_d_state": 8,
            "mamba_headdim": 16,
            "n_mamba_heads": 4,
            "chunk_size": 16,
            "adapter_rank": 4,
            "use_mem_rope": True,
        },
    ),
    "rwkv": ("rwkv", {"num_hidden_layers": 3, "attention_hidden_size": 32, "context_length": 512}),
}
NAMES = tuple(FIELDS)


def tiny_config(name: str, **overrides: Any) -> PreTrainedConfig:
    """The configuration behind `tiny`."""
    model_type, fields = FIELDS[name]
    base = {"vocab_size": VOCAB, "hidden_size": 32, "intermediate_size": 64, **SPECIAL}
    if model_type == "gpt2":
        base = {"vocab_size": VOCAB, **SPECIAL}
    return AutoConfig.for_model(model_type, **{**base, **fields, **overrides})


def tiny(name: str, **overrides: Any) -> PreTrainedModel:
    """A tiny random causal LM in eval mode, fp32, the same weights on every call."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(tiny_config(name, **overrides), dtype=torch.float32).eval()
