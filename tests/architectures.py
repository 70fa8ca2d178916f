"""The architectures that memkv names."""

NAMED = (
    "gpt2", "llama", "gemma3", "deepseek_v3", "mamba2", "bamba", "jamba", "granitemoehybrid", "qwen3_next", "lfm2",
    "recurrent_gemma", "falcon_h1", "zamba2",
)  # fmt: skip
# Named nowhere in memkv: they should simply work.
OTHERS = ("mamba",)
