"""Segments in a store of their own: each is read, checked and decoded anew, as memkv does it in a session."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

from memkv.compress import decompress
from memkv.snapshot import CacheSnapshot
from memkv.snapshot_file import read_snapshot, to_buffers
from memkv.splice import Segment
from memkv.splice.segment import unpacked
from memkv.store import MemoryStore, NewMemory

SESSION = "shelf"


class Shelf:
    """Packed segments by number from 0; the files go with the shelf.

    Args:
        packed: the segments, as `Segment.packed` and a codec made them.
    """

    def __init__(self, packed: Sequence[CacheSnapshot]) -> None:
        self._folder = TemporaryDirectory(prefix="memkv-eval-")
        self._tenant = MemoryStore.open(Path(self._folder.name) / "store").tenant("eval")
        record = self._tenant.create_session(SESSION)
        self._tenant.commit(
            SESSION, record.head, memories=[NewMemory("said", role="user") for _ in packed], context=(), tokens=b""
        )
        for number, each in enumerate(packed, 1):
            self._tenant.keep_segment(SESSION, number, number, 1, to_buffers(each), asdict(each.fingerprint))

    @property
    def nbytes(self) -> int:
        """Bytes of all of them on disk."""
        return self._tenant.usage().blobs

    def take(self, number: int) -> Segment:
        """One of them.

        Raises:
            DamagedBlob: it is not what was put there.
        """
        return unpacked(decompress(self._tenant.take_segment(SESSION, number + 1, read_snapshot)))
