"""The published figures that memkv checks, each beside the measurement that answers it.

A claim's KB and GB are read as powers of 1,000 or of 1,024, whichever is nearer to what was measured: authors mean
either. KiB is KiB.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from memkv.reference.measured import COMPRESSED, Measured, measure_config, reference_config

K128, K256 = 128 * 1024, 256 * 1024
PLAIN, ABOUT = 0.05, 0.10  # tolerance of a figure that is given as such, and of one that says "about"
READINGS = {"KB": (10**3, 2**10), "KiB": (2**10,), "GB": (10**9, 2**30)}

Models = Mapping[str, Measured]


@dataclass(frozen=True)
class Check:
    """One claim, its number and ours.

    `unit` is KB, KiB, GB or words; `tolerance` is relative. `at_most` marks a bound instead of a value. Without a
    `measured` number `why` says what is missing, and the claim is not reproducible here.
    """

    system: str
    claim: str
    claimed: float
    unit: str
    measured: float | None
    why: str
    tolerance: float = PLAIN
    at_most: bool = False

    @property
    def expected(self) -> float:
        """The claimed number in bytes, or as it stands for a unit that is no size."""
        readings = [self.claimed * unit for unit in READINGS.get(self.unit, (1,))]
        return min(readings, key=lambda reading: abs(reading - (self.measured or 0.0)))

    @property
    def verdict(self) -> str:
        """`holds`, `off by 3.75x`, or `not reproducible because ...`."""
        if self.measured is None:
            return f"not reproducible because {self.why[0].lower()}{self.why[1:]}"
        if self.at_most and self.measured <= self.expected:
            return "holds"
        if self.expected == 0 or self.measured == 0:
            return "holds" if self.measured == self.expected else "wrong"
        factor = max(self.measured / self.expected, self.expected / self.measured)
        return "holds" if factor <= 1 + self.tolerance else f"off by {_factor(factor)}x"


def _factor(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.3g}"


# Architectures that only comparisons need, what a claim says it is smaller than: (configuration, changed fields).
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "jamba-52b, all attention": ("jamba-52b", {"attn_layer_period": 1, "attn_layer_offset": 0}),
    "recurrentgemma-2b, all global": (
        "recurrentgemma-2b",
        {"block_types": ["attention"], "attention_window_size": 2**30},
    ),
    "deepseek-v2, heads cached whole": (
        "llama-3-70b",
        {"num_hidden_layers": 60, "num_attention_heads": 128, "num_key_value_heads": 128, "head_dim": 128},
    ),
    "gemma-3-27b, all global": ("gemma-3-27b", {"layer_types": ["full_attention"] * 62}),
}


def measure_named_model(name: str) -> Measured:
    """A shipped configuration or one of `VARIANTS`, measured."""
    base, changes = VARIANTS.get(name, (name, {}))
    config, source = reference_config(base, **changes)
    return measure_config(name, config, source)


def checks(models: Models) -> list[Check]:
    """Every claim of FIELD.md, in its order, answered from `models` (by reference name or variant)."""
    return [
        *_gpt2_and_llama(models),
        *_deepseek(models),
        *_gemma(models),
        *_recurrent(models),
        *_jamba(models),
        *_griffin(models),
        *_headline(models),
        *_codecs(models),
    ]


def _gpt2_and_llama(models: Models) -> list[Check]:
    gpt2, small, large = models["gpt2-xl"], models["llama-3-8b"], models["llama-3-70b"]
    return [
        Check("GPT-2 XL", "300 KiB a token", 300, "KiB", gpt2.profile.per_token, "48 layers of 25 heads, K and V."),
        Check(
            "GPT-2 XL",
            "a 4,000-token conversation takes about 1.2 GB",
            1.2,
            "GB",
            gpt2.profile.at(4000),
            f"The bytes are right, but its positions end at {gpt2.config.max_position_embeddings:,} tokens.",
            ABOUT,
        ),
        Check("Llama 3 8B", "128 KiB a token", 128, "KiB", small.profile.per_token, "8 KV heads for 32 query heads."),
        Check("Llama 3 70B", "320 KB a token at FP16", 320, "KB", large.profile.per_token, "80 layers, 8 KV heads."),
        Check("Llama 3 70B", "40 GB at 128K tokens", 40, "GB", large.profile.at(K128), "One sequence."),
        Check(
            "Llama 3 70B",
            "FP8 about 150 KB a token",
            150,
            "KB",
            large.quantized_per_token("fp8"),
            "Half of 320 KB is 160 KB; scales add almost nothing.",
            ABOUT,
        ),
        Check(
            "Llama 3 70B",
            "INT4 about 80 KB a token",
            80,
            "KB",
            large.quantized_per_token("int4"),
            "A quarter of 320 KB leaves no room for scales and zero points.",
            ABOUT,
        ),
    ]


def _deepseek(models: Models) -> list[Check]:
    v2, v3, dense = models["deepseek-v2"], models["deepseek-v3"], models["deepseek-67b"]
    whole = models["deepseek-v2, heads cached whole"].profile.per_token / v2.profile.per_token
    return [
        Check(
            "DeepSeek-V2",
            "MLA, latent 512: 1/16 of the cache",
            16,
            "times less",
            dense.profile.per_token / v2.profile.per_token,
            f"Against DeepSeek 67B, as its paper compares; against its own heads cached whole it is {whole:.0f} times. "
            "The paper's 93.3% (1/15) also counts 6-bit quantization.",
        ),
        Check(
            "DeepSeek-V2",
            "18 KB a token equivalent",
            18,
            "KB",
            v2.profile.per_token,
            f"At bf16. With INT4 it is {v2.quantized_per_token('int4') / 1024:.1f} KiB.",
        ),
        Check("DeepSeek-V3", "68.6 KiB a token", 68.6, "KiB", v3.profile.per_token, "61 layers of 512 + 64 numbers."),
    ]


def _gemma(models: Models) -> list[Check]:
    gemma = models["gemma-3-27b"]
    local, glob = gemma.layers_with("window"), gemma.layers_with("attention")
    saved = models["gemma-3-27b, all global"].profile.at(K128) / gemma.profile.at(K128)
    return [
        Check(
            "Gemma 3 27B",
            "5 local layers to 1 global",
            5,
            "local to 1 global",
            local / glob,
            f"{local} local and {glob} global layers; at 128K tokens {saved:.1f} times less than all global.",
        ),
        Check(
            "Gemma 3 27B",
            "local window 1,024",
            1024,
            "tokens",
            max(gemma.profile.windows),
            "transformers keeps window - 1 entries; the token being read is the last one.",
        ),
    ]


def _recurrent(models: Models) -> list[Check]:
    mamba, mamba2, rwkv = models["mamba-2.8b"], models["mamba2-codestral-7b"], models["rwkv-4-7b"]
    grows = mamba.profile.per_token + mamba2.profile.per_token
    hidden, layers = rwkv.config.hidden_size, rwkv.config.num_hidden_layers
    return [
        Check("Mamba, Mamba-2", "no KV, a fixed state", 0, "B a token", grows, "No byte is added by a token."),
        Check(
            "Mamba",
            "a state of about 16 x hidden",
            16 * mamba.config.hidden_size,
            "numbers",
            mamba.state_numbers,
            f"Mamba 2.8B, {mamba.config.num_hidden_layers} layers: the claim counts one of them, without the "
            "twofold width inside and the convolution's inputs.",
            ABOUT,
        ),
        Check(
            "Mamba-2",
            "64 KB in total at 4K hidden",
            64,
            "KB",
            mamba2.profile.fixed,
            f"{mamba2.config.num_hidden_layers} layers of {mamba2.config.num_heads} heads x "
            f"{mamba2.config.head_dim} x {mamba2.config.state_size} in fp32, and the convolution's inputs.",
        ),
        Check("RWKV", "a fixed state", 0, "B a token", rwkv.profile.per_token, "No byte is added by a token."),
        Check(
            "RWKV",
            "one state vector a layer",
            1,
            "a layer",
            rwkv.state_numbers / (hidden * layers),
            "RWKV-4 keeps two token-shift inputs, numerator, denominator and running maximum.",
        ),
    ]


def _jamba(models: Models) -> list[Check]:
    jamba, attention = models["jamba-52b"], models["jamba-52b, all attention"]
    mamba, layers = jamba.layers_with("recurrent"), len(jamba.profile.layers)
    saved = 100 * (1 - jamba.profile.at(K256) / attention.profile.at(K256))
    cache = jamba.profile.at(K256)
    return [
        Check("Jamba 52B", "37% Mamba", 37, "% of layers", 100 * mamba / layers, f"{mamba} of {layers} layers."),
        Check(
            "Jamba 52B",
            "about 60% less KV",
            60,
            "% less",
            saved,
            "At 256K tokens, state included, against the same model with attention in every layer.",
            ABOUT,
        ),
        Check(
            "Jamba 52B",
            "256K contexts on one 80 GB GPU",
            80,
            "GB",
            jamba.weights + cache,
            f"Weights of {jamba.weights / 1e9:.0f} GB at bf16 and {cache / 1e9:.1f} GB of cache. With 8-bit weights "
            f"{(jamba.weights / 2 + cache) / 1e9:.0f} GB would fit. Activations were not measured.",
            at_most=True,
        ),
    ]


def _griffin(models: Models) -> list[Check]:
    griffin, whole = models["recurrentgemma-2b"].profile, models["recurrentgemma-2b, all global"].profile
    even = next(n for n in range(1, K128) if whole.at(n) >= 2 * griffin.at(n))
    return [
        Check(
            "Griffin (RecurrentGemma)",
            "about 2x less memory",
            2,
            "times less",
            whole.at(4096) / griffin.at(4096),
            f"At 4,096 tokens, against the same model all global attention. The factor grows: 2 at {even} tokens, "
            f"{whole.at(K128) / griffin.at(K128):.0f} at 128K.",
            ABOUT,
        )
    ]


def _headline(models: Models) -> list[Check]:
    gpt2, v3 = models["gpt2-xl"], models["deepseek-v3"]
    cache = v3.profile.at(K128)
    return [
        Check("headline", "from about 300 KB a token", 300, "KB", gpt2.profile.per_token, "GPT-2 XL.", ABOUT),
        Check("headline", "to 69 KB a token", 69, "KB", v3.profile.per_token, "DeepSeek-V3."),
        Check("headline", "69 KB x 128K = 9 GB", 9, "GB", cache, "One sequence of DeepSeek-V3."),
        Check("headline", "fits a 24 GB card: the cache", 24, "GB", cache, "The cache alone.", at_most=True),
        Check(
            "headline",
            "fits a 24 GB card: with the model",
            24,
            "GB",
            cache + v3.weights,
            f"The model that has this cache weighs {v3.weights / 1e9:,.0f} GB at bf16.",
            at_most=True,
        ),
    ]


def _codecs(models: Models) -> list[Check]:
    llama = models["llama-3-8b"]
    plain = sum(llama.profile.by_kind_at(K128).get(kind, 0) for kind in COMPRESSED)
    return [
        Check(
            "FP8 cache",
            "half",
            0.5,
            "of bf16",
            llama.codecs["fp8"].at(K128) / plain,
            "Llama 3 8B at 128K tokens, scales counted.",
        ),
        Check(
            "INT4 cache",
            "a quarter",
            0.25,
            "of bf16",
            llama.codecs["int4"].at(K128) / plain,
            "Llama 3 8B at 128K tokens: scales, zero points and the newest tokens in full precision are counted.",
        ),
        Check(
            "FP8 and INT4 caches",
            "drift on long sequences",
            0,
            "",
            None,
            "Drift needs real weights: the codec table, not this one, measures it.",
        ),
    ]


def eviction_checks(factors: Mapping[tuple[str, float], float]) -> list[Check]:
    """H2O and SnapKV, from what `eviction_factors` measured."""
    names = {"h2o": "H2O", "snapkv": "SnapKV"}
    return [
        Check(
            names[method],
            f"eviction, 2-5x: asked for {asked:g}x",
            asked,
            "times less",
            factor,
            "The factor is a knob: it holds by choice of budget. What it costs in quality is in the codec table.",
        )
        for (method, asked), factor in factors.items()
    ]
