"""How a cached key moves to another position: found out on the model at hand, not read off its configuration.

RoPE (arXiv 2104.09864) turns pairs of a key's numbers by angles that grow with the position, so a key moves by being
turned on by the difference. Which numbers are turned and how fast differs by model and by layer (partial and scaled
RoPE, one base for sliding layers and another for full ones, the rotary part of a latent), and some models do without.
So the same tokens are read at two places, and each slot gets the rotation that takes one reading to the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from memkv.continuation import LOOSE_TOLERANCE
from memkv.errors import UnsupportedModel
from memkv.model import HybridModel
from memkv.snapshot import LayerState

Move = Callable[[Tensor, int], Tensor]  # (entries BHTD, positions further on) -> entries BHTD
SLOTS = ("keys", "values")  # a latent layer keeps its rotary part among the values
TOKENS = 24
AS_TEXT = "Memories are brought back as text with this model."
FAR = 997  # positions between the two readings, where the model has as many
# Of the size of a slot's entries. Angles at position 997 are right to 6e-5 in the models' own fp32.
TOLERANCE = {torch.float64: 1e-3, torch.float32: 1e-3}


@dataclass(frozen=True)
class Rotation:
    """Turning pairs of the first numbers of an entry.

    Attributes:
        inv_freq: radians by which each pair is turned at every position (R / 2).
        interleaved: pairs are neighbours (GPT-J), else number i and number i + R / 2 (Llama).
    """

    inv_freq: Tensor
    interleaved: bool

    @property
    def width(self) -> int:
        """Numbers of an entry that turn."""
        return 2 * len(self.inv_freq)

    def __call__(self, entries_BHTD: Tensor, by: int) -> Tensor:
        """The entries `by` positions further on, computed in fp32."""
        turned, rest = entries_BHTD.float().split((self.width, entries_BHTD.shape[-1] - self.width), -1)
        angle = by * self.inv_freq.double()  # at 100,000 positions fp32 would be off by 4e-3
        cos, sin = angle.cos().float(), angle.sin().float()
        pair = (turned[..., ::2], turned[..., 1::2]) if self.interleaved else turned.chunk(2, -1)
        one, other = pair[0] * cos - pair[1] * sin, pair[1] * cos + pair[0] * sin
        joined = torch.stack((one, other), -1).flatten(-2) if self.interleaved else torch.cat((one, other), -1)
        return torch.cat((joined, rest), -1).to(entries_BHTD.dtype)


def stays(entries_BHTD: Tensor, by: int) -> Tensor:
    """The entries as they are: nothing in them depends on the position."""
    return entries_BHTD


def find_moves(model: HybridModel) -> dict[tuple[int, str], Move]:
    """(layer, slot) -> how its entries move, for every slot of attention.

    Raises:
        UnsupportedModel: the entries of a layer depend on the position in another way; the layers are named.
    """
    limit = model.max_tokens or FAR + TOKENS
    near, far = min(FAR, limit // 2), limit - TOKENS
    here, there = read_at(model, 0), read_at(model, near)
    turning = rotations(model)
    found: dict[tuple[int, str], Move] = {}
    for index, name in slots(here):
        before, after = here[index].tensors[name], there[index].tensors[name]
        candidates: list[Move] = [stays, *(each for each in turning if each.width <= before.shape[-1])]
        found[index, name] = min(candidates, key=lambda move: error(move(before, near), after))
    # Some scalings change with the length of what was read; at the far end they show. There the models' own angles
    # are off by up to 1e-2, so that the bound is loose.
    end = read_at(model, far)
    bound = TOLERANCE.get(model.dtype, LOOSE_TOLERANCE)
    wrong = [
        index
        for (index, name), move in found.items()
        if error(move(here[index].tensors[name], near), there[index].tensors[name]) > bound
        or error(move(here[index].tensors[name], far), end[index].tensors[name]) > LOOSE_TOLERANCE
    ]
    if wrong:
        raise UnsupportedModel(
            f"The cached keys of layers {sorted(set(wrong))} of {model.name} cannot be moved to other positions: no "
            "rotation takes them from one to the other",
            AS_TEXT,
        )
    return found


def read_at(model: HybridModel, position: int) -> tuple[LayerState, ...]:
    """Every layer's state after the same tokens, read alone from `position` on."""
    return model.read_alone(probe_tokens(model, TOKENS, seed=0), position)


def probe_tokens(model: HybridModel, count: int, seed: int) -> list[int]:
    """Tokens to try a model with: pseudo-random, the same every time."""
    vocab = model.hf.config.get_text_config(decoder=True).vocab_size
    found: list[int] = torch.randint(0, vocab, (count,), generator=torch.Generator().manual_seed(seed)).tolist()
    return found


def slots(layers: Sequence[LayerState]) -> list[tuple[int, str]]:
    """The slots of attention that hold entries."""
    return [(index, name) for index, layer in enumerate(layers) for name in SLOTS if name in layer.tensors]


def rotations(model: HybridModel) -> list[Rotation]:
    """All that the model's own rotary modules could do."""
    known: list[Tensor] = []
    for name, buffer in model.hf.named_buffers():
        if name.endswith("inv_freq") and not any(torch.equal(buffer, other) for other in known):
            known.append(buffer)
    return [Rotation(inv_freq, interleaved) for inv_freq in known for interleaved in (False, True)]


def error(one: Tensor, other: Tensor) -> float:
    """Size of the difference as a share of the size: in bf16 a single number can be off by 6% of the largest."""
    return float((one.float() - other.float()).norm() / other.float().norm().clamp_min(1e-12))
