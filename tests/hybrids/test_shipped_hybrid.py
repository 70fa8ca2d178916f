"""The hybrid that comes with memkv: put together once, offline, from mixers that belong to the embedded model."""

from __future__ import annotations

import pytest

from memkv.errors import ModelUnavailable
from memkv.hybrids.shipped import hybrid_folder


def test_without_mixers_the_error_says_how_to_get_them(tmp_path):
    with pytest.raises(ModelUnavailable, match="train.hybridize"):
        hybrid_folder(weights=tmp_path)
