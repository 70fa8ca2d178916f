"""One lock file: many writers share it, a deleter has it alone. `flock` ends with the process, even with kill -9."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from memkv.errors import StoreBusy

POLL_SECONDS = 0.01


class FileLock:
    """A lock for processes and threads alike: each holder opens the file anew."""

    def __init__(self, path: Path) -> None:
        """The file is made at the first use."""
        self.path = path

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Wait until no one has it alone, which is never long."""
        descriptor = self._open()
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            yield
        finally:
            os.close(descriptor)

    @contextmanager
    def exclusive(self, timeout: float) -> Iterator[None]:
        """Have it alone.

        Raises:
            StoreBusy: not within `timeout` seconds.
        """
        descriptor, deadline = self._open(), time.monotonic() + timeout
        try:
            while not take(descriptor):
                if time.monotonic() >= deadline:
                    raise StoreBusy(
                        f"Writers kept the store busy for {timeout:g} s", "Run `memkv memory gc` when they are done."
                    )
                time.sleep(POLL_SECONDS)
            yield
        finally:
            os.close(descriptor)

    def _open(self) -> int:
        return os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def take(descriptor: int) -> bool:
    """Take the exclusive lock if it is free."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
