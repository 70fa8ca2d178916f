"""Write buffers to a file and hash them at the same time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from queue import Queue
from threading import Thread

from blake3 import blake3

from memkv.store.records import BlobRef, Buffer
from memkv.store.write_back import WriteBack

CHUNK = 1 << 20  # hashed while it is still in the processor's cache
QUEUED = 64  # pieces written before they are hashed, at most: bounds the memory of a streamed import


def write_hashed(descriptor: int, hasher: blake3, chunks: Iterable[Buffer]) -> BlobRef:
    """Write all chunks in large vectors, without joining them, and name the result by its hash.

    A second thread hashes what this one writes; it is gone before this returns, so that a later fork is safe.
    """
    write_back, total = WriteBack(descriptor), 0
    with hashing(hasher) as hash_later:
        for batch in batches(chunks):
            for piece in batch:
                hash_later(piece)
                total += len(piece)
            write_all(descriptor, batch)
            write_back.written_up_to(total)
    return BlobRef(hasher.hexdigest(), total)


def batches(chunks: Iterable[Buffer]) -> Iterator[list[memoryview]]:
    """Pieces of at most 1 MiB in lists of about that size, which one `writev` takes."""
    batch: list[memoryview] = []
    pending = 0
    for chunk in chunks:
        view = memoryview(chunk).cast("B")
        for start in range(0, len(view), CHUNK):
            batch.append(view[start : start + CHUNK])
            pending += len(batch[-1])
            if pending >= CHUNK or len(batch) == os.sysconf("SC_IOV_MAX"):
                yield batch
                batch, pending = [], 0
    yield batch


@contextmanager
def hashing(hasher: blake3) -> Iterator[Callable[[memoryview], None]]:
    """A thread that hashes, in order, what it is given; done when the block ends, also by an error."""
    waiting: Queue[memoryview | None] = Queue(maxsize=QUEUED)

    def work() -> None:
        while (piece := waiting.get()) is not None:
            hasher.update(piece)

    thread = Thread(target=work, name="memkv-hash")
    thread.start()
    try:
        yield waiting.put
    finally:
        waiting.put(None)
        thread.join()


def write_all(descriptor: int, batch: list[memoryview]) -> None:
    """`writev` until everything is written."""
    while batch:
        written = os.writev(descriptor, batch)
        while batch and written >= len(batch[0]):
            written -= len(batch.pop(0))
        if batch:
            batch[0] = batch[0][written:]
