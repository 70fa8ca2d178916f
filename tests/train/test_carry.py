"""An adapter of a base goes onto a hybrid of it: what it adds to an attention is added to the mixer that was one."""

from __future__ import annotations

import copy

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from tiny_chat import tiny_chat
from torch import nn
from transformers import AutoModelForCausalLM

from memkv import HybridModel
from memkv.compaction.origin import check_origin
from memkv.hybrids.mapping import bamba_config, to_bamba
from train.carry import main
from train.hybrid.initialise import from_attention
from train.hybrid.match import put_in

KEPT = 1  # the layer with attention


def hybrid_of(hf):
    """A hybrid whose mixers are as attention begins them."""
    from transformers.models.bamba.modeling_bamba import BambaMixer

    config = bamba_config(hf.config, [KEPT])
    mixers = nn.ModuleList(BambaMixer(config, layer_idx=index) for index in range(config.num_hidden_layers))
    for mixer, layer in zip(mixers, hf.model.layers, strict=True):
        from_attention(mixer, layer.self_attn, torch.ones(hf.config.hidden_size), torch.full((mixer.num_heads,), 9.0))
    made = to_bamba(hf, [KEPT])
    put_in(made, mixers)
    return made


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    place = tmp_path_factory.mktemp("carry")
    model = tiny_chat("llama")
    hybrid_of(model.hf).save_pretrained(place / "hybrid")
    model.tokenizer.save_pretrained(place / "hybrid")
    model.hf.save_pretrained(place / "base")
    model.tokenizer.save_pretrained(place / "base")
    torch.manual_seed(0)
    adapted = get_peft_model(
        copy.deepcopy(model.hf), LoraConfig(r=2, lora_alpha=8, target_modules="all-linear", init_lora_weights=False)
    )
    adapted.save_pretrained(str(place / "adapter"))
    main([str(place / "adapter"), "--onto", str(place / "hybrid"), "--out", str(place / "carried")])
    return place


def test_it_is_what_the_hybrid_of_the_adapted_base_would_be(folders):
    base = AutoModelForCausalLM.from_pretrained(folders / "base", dtype=torch.float32)
    wanted = hybrid_of(PeftModel.from_pretrained(base, folders / "adapter").merge_and_unload()).state_dict()
    hybrid = AutoModelForCausalLM.from_pretrained(folders / "hybrid", dtype=torch.float32)
    got = PeftModel.from_pretrained(hybrid, folders / "carried").merge_and_unload().state_dict()
    assert wanted.keys() == got.keys()
    for name, tensor in wanted.items():
        torch.testing.assert_close(got[name], tensor, msg=name)


def test_it_is_known_to_be_of_that_hybrid(folders):
    check_origin(folders / "carried", HybridModel.from_pretrained(folders / "hybrid"))


def test_what_cannot_be_carried_is_named(folders, tmp_path, capsys):
    out = ["--out", str(tmp_path / "out")]
    for adapter, onto, words in (
        ("nothing", "hybrid", "No adapter to read"),
        ("adapter", "base", "is a llama"),
        ("adapter", "none", "ModelUnavailable"),
    ):
        with pytest.raises(SystemExit):
            main([str(folders / adapter), "--onto", str(folders / onto), *out])
        assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
