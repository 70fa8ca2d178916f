"""A Llama-family model under Bamba's names computes the same, and what has no place there is named."""

from __future__ import annotations

import pytest
import torch
from tiny_models import VOCAB, tiny, tiny_config
from transformers import AutoModelForCausalLM

from memkv import HybridModel
from memkv.errors import ConfigError, UnsupportedModel
from memkv.hybrids.mapping import bamba_config, to_bamba

IDS = torch.randint(3, VOCAB, (2, 40), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("tied", [True, False])
def test_with_attention_in_every_layer_it_computes_what_the_base_does(tied):
    base = tiny("llama", tie_word_embeddings=tied)
    with torch.no_grad():
        assert torch.equal(to_bamba(base)(IDS).logits, base(IDS).logits)


def test_layers_without_attention_get_mixers_and_the_rest_stays(tmp_path):
    base = tiny("llama")
    hybrid = to_bamba(base, [1])
    assert hybrid.config.layers_block_type == ["linear_attention", "full_attention", "linear_attention"]
    assert torch.equal(hybrid.model.layers[1].self_attn.q_proj.weight, base.model.layers[1].self_attn.q_proj.weight)
    hybrid.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    with torch.no_grad():
        assert type(again) is type(hybrid) and torch.allclose(again(IDS).logits, hybrid(IDS).logits, atol=1e-6)


def test_the_cache_grows_by_the_kept_layers_alone():
    base, hybrid = HybridModel(tiny("llama"), None), HybridModel(to_bamba(tiny("llama"), [1]), None)
    assert hybrid.profile.at(200) - hybrid.profile.at(100) == (base.profile.at(200) - base.profile.at(100)) // 3


@pytest.mark.parametrize("kept", [[3], [-1], [1, 1]])
def test_indices_that_are_no_layers_are_named(kept):
    with pytest.raises(ConfigError, match="from 0 to 2, each once"):
        bamba_config(tiny_config("llama"), kept)


def test_a_part_that_does_not_map_is_named():
    with pytest.raises(UnsupportedModel, match="gpt2"):
        to_bamba(tiny("gpt2"))
    with pytest.raises(UnsupportedModel, match="width of 32"):
        bamba_config(tiny_config("llama", head_dim=16), [0])
