"""Score many continuations after one cache: all branches of a tree of tokens in one forward pass.

A question and its options share a prefix, and questions share the conversation before them. Where a model's cache is
plain attention KV, the whole tree is read at once: every token attends to the conversation, to its own branch, and to
nothing else (tree attention, as in SpecInfer, arXiv 2305.09781). Other caches are read branch by branch, on forks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers.cache_utils import DynamicLayer

from memkv.errors import InvalidInput
from memkv.live import LiveCache
from memkv.model import PREFILL_PIECE, HybridModel

# Nats a token by which a packed pass may differ from a plain one; a mask that is ignored costs far more.
TOLERANCE = {torch.float32: 1e-3, torch.float16: 0.05, torch.bfloat16: 0.2}


@dataclass(frozen=True)
class Branch:
    """Token ids of a question, and of each answer to be scored after it."""

    stem: tuple[int, ...]
    leaves: tuple[tuple[int, ...], ...]

    @property
    def tokens(self) -> int:
        """Tokens to read."""
        return len(self.stem) + sum(len(leaf) for leaf in self.leaves)


def score(model: HybridModel, live: LiveCache, branches: Sequence[Branch]) -> list[list[float]]:
    """Log-likelihood (nats, summed over tokens) of each branch's leaves after `live`, which is left as it was.

    Raises:
        InvalidInput: an empty stem or leaf, or more tokens than the model has positions.
        FingerprintMismatch: the conversation was read under another adapter.
    """
    for branch in branches:
        if not branch.stem or not branch.leaves or not all(branch.leaves):
            raise InvalidInput("A question or an answer is empty", "Give at least one token each.")
    if not (packable(live) and model.once(packs_exactly)):
        return [one_by_one(model, live, branch) for branch in branches]
    return [sums for group in grouped(branches) for sums in in_one_pass(model, live, group)]


def one_by_one(model: HybridModel, live: LiveCache, branch: Branch) -> list[float]:
    """The stem on a fork, then each leaf on a fork of that."""
    fork = live.fork()
    model.extend(fork, branch.stem)
    return model.log_probs(fork, branch.leaves)


def packable(live: LiveCache) -> bool:
    """Whether every layer is plain attention KV of one length, so that one mask does for all."""
    layers = live.cache.layers
    held = {held_tokens(layer) for layer in layers if type(layer) is DynamicLayer}
    return all(type(layer) is DynamicLayer for layer in layers) and not live.held and len(held) == 1


def held_tokens(layer: DynamicLayer) -> int:
    """Tokens whose keys a plain attention layer holds; none before the first pass."""
    return 0 if layer.keys is None else layer.keys.shape[2]


def packs_exactly(model: HybridModel) -> bool:
    """Whether a model honours a tree mask: measured on a few tokens against forks. Ask with `model.once`."""
    live = model.new_cache()
    vocab = model.hf.config.get_text_config(decoder=True).vocab_size
    a, b, c, d, e = (number * vocab // 7 for number in range(1, 6))
    model.extend(live, [a, b, c])
    if not packable(live):
        return False
    tree = [Branch((d, a), ((e, b), (c, c))), Branch((b, e), ((a, d, d), (e, a)))]
    plain = [one_by_one(model, live, branch) for branch in tree]
    packed = in_one_pass(model, live, tree)
    differences = [abs(x - y) for p, q in zip(plain, packed, strict=True) for x, y in zip(p, q, strict=True)]
    # Not max(): NaN would get past it wherever it is not the first.
    return all(difference <= TOLERANCE[model.dtype] for difference in differences)


def grouped(branches: Sequence[Branch]) -> Iterator[list[Branch]]:
    """Branches in order, as many a pass as a piece of prefill holds."""
    group: list[Branch] = []
    for branch in branches:
        if group and sum(b.tokens for b in group) + branch.tokens > PREFILL_PIECE:
            yield group
            group = []
        group.append(branch)
    if group:
        yield group


@dataclass(frozen=True)
class Node:
    """One token of a packed tree. `sees` are the packed tokens before it on its branch, itself included."""

    token: int
    position: int
    sees: tuple[int, ...]


def in_one_pass(model: HybridModel, live: LiveCache, branches: Sequence[Branch]) -> list[list[float]]:
    """All branches packed into one sequence behind `live`, under a tree mask."""
    nodes: list[Node] = []
    asked: list[list[list[tuple[int, int]]]] = []  # branch, leaf -> (node whose logits predict, token predicted)

    def add(tokens: Sequence[int], sees: tuple[int, ...], position: int) -> tuple[int, ...]:
        for offset, token in enumerate(tokens):
            sees = (*sees, len(nodes))
            nodes.append(Node(token, position + offset, sees))
        return sees

    for branch in branches:
        stem = add(branch.stem, (), len(live))
        leaves = []
        for leaf in branch.leaves:
            # The last token of a leaf predicts nothing that is asked, so it is not read.
            path = add(leaf[:-1], stem, len(live) + len(branch.stem))
            leaves.append(list(zip(path[len(stem) - 1 :], leaf, strict=True)))
        asked.append(leaves)
    rows = sorted({node for leaves in asked for leaf in leaves for node, _ in leaf})
    logp_RV = torch.log_softmax(model.packed_logits(live, *packed(model, live, nodes), rows).float(), -1)
    row_of = {node: row for row, node in enumerate(rows)}
    return [[sum(logp_RV[row_of[node], token].item() for node, token in leaf) for leaf in leaves] for leaves in asked]


def packed(model: HybridModel, live: LiveCache, nodes: Sequence[Node]) -> tuple[list[int], list[int], Tensor]:
    """Token ids, positions and additive mask (1, 1, packed, held + packed) of a tree behind `live`."""
    first = live.cache.layers[0]
    assert isinstance(first, DynamicLayer)  # `packable` was asked
    held = held_tokens(first)
    mask = torch.full((1, 1, len(nodes), held + len(nodes)), torch.finfo(model.dtype).min, dtype=model.dtype)
    mask[..., :held] = 0
    for index, node in enumerate(nodes):
        mask[0, 0, index, [held + seen for seen in node.sees]] = 0
    return [node.token for node in nodes], [node.position for node in nodes], mask.to(model.device)
