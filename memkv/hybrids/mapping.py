"""A Llama-family checkpoint as a Bamba one: the same model under other names, with a mixer wherever one is wanted.

Bamba (https://huggingface.co/blog/bamba) is transformers' plain hybrid: Llama's layers, of which some have a Mamba-2
mixer (arXiv 2405.21060) where the others have attention. With attention in all layers it computes what Llama does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from transformers import BambaConfig, BambaForCausalLM, PreTrainedConfig, PreTrainedModel

from memkv.errors import ConfigError, UnsupportedModel

RENAMED = {
    ".mlp.": ".feed_forward.",
    ".post_attention_layernorm.": ".pre_ff_layernorm.",
    "model.norm.": "model.final_layernorm.",
}
SAME = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "hidden_act",
    "num_key_value_heads", "max_position_embeddings", "rms_norm_eps", "initializer_range", "tie_word_embeddings",
    "attention_bias", "mlp_bias", "pad_token_id", "bos_token_id", "eos_token_id",
)  # fmt: skip
CONVOLUTION, CHUNK = 4, 64  # tokens; a smaller chunk of the scan than Bamba's own, which is faster on a CPU
NEXT = "Name the folder of a Llama-family model: model_type llama, or mistral without a sliding window."


def bamba_config(base: PreTrainedConfig, attention: Sequence[int]) -> BambaConfig:
    """The configuration of a hybrid with attention in some layers; the others get one state group a head.

    Args:
        base: of the model that is converted.
        attention: indices of the layers that keep it, from 0.

    Raises:
        UnsupportedModel: a part of the base has no place in Bamba; it is named.
        ConfigError: an index that is no layer, or one twice.
    """
    check_maps(base)
    layers, heads = base.num_hidden_layers, base.num_attention_heads
    wrong = [index for index in attention if not 0 <= index < layers]
    if wrong or len(set(attention)) != len(attention):
        raise ConfigError(
            f"Attention cannot stay in layers {list(attention)}: {f'{wrong} are none' if wrong else 'some come twice'}",
            f"Name layers from 0 to {layers - 1}, each once.",
        )
    width = head_width(base)
    fields = {
        **{name: getattr(base, name) for name in SAME},
        "head_dim": width,
        "rope_parameters": {"partial_rotary_factor": 1.0, **base.rope_parameters},
        "attn_layer_indices": sorted(attention),
        "mamba_n_heads": heads,
        "mamba_d_head": width,
        "mamba_n_groups": heads,
        "mamba_d_state": width,
        "mamba_d_conv": CONVOLUTION,
        "mamba_expand": 1,
        "mamba_chunk_size": CHUNK,
        "mamba_proj_bias": True,
        "num_logits_to_keep": None,
    }
    return BambaConfig(**fields)


def check_maps(base: PreTrainedConfig) -> None:
    """Refuse what Bamba has no place for.

    Raises:
        UnsupportedModel: the part is named.
    """
    if base.model_type not in ("llama", "mistral"):
        raise UnsupportedModel(f"The layers of model_type {base.model_type!r} do not map onto Bamba's", NEXT)
    if getattr(base, "sliding_window", None):
        raise UnsupportedModel(f"Bamba's attention has no sliding window, and this one of {base.sliding_window}", NEXT)
    if base.num_attention_heads * head_width(base) != base.hidden_size:
        raise UnsupportedModel(
            f"{base.num_attention_heads} heads of {head_width(base)} are not the width of {base.hidden_size}: Bamba's "
            "mixers are a whole number of times as wide as the model",
            NEXT,
        )


def head_width(base: PreTrainedConfig) -> int:
    """Numbers of one head."""
    width = getattr(base, "head_dim", None)
    return int(width or base.hidden_size // base.num_attention_heads)


def renamed(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Llama's weights under Bamba's names."""
    found = {}
    for name, tensor in weights.items():
        for old, new in RENAMED.items():
            name = name.replace(old, new)
        found[name] = tensor
    return found


def to_bamba(base: PreTrainedModel, attention: Sequence[int] | None = None) -> BambaForCausalLM:
    """A hybrid with the base's weights; mixers have those that Bamba begins with. Raises as `bamba_config`.

    Args:
        base: the model; it is left as it is.
        attention: layers that keep it; None keeps it in all, which computes what the base does.
    """
    kept = range(base.config.num_hidden_layers) if attention is None else attention
    config = bamba_config(base.config, list(kept))
    dtype = next(base.parameters()).dtype
    hybrid: Any = BambaForCausalLM(config)
    hybrid = hybrid.to(dtype)
    given = renamed(base.state_dict())
    mixers = {f"model.layers.{n}.self_attn." for n in range(config.num_hidden_layers) if n not in set(kept)}
    taken = {name: each for name, each in given.items() if not any(name.startswith(mixer) for mixer in mixers)}
    report = hybrid.load_state_dict(taken, strict=False)
    missing = [name for name in report.missing_keys if ".mamba." not in name]
    if missing or report.unexpected_keys:
        part = (*missing, *report.unexpected_keys)[0]
        raise UnsupportedModel(f"The weight {part} has no counterpart between this model and Bamba", NEXT)
    if base.generation_config is not None:
        hybrid.generation_config = base.generation_config
    made: BambaForCausalLM = hybrid.to(next(base.parameters()).device).eval()
    return made
