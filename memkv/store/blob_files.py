"""Blobs as files: `blobs/ab/abcd...`, written once, never rewritten in place.

A write goes temp file -> fsync -> rename -> fsync of the folders, hashed on the way. A read goes into the process's own
memory, hashed on the way: never mmap of the file, which kills the process when the file is cut underneath.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread

from blake3 import blake3

from memkv.errors import DamagedBlob, DamagedStore, NotFound, StorageFull
from memkv.store.blob_source import REBUILD, BlobSource, Take, Taken
from memkv.store.file_lock import FileLock
from memkv.store.hashed_write import write_hashed
from memkv.store.records import BlobRef, Buffer

RESERVE = 1 << 20
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class FileBlobs:
    """The embedded `BlobStore`, in the folder `root`."""

    def __init__(self, root: Path) -> None:
        """Make what is missing in the folder of the store."""
        self.folder = root / "blobs"
        self.temp = self.folder / "tmp"
        self.bad = root / "quarantine"
        self.reserve = root / "reserve"
        self.lock = FileLock(root / "lock")
        self._deleted_from: set[Path] = set()
        for folder in (self.folder, self.temp, self.bad):
            folder.mkdir(mode=0o700, exist_ok=True)
        if not self.reserve.exists():
            self.keep_reserve()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Shared lock; the kernel drops it when the process dies."""
        with self.lock.shared():
            yield

    @contextmanager
    def alone(self, timeout: float) -> Iterator[None]:
        """Exclusive lock."""
        with self.lock.exclusive(timeout):
            yield

    def path(self, blob_id: str) -> Path:
        """Where the blob of that id lies."""
        return self.folder / blob_id[:2] / blob_id

    def put(self, key: bytes, chunks: Iterable[Buffer]) -> BlobRef:
        """Write, hash, fsync, rename, fsync."""
        temp = self.temp / secrets.token_hex(16)
        try:
            with storage_errors():
                descriptor = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                try:
                    ref = write_hashed(descriptor, blake3(key=key), chunks)
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
                final = self.path(ref.id)
                with suppress(FileExistsError):
                    final.parent.mkdir(mode=0o700)
                    sync_folder(self.folder)
                os.rename(temp, final)  # over an equal blob, if there is one
                sync_folder(final.parent)
        except OSError as error:
            temp.unlink(missing_ok=True)
            raise DamagedStore(
                f"Cannot write to {self.folder}: {error.strerror}", "Check its owner and disk."
            ) from error
        except BaseException:
            temp.unlink(missing_ok=True)
            raise
        return ref

    def read(self, key: bytes, ref: BlobRef, take: Take[Taken]) -> Taken:
        """Hand the bytes to `take` as they come; what it made of them counts only if the checksum is right."""
        with self._open(ref) as descriptor:
            source = BlobSource(descriptor, ref, blake3(key=key))
            taken = take(source.fill, ref.length)
            source.finish()
        return taken

    def check(self, key: bytes, ref: BlobRef) -> None:
        """Hash through one small buffer."""
        with self._open(ref) as descriptor:
            BlobSource(descriptor, ref, blake3(key=key)).finish()

    @contextmanager
    def _open(self, ref: BlobRef) -> Iterator[int]:
        """The blob's descriptor, once its size is the recorded one: a giant file is refused before any allocation."""
        try:
            descriptor = os.open(self.path(ref.id), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError as error:
            raise NotFound(f"Blob {ref.id[:12]} is gone", REBUILD) from error
        except OSError as error:
            raise DamagedBlob(f"Blob {ref.id[:12]} cannot be opened: {error.strerror}", REBUILD) from error
        try:
            size = os.fstat(descriptor).st_size
            if size != ref.length:
                raise DamagedBlob(f"Blob {ref.id[:12]} has {size} bytes instead of {ref.length}", REBUILD)
            yield descriptor
        except OSError as error:
            raise DamagedBlob(f"Blob {ref.id[:12]} cannot be read: {error.strerror}", REBUILD) from error
        finally:
            os.close(descriptor)

    def delete(self, blob_id: str) -> int:
        """Unlink."""
        path = self.path(blob_id)
        freed = unlink_sized(path)
        if freed:
            self._deleted_from.add(path.parent)
        return freed

    def drop(self, blob_id: str) -> None:
        """Unlink at once; the space comes back when the last descriptor is closed, which takes as long as a write."""
        path = self.path(blob_id)
        with suppress(FileNotFoundError):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            path.unlink(missing_ok=True)
            self._deleted_from.add(path.parent)
            Thread(target=os.close, args=(descriptor,), name="memkv-close").start()

    def quarantine(self, blob_id: str) -> None:
        """Rename into `quarantine/`, which keeps the bytes for a look and costs no space."""
        with suppress(FileNotFoundError):
            os.rename(self.path(blob_id), self.bad / f"{blob_id}.{time.time_ns()}")

    def stored(self) -> Mapping[str, int]:
        """Every file that lies where a blob of its name belongs."""
        return {file.name: size for file, size in self._files() if file == self.path(file.name)}

    def leftovers(self) -> Mapping[str, int]:
        """Everything else in `blobs`."""
        return {str(file): size for file, size in self._files() if file != self.path(file.name)}

    def _files(self) -> Iterator[tuple[Path, int]]:
        for path in self.folder.iterdir():
            for file in path.iterdir() if path.is_dir() else [path]:
                with suppress(FileNotFoundError):  # a writer at work renames its temporary file
                    yield file, file.lstat().st_size

    def quarantined(self) -> Mapping[str, int]:
        """Everything in `quarantine`."""
        return {str(file): file.lstat().st_size for file in self.bad.iterdir()}

    def remove(self, paths: Iterable[str]) -> None:
        """Unlink; gone already is fine."""
        for path in paths:
            self._deleted_from.add(Path(path).parent)
            unlink_sized(Path(path))

    def sync_deletions(self) -> None:
        """The folders that this object deleted from, to disk."""
        while self._deleted_from:
            sync_folder(self._deleted_from.pop())

    def free_bytes(self) -> int:
        """What the file system has left for this user."""
        return shutil.disk_usage(self.folder).free

    def release_reserve(self) -> None:
        """Truncate it: works without allocating anything."""
        with suppress(FileNotFoundError):
            os.truncate(self.reserve, 0)

    def keep_reserve(self) -> None:
        """Allocate 1 MiB for real, not a sparse file; on a disk that is full it stays away until the next gc."""
        descriptor = os.open(self.reserve, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, RESERVE)
        except OSError as error:
            if error.errno not in FULL:
                raise
            os.ftruncate(descriptor, 0)
        finally:
            os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Make names in the folder survive a power failure."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def unlink_sized(path: Path) -> int:
    """Unlink; the bytes freed."""
    try:
        size = path.lstat().st_size
        if path.is_dir() and not path.is_symlink():  # someone else's doing
            shutil.rmtree(path)
        else:
            path.unlink()
    except FileNotFoundError:
        return 0
    return size


@contextmanager
def storage_errors() -> Iterator[None]:
    """A full disk, quota or file size limit of the system -> StorageFull."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise StorageFull(
            f"No room on the disk ({error.strerror})", "Free some space, or run `memkv memory gc`; nothing was lost."
        ) from error
