"""Let the disk start on what is written while the next chunk is hashed, so that the fsync at the end has less to do.

On Linux `sync_file_range` starts the write-back of a range and returns; it promises nothing, the fsync still does.
Elsewhere there is no such call, and everything is left to the fsync.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable

SYNC_FILE_RANGE_WRITE = 2
START_EVERY = 4 << 20  # bytes; smaller ranges cost more calls than they gain

Start = Callable[[int, int, int], object]


def write_back_call() -> Start:
    """`start(descriptor, offset, length)`, the system's call or one that does nothing."""
    if not sys.platform.startswith("linux"):
        return lambda descriptor, offset, length: None
    call = ctypes.CDLL(None).sync_file_range
    call.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    return lambda descriptor, offset, length: call(descriptor, offset, length, SYNC_FILE_RANGE_WRITE)


class WriteBack:
    """Follows one file as it grows and starts the write-back of each further 4 MiB."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.started = 0
        self._start = write_back_call()

    def written_up_to(self, offset: int) -> None:
        """The file holds its first `offset` bytes now."""
        if offset - self.started >= START_EVERY:
            self._start(self.descriptor, self.started, offset - self.started)
            self.started = offset
