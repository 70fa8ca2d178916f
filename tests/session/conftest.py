"""A tiny model that can chat, and somebody's part of a store."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tiny_chat import tiny_chat

from memkv.model import HybridModel
from memkv.store import MemoryStore, TenantStore


@pytest.fixture(scope="module")
def llama() -> HybridModel:
    return tiny_chat("llama")


@pytest.fixture
def tenant(store_folder) -> Iterator[TenantStore]:
    with MemoryStore.open(store_folder) as store:
        yield store.tenant("ada")
