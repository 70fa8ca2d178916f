"""A blob while it is read: bytes go straight to where they are wanted, and are hashed on the way."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

from blake3 import blake3

from memkv.errors import DamagedBlob
from memkv.store.hashed_write import CHUNK
from memkv.store.records import BlobRef

REBUILD = "The text is safe: open the session and memkv rebuilds its cache from the text."

Taken = TypeVar("Taken")
# Fills a buffer with the next bytes of the blob.
Fill = Callable[[memoryview], None]
# (fill, bytes in all) -> whatever is made of the blob. What it returns is used only if the checksum is right.
Take = Callable[[Fill, int], Taken]


class BlobSource:
    """The bytes of one open file, in order."""

    def __init__(self, descriptor: int, ref: BlobRef, hasher: blake3) -> None:
        self.descriptor, self.ref, self.hasher = descriptor, ref, hasher
        self.done = 0

    def fill(self, buffer: memoryview) -> None:
        """The next `len(buffer)` bytes, each piece hashed while it is still in the processor's cache.

        Raises:
            DamagedBlob: there are not that many.
        """
        filled = 0
        while filled < len(buffer):
            piece = buffer[filled : filled + CHUNK]
            count = os.preadv(self.descriptor, [piece], self.done)
            if count == 0:
                raise DamagedBlob(f"Blob {self.ref.id[:12]} ends at byte {self.done} of {self.ref.length}", REBUILD)
            self.hasher.update(piece[:count])
            filled += count
            self.done += count

    def finish(self) -> None:
        """Read what nobody asked for, and check the whole.

        Raises:
            DamagedBlob: it is not what its name says.
        """
        rest = memoryview(bytearray(min(CHUNK, self.ref.length - self.done)))
        while self.done < self.ref.length:
            self.fill(rest[: self.ref.length - self.done])
        if self.hasher.hexdigest() != self.ref.id:
            raise DamagedBlob(f"Blob {self.ref.id[:12]} does not have its checksum", REBUILD)


def whole(fill: Fill, length: int) -> memoryview:
    """The blob as one writable buffer."""
    buffer = memoryview(bytearray(length))
    fill(buffer)
    return buffer
