from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest):
    """Every test writes into a home folder of its own; the slow ones share the converted embedded model."""
    monkeypatch.delenv("MEMKV_STORE_URL", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    if "keeps_home" not in request.keywords:
        monkeypatch.setenv("MEMKV_HOME", str(tmp_path_factory.mktemp("home")))


@pytest.fixture
def store_folder(tmp_path: Path) -> Path:
    return tmp_path / "store"
