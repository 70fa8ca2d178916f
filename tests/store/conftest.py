"""A store in a fresh folder, and a look at the raw bytes of all its files."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from memkv.store import MemoryStore, NewEvent, NewMemory, SessionRecord, TenantStore


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(folder: Path) -> Iterator[MemoryStore]:
    with MemoryStore.open(folder) as opened:
        yield opened


@pytest.fixture
def ada(store: MemoryStore) -> TenantStore:
    return store.tenant("ada")


class Helpers:
    """What several test files do with a store."""

    @staticmethod
    def blob(seed: int = 0, size: int = 100_000) -> bytes:
        return random.Random(seed).randbytes(size)

    @staticmethod
    def turn(tenant: TenantStore, name: str, text: str = "hello", blob: bytes | None = b"kv") -> SessionRecord:
        """One commit that adds `text` to the session and its context, making the session first if need be."""
        record = tenant.session(name) if tenant.exists(name) else tenant.create_session(name, {"model": "tiny"})
        return tenant.commit(
            name,
            record.head,
            memories=[NewMemory(text, role="user")],
            events=[NewEvent("turn", {"memory": record.next_n})],
            context=(*record.context, record.next_n),
            tokens=text.encode("utf-32-le"),
            fingerprint={"weights": "w"},
            blob=None if blob is None else [blob],
        )

    @staticmethod
    def files_with(folder: Path, needle: bytes) -> list[str]:
        """Every file below `folder` that holds the bytes anywhere."""
        return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and needle in p.read_bytes())


@pytest.fixture
def helpers() -> type[Helpers]:
    return Helpers
