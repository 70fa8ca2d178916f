"""All branches in one pass give what reading them one by one gives."""

from __future__ import annotations

import math

import pytest
import torch
from tiny_models import tiny

from memkv import HybridModel
from memkv.compress import codec
from memkv.errors import InvalidInput
from memkv.live import LiveCache
from memkv.scoring import Branch, grouped, one_by_one, packable, packs_exactly, score

TREE = [
    Branch((5, 9, 4), ((7, 8), (7, 9, 3), (2,))),
    Branch((6,), ((1, 2, 3, 4), (9, 9))),
    Branch((3, 3, 8, 1, 2), ((4,), (5, 6), (6, 5), (8, 8, 8))),
]


def read(model: HybridModel, count: int = 40):
    live = model.new_cache()
    model.extend(live, [(7 * i) % 50 + 1 for i in range(count)])
    return live


@pytest.mark.parametrize("name", ["llama", "gpt2", "deepseek_v3"])
def test_packed_branches_score_as_if_each_was_read_alone(name: str) -> None:
    model = HybridModel(tiny(name))
    live = read(model)
    assert packs_exactly(model)
    assert packable(live)
    before, size = list(live.token_ids), live.size()
    packed = score(model, live, TREE)
    for branch, sums in zip(TREE, packed, strict=True):
        assert sums == pytest.approx(one_by_one(model, live, branch), abs=1e-4)
    assert (live.token_ids, live.size()) == (before, size)


@pytest.mark.parametrize("name", ["mamba2", "bamba", "gemma3"])
def test_other_caches_are_read_branch_by_branch(name: str) -> None:
    model = HybridModel(tiny(name))
    live = read(model)
    assert not packable(live)
    for branch, sums in zip(TREE, score(model, live, TREE), strict=True):
        assert sums == one_by_one(model, live, branch)


def test_positions_count_on_after_an_eviction() -> None:
    model = HybridModel(tiny("llama"))
    full = model.capture(read(model, 60))
    live = model.restore(codec("streaming:0.5").compress(full, None))
    assert packable(live)
    assert live.cache.layers[0].keys.shape[2] < len(live)
    for branch, sums in zip(TREE, score(model, live, TREE), strict=True):
        assert sums == pytest.approx(one_by_one(model, live, branch), abs=1e-4)


def test_a_model_that_ignores_the_mask_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    model = HybridModel(tiny("llama"))
    forward = model.hf.forward
    monkeypatch.setattr(model.hf, "forward", lambda *a, attention_mask=None, **k: forward(*a, **k))
    assert not packs_exactly(model)
    live = read(model)
    assert score(model, live, TREE) == [one_by_one(model, live, branch) for branch in TREE]


def test_an_empty_conversation_is_a_context_too() -> None:
    model = HybridModel(tiny("llama"))
    live = model.new_cache()
    for branch, sums in zip(TREE, score(model, live, TREE), strict=True):
        assert sums == pytest.approx(one_by_one(model, live, branch), abs=1e-4)
    assert len(live) == 0


def test_long_trees_are_split_into_passes() -> None:
    branches = [Branch(tuple(range(1, 301)), ((1,), (2,)))] * 7
    groups = list(grouped(branches))
    assert sum(map(len, groups)) == 7
    assert all(sum(branch.tokens for branch in group) <= 1024 for group in groups)


@pytest.mark.parametrize("branch", [Branch((), ((1,),)), Branch((1,), ()), Branch((1,), ((2,), ()))])
def test_empty_questions_and_answers_are_refused(branch: Branch) -> None:
    model = HybridModel(tiny("llama"))
    with pytest.raises(InvalidInput, match="at least one token"):
        score(model, read(model), [branch])


def test_a_tree_beyond_the_models_positions_is_refused() -> None:
    model = HybridModel(tiny("llama"))
    limit = model.max_tokens
    assert limit is not None
    live = read(model)
    with pytest.raises(InvalidInput, match="positions"):
        score(model, live, [Branch(tuple([1] * limit), ((1, 2),))])
    assert torch.isfinite(model.extend(live, [1])).all()


def test_a_pass_that_gives_no_numbers_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def last_is_nan(model: HybridModel, live: LiveCache, branches: list[Branch]) -> list[list[float]]:
        return [[*one_by_one(model, live, branch)[:-1], math.nan] for branch in branches]

    monkeypatch.setattr("memkv.scoring.in_one_pass", last_is_nan)
    assert not packs_exactly(HybridModel(tiny("llama")))
