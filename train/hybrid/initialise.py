"""Mamba-2 mixers that begin as the attention that they take the place of (arXiv 2408.15237).

A mixer is linear attention with a decay: its state is what keys and values write, `S <- a S + x B`, and its output is
what the query reads, `y = S C`. So the values' weights become those of x, the keys' those of B and the queries' those
of C; the convolution begins as the identity, the gate as a constant, and each head forgets over about twice the
distance that the attention's head looks back, so that it does not have to learn how far.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

SHORTEST, LONGEST = 2.0, 4096.0  # tokens after which a head has forgotten all but 1/e
REMEMBERS = 2.0  # times the distance at which the attention's head looks back
GATE = 2.0  # so that the gate is open and has a slope
ONE = math.log(math.e - 1)  # softplus of it is 1


@torch.no_grad()
def from_attention(mixer: nn.Module, attention: nn.Module, size_E: Tensor, back_H: Tensor) -> None:
    """Set a Bamba mixer's weights from a Llama attention's.

    Args:
        mixer: BambaMixer with one state group a head.
        attention: with grouped keys and values, or not.
        size_E: root mean square of what the attention gives before its output projection, for each number.
        back_H: tokens that each head looks back, in the (geometric) mean.
    """
    heads, width = mixer.num_heads, mixer.head_dim
    shared = heads * width // attention.k_proj.weight.shape[0]

    def of_heads(weight: Tensor) -> Tensor:
        """Weights of keys or values for every head of the queries."""
        return weight.view(-1, width, weight.shape[-1]).repeat_interleave(shared, 0).reshape(heads * width, -1)

    values, keys = of_heads(attention.v_proj.weight), of_heads(attention.k_proj.weight)
    queries = attention.q_proj.weight
    gate = torch.zeros_like(queries)
    steps = torch.zeros(heads, queries.shape[-1])
    mixer.in_proj.weight.copy_(torch.cat([gate, values, keys, queries, steps.to(queries)]))
    mixer.in_proj.bias.zero_()
    mixer.in_proj.bias[: heads * width] = GATE
    mixer.conv1d.weight.zero_()
    mixer.conv1d.weight[:, 0, -1] = 1.0
    mixer.conv1d.bias.zero_()
    mixer.dt_bias.fill_(ONE)
    mixer.A_log.copy_(-torch.log((REMEMBERS * back_H).clamp(SHORTEST, LONGEST)))
    mixer.D.zero_()
    mixer.norm.weight.copy_(size_E)
    mixer.out_proj.weight.copy_(attention.o_proj.weight)
    mixer.out_proj.bias.zero_()
