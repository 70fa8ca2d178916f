from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_models import NAMES, tiny, tiny_config
from torch import Tensor, nn
from torch.testing._internal.two_tensor import TwoTensor
from transformers import (
    Cache,
    DynamicCache,
    EncoderDecoderCache,
    LlamaForCausalLM,
    PreTrainedModel,
    QuantizedCache,
    StaticCache,
)
from transformers.cache_utils import DynamicIndexedLayer

from memkv.cache_size import find_module_state, measure, measure_named, profile, read_module_state
from memkv.errors import UnsupportedModel

FP32 = 4


def fill(model: PreTrainedModel, n_tokens: int, cache: Any = None) -> Any:
    cache = DynamicCache(config=model.config) if cache is None else cache
    with torch.no_grad():
        model(input_ids=torch.arange(n_tokens)[None] % 100, past_key_values=cache, use_cache=True)
    return cache


# --- measure: bytes counted by hand


def test_attention_counts_keys_and_values_of_every_layer() -> None:
    size = measure(fill(tiny("llama"), 5))
    assert size.by_kind == {"attention": 3 * 2 * (2 * 5 * 8) * FP32}  # layers * (K, V) * heads * tokens * head_dim
    assert size.payload == size.resident == sum(layer.payload for layer in size.layers)
    assert size.by_dtype == {"float32": size.payload}
    assert [layer.index for layer in size.layers] == [0, 1, 2]


def test_each_dtype_keeps_its_own_bytes() -> None:
    size = measure(fill(tiny("qwen3_next").to(torch.bfloat16), 5))
    assert set(size.by_dtype) == {"bfloat16", "float32"}  # the recurrent state stays in fp32
    assert size.by_dtype["float32"] == size.by_kind["recurrent"]


def test_window_keeps_a_view_of_a_larger_storage() -> None:
    size = measure(fill(tiny("gemma3", sliding_window=8), 50))
    token = 2 * (2 * 8) * FP32  # one layer's K and V for one token
    assert size.by_kind == {"window": 2 * 7 * token, "attention": 50 * token}
    windowed = size.layers[0]
    assert windowed.payload == 7 * token
    assert windowed.resident == 50 * token + 8  # all 50 tokens stay allocated, and the window's size is an int64 tensor


def test_latent_counts_both_slots() -> None:
    size = measure(fill(tiny("deepseek_v3"), 5))
    assert size.by_kind == {"latent": 3 * 5 * (12 + 4) * FP32}  # kv_lora_rank + qk_rope_head_dim


def test_one_head_of_equal_sizes_is_plain_attention() -> None:
    assert set(measure(fill(tiny("llama", num_key_value_heads=1), 5)).by_kind) == {"attention"}


def test_hybrid_layers_count_state_and_attention_apart() -> None:
    size = measure(fill(tiny("falcon_h1"), 5))
    conv = 64 + 2 * 8  # d_ssm, and B and C of one group with 8 states
    assert size.by_kind["conv"] == 3 * conv * 4 * FP32
    assert size.by_kind["recurrent"] == 3 * (4 * 16 * 8) * FP32
    assert size.by_kind["attention"] == 3 * 2 * (2 * 5 * 8) * FP32


def test_indexer_keys_have_a_kind_of_their_own() -> None:
    layer = DynamicIndexedLayer()
    layer.update(torch.zeros(1, 2, 5, 8), torch.zeros(1, 2, 5, 8))
    layer.update_indexer(torch.zeros(1, 5, 16))
    assert measure(Cache(layers=[layer])).by_kind == {"attention": 2 * 80 * FP32, "indexer": 80 * FP32}


def test_static_cache_costs_its_whole_length_from_the_start() -> None:
    model = tiny("llama")
    size = measure(fill(model, 5, StaticCache(config=model.config, max_cache_len=64)))
    assert size.payload == 3 * 2 * (2 * 64 * 8) * FP32
    assert size.resident == size.payload + 3 * 8  # one counter a layer


def test_fp8_cache_counts_its_scales() -> None:
    model = tiny("llama")
    size = measure(fill(model, 5, QuantizedCache("fp8", config=model.config)))
    assert size.by_kind == {"attention": 3 * 2 * (2 * 5 * 8), "scale": 3 * 2 * FP32}
    assert size.by_dtype == {"float8_e4m3fn": 3 * 2 * 80, "float32": 3 * 2 * FP32}


@pytest.mark.parametrize("backend", ["quanto", "hqq"])
def test_int4_cache_counts_packed_numbers_and_scales(backend: str) -> None:
    pytest.importorskip({"quanto": "optimum.quanto", "hqq": "hqq"}[backend])
    model = tiny("llama", head_dim=64)
    size = measure(fill(model, 32, QuantizedCache(backend, config=model.config, nbits=4, q_group_size=64)))
    numbers = 3 * 2 * (2 * 32 * 64)
    assert size.by_kind["attention"] == numbers // 2
    assert size.by_kind["scale"] >= numbers // 64 * 2  # a scale for each group at least


def test_encoder_decoder_cache_counts_both_caches() -> None:
    one, other = fill(tiny("llama"), 5), fill(tiny("llama"), 9)
    both = measure(EncoderDecoderCache(one, other))
    assert both.payload == measure(one).payload + measure(other).payload


def test_plain_state_list_of_rwkv() -> None:
    with torch.no_grad():
        state = tiny("rwkv")(input_ids=torch.arange(5)[None], use_cache=True).state
    size = measure(state, plain="recurrent")
    assert size.by_kind == {"recurrent": 5 * 32 * 3 * FP32}  # five vectors a layer, three layers in one tensor
    assert [layer.index for layer in size.layers] == [-1]


def test_nested_containers_keep_their_layers() -> None:
    legacy = [(torch.zeros(1, 2, 5, 8), torch.zeros(1, 2, 5, 8)), {"k": torch.zeros(4), "more": [torch.zeros(2)]}]
    size = measure(legacy)
    assert [(layer.index, layer.payload) for layer in size.layers] == [(0, 640), (1, 24)]
    assert size.by_kind == {"other": 664}


def test_shared_storage_is_resident_once() -> None:
    shared = torch.zeros(1, 2, 5, 8)
    size = measure_named([(0, "attention", shared), (1, "attention", shared), (1, "bias", shared[0, 0, 0])])
    assert size.payload == 2 * shared.nbytes + 32
    assert size.resident == shared.nbytes
    assert [layer.resident for layer in size.layers] == [shared.nbytes, shared.nbytes]
    assert size.by_kind["bias"] == 32


def test_wrapper_tensors_are_opened() -> None:
    size = measure([TwoTensor(torch.zeros(10), torch.zeros(10))])
    assert size.payload == size.resident == 80


def test_key_bias_of_a_compacted_layer() -> None:
    cache = fill(tiny("llama"), 5)
    cache.layers[1].key_bias = torch.zeros(1, 2, 5)
    assert measure(cache).by_kind["bias"] == 40


def test_unknown_layer_class_is_still_counted() -> None:
    class Foreign:
        def __init__(self) -> None:
            self.memory = {"slots": [torch.zeros(3), torch.zeros(5)]}

    assert measure(Cache(layers=[Foreign()])).by_kind == {"other": 32}


def test_unknown_tensor_in_a_known_layer_is_still_counted() -> None:
    cache = fill(tiny("llama"), 5)
    before = measure(cache).payload
    cache.layers[0].sketch = torch.zeros(7)
    assert measure(cache).payload == before + 28
    assert measure(cache).by_kind["other"] == 28


def test_empty_cache_is_empty() -> None:
    assert measure(DynamicCache()).payload == measure(DynamicCache()).resident == 0


# --- state that a model holds in its modules


def test_module_state_is_found_by_what_a_forward_pass_writes() -> None:
    model = tiny("recurrent_gemma")
    ids = torch.arange(5)[None]

    def forward() -> None:
        with torch.no_grad():
            model(input_ids=ids, use_cache=True)

    slots = find_module_state(model, forward)
    assert {name for _, name in slots} == {"recurrent_states", "conv1d_state"}
    state = read_module_state(model, slots)
    assert len(state) == 2 * 2  # two recurrent layers
    assert all(isinstance(value, Tensor) for value in state.values())


def test_a_constant_built_once_is_no_state() -> None:
    class Lazy(nn.Module):
        def forward(self) -> None:
            if "table" not in vars(self):
                self.table = torch.zeros(4)
                self.counter = torch.zeros(1)
            self.counter += 1

    model = Lazy()
    assert find_module_state(model, model) == (("", "counter"),)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "recurrent_gemma"])
def test_other_models_hold_no_state(name: str) -> None:
    model = tiny(name)
    assert find_module_state(model, lambda: model(input_ids=torch.arange(5)[None], use_cache=True)) == ()


def test_profile_leaves_a_loaded_model_as_it_was() -> None:
    model = tiny("recurrent_gemma")
    fill(model, 6)
    slots = find_module_state(model, lambda: fill(model, 6))
    before = {name: value.clone() for name, value in read_module_state(model, slots).items()}
    profile(model)
    after = read_module_state(model, slots)
    assert all(torch.equal(before[name], after[name]) for name in before)


# --- profile


@pytest.mark.parametrize("name", NAMES)
def test_law_is_exact_far_from_where_it_was_fitted(name: str) -> None:
    model = tiny(name)
    law = profile(model)
    assert law.exact, law.note
    if name == "rwkv":
        with torch.no_grad():
            real = measure(model(input_ids=torch.arange(61)[None], use_cache=True).state).payload
    else:
        argument = "cache_params" if name in ("mamba", "mamba2") else "past_key_values"
        cache = DynamicCache(config=model.config)
        with torch.no_grad():
            model(input_ids=torch.arange(61)[None], use_cache=True, **{argument: cache})
        real = measure(cache).payload
        if name == "recurrent_gemma":  # two recurrent layers: a state of 32 and three inputs of the convolution each
            real += 2 * (32 + 3 * 32) * FP32
    assert law.at(61) == real
    assert sum(law.by_kind_at(61).values()) == real


@pytest.mark.parametrize("name", NAMES)
def test_meta_law_equals_the_law_of_real_weights(name: str) -> None:
    meta = profile(tiny_config(name), dtype=torch.float32)
    assert meta == profile(tiny(name))


def test_bf16_law_equals_real_bf16_weights() -> None:
    for name in ("jamba", "qwen3_next", "zamba2", "recurrent_gemma", "rwkv"):
        assert profile(tiny_config(name)) == profile(tiny(name).to(torch.bfloat16)), name


def test_window_bound_is_what_is_kept_and_not_what_is_configured() -> None:
    law = profile(tiny("gemma3", sliding_window=8))
    token = 2 * (2 * 8) * FP32
    assert law.windows == {7: 2 * token}
    assert law.per_token == token
    assert law.at(3) == 3 * 3 * token
    assert law.at(1000) == 1000 * token + 2 * 7 * token


@pytest.mark.parametrize("window", [2, 3, 5, 30, 100])
def test_windows_of_any_size(window: int) -> None:
    law = profile(tiny("gemma3", sliding_window=window))
    assert law.exact, law.note
    for n_tokens in (2, window - 1, window, window + 1, 130):
        if n_tokens:
            assert law.at(n_tokens) == measure(fill(tiny("gemma3", sliding_window=window), n_tokens)).payload


def test_window_too_long_to_run_is_said() -> None:
    law = profile(tiny("gemma3", sliding_window=400), longest=100)
    assert not law.exact
    assert "400" in law.note


class Forgetful(LlamaForCausalLM):
    """Drops every tenth token from its cache: no line fits that."""

    def forward(self, *args: Any, past_key_values: Any = None, **kwargs: Any) -> Any:  # type: ignore[override]
        output = super().forward(*args, past_key_values=past_key_values, **kwargs)
        for layer in past_key_values.layers:
            layer.crop(-(layer.get_seq_length() // 10))
        return output


def test_wrong_law_is_reported() -> None:
    law = profile(Forgetful(tiny_config("llama")).eval())
    assert not law.exact
    assert "at 23 tokens" in law.note


def test_model_without_cache_is_refused() -> None:
    class Stateless(LlamaForCausalLM):
        def forward(self, input_ids: Tensor, use_cache: bool = True) -> Any:  # type: ignore[override]
            return super().forward(input_ids=input_ids, use_cache=False)

    with pytest.raises(UnsupportedModel):
        profile(Stateless(tiny_config("llama")).eval())


def test_mixture_of_windows_keeps_each_bound() -> None:
    kinds = ["sliding_attention", "chunked_attention", "full_attention"]
    model = tiny("llama", layer_types=kinds, sliding_window=9, attention_chunk_size=17)
    law = profile(model)
    assert law.exact, law.note
    assert set(law.windows) == {8, 16}
