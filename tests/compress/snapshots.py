"""Hand-made snapshots for codec tests."""

import torch

from memkv.snapshot import CacheSnapshot, Fingerprint, LayerState

FINGERPRINT = Fingerprint("w", "none", "t", "c", "bfloat16", "r", "l")


def layer(kind, generator, tokens, heads, channels, dtype):
    def random(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float32).to(dtype)

    tensors, meta = {}, {}
    if kind != "linear":
        length = min(tokens, 8) if kind == "sliding" else tokens
        wide = (1, 12, 4) if kind == "latent" else (heads, channels, channels)
        tensors = {"keys": random(1, wide[0], length, wide[1]), "values": random(1, wide[0], length, wide[2])}
    if kind in ("linear", "hybrid"):
        tensors["recurrent.0"] = random(1, 4, 8, 8).float()
        meta["has_previous_state"] = [True]
    return LayerState(kind, tokens, tensors, meta)


def snapshot(*, layers=2, tokens=100, heads=2, channels=16, dtype=torch.bfloat16, kinds=None):
    generator = torch.Generator().manual_seed(0)
    kinds = kinds or ("full",) * layers
    states = tuple(layer(kind, generator, tokens, heads, channels, dtype) for kind in kinds)
    return CacheSnapshot(states, tuple(i % 100 for i in range(tokens)), FINGERPRINT)
