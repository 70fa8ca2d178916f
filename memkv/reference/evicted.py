"""What eviction leaves in bytes: real evictors on a real cache of a small random Llama with heads of the usual size."""

from __future__ import annotations

import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from memkv.compress.base import KVCompressor, budget_from_ratio
from memkv.compress.h2o import H2O
from memkv.compress.snapkv import SnapKV
from memkv.model import HybridModel

N_TOKENS = 512


def eviction_factors(factors: tuple[float, ...]) -> dict[tuple[str, float], float]:
    """(method, asked factor) -> how many times smaller the payload really became."""
    config = LlamaConfig(
        vocab_size=128,
        hidden_size=128,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=128,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = HybridModel(AutoModelForCausalLM.from_config(config, dtype=torch.float32), name="random llama")
        ids = torch.randint(3, 128, (N_TOKENS,)).tolist()
    live = model.new_cache()
    model.extend(live, ids)
    snapshot = model.capture(live)
    methods: tuple[KVCompressor, ...] = (H2O(model), SnapKV(model))
    return {
        (method.name, factor): snapshot.payload
        / method.compress(snapshot, budget_from_ratio(snapshot, 1 / factor)).payload
        for method in methods
        for factor in factors
    }
