"""Clients of servers with a tiny model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from serving import ADA, TOKENS, application
from tiny_chat import tiny_chat

from memkv.model import HybridModel


@pytest.fixture(scope="module")
def llama() -> HybridModel:
    model = tiny_chat("llama")
    model.name = "tiny"
    return model


@pytest.fixture
def client(llama: HybridModel, tmp_path: Path) -> Iterator[TestClient]:
    """Of a server without tokens."""
    with application(llama, tmp_path / "store") as app:
        with TestClient(app, base_url="http://127.0.0.1:8765", raise_server_exceptions=False) as client:
            yield client


@pytest.fixture
def ada(llama: HybridModel, tmp_path: Path) -> Iterator[TestClient]:
    """Of a server with tokens, as ada."""
    with application(llama, tmp_path / "store", TOKENS) as app:
        with TestClient(app, raise_server_exceptions=False, headers={"Authorization": f"Bearer {ADA}"}) as client:
            yield client
