"""Folders of models that are made once under `MEMKV_HOME` and checked, byte for byte, each time they are used."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from blake3 import blake3
from filelock import FileLock

from memkv.config import memkv_home
from memkv.errors import ModelUnavailable, StorageFull

MANIFEST = "manifest.json"

Notify = Callable[[str], None]


def made_once(name: str, key: str, make: Callable[[Path], None], say: Notify, takes: str) -> Path:
    """The folder `name` of models, made now if need be.

    Every file is checked against its recorded length and BLAKE3 hash each time (about 0.1 s). A damaged folder is made
    again. Two processes may call this at once: one makes it, the other waits.

    Args:
        name: of the model, for people.
        key: what it is made of: another key is another folder.
        make: writes all files into an empty folder.
        say: told in a sentence about work that takes seconds.
        takes: how long, and of what, for people.

    Raises:
        ModelUnavailable: `MEMKV_HOME` cannot be written, or whatever `make` raises.
        StorageFull: no room.
    """
    models = memkv_home() / "models"
    folder = models / f"{name}-{blake3(key.encode()).hexdigest()[:12]}"
    if find_damage(folder) is None:
        return folder
    try:
        models.mkdir(parents=True, exist_ok=True)
        with FileLock(models / f"{name}.lock"):
            damage = find_damage(folder)  # again: another process may have made it meanwhile
            if damage is None:
                return folder
            if folder.exists():
                say(f"The model {name} is damaged ({damage}): making it again")
                shutil.rmtree(folder)
            for left_over in models.glob(f"{name}.making-*"):
                shutil.rmtree(left_over)  # of a process that was killed: nobody else holds the lock
            say(f"Making the model {name} in {folder} ({takes})")
            start = time.monotonic()
            _make_whole(folder, name, make)
            say(f"Made in {time.monotonic() - start:.0f} s")
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise StorageFull(
                f"No room for the model {name} under {models}", "Free 300 MB, or set MEMKV_HOME to another disk."
            ) from error
        raise ModelUnavailable(
            f"Cannot write the model {name} under {models}: {error}", "Set MEMKV_HOME to a folder you can write to."
        ) from error
    return folder


def _make_whole(folder: Path, name: str, make: Callable[[Path], None]) -> None:
    """Make it in a temporary folder beside `folder`, durable, then rename it: there is no half of it to see."""
    scratch = Path(tempfile.mkdtemp(prefix=f"{name}.making-", dir=folder.parent))
    try:
        make(scratch)
        paths = sorted(path for path in scratch.iterdir() if path.is_file())
        manifest = {path.name: {"bytes": path.stat().st_size, "blake3": hash_file(path)} for path in paths}
        (scratch / MANIFEST).write_text(json.dumps(manifest, indent=2), encoding="utf-8")
        for path in (*paths, scratch / MANIFEST, scratch):
            fsync(path)
        os.rename(scratch, folder)
        fsync(folder.parent)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


def find_damage(folder: Path) -> str | None:
    """What is wrong with such a folder, in a few words; None when every byte is as it was written."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        files = {str(name): (int(entry["bytes"]), str(entry["blake3"])) for name, entry in manifest.items()}
    except FileNotFoundError:
        return f"no {MANIFEST}"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"unreadable {MANIFEST}: {error}"
    for name, (length, digest) in files.items():
        path = folder / name
        if not path.is_file():
            return f"no {name}"
        if path.stat().st_size != length:
            return f"{name} has {path.stat().st_size} bytes of {length}"
        if hash_file(path) != digest:
            return f"{name} was altered"
    return None


def hash_file(path: Path) -> str:
    """BLAKE3 of a file's bytes, in hexadecimal; uses all cores."""
    return blake3(max_threads=blake3.AUTO).update_mmap(path).hexdigest()


def fsync(path: Path) -> None:
    """Make a file's bytes, or a folder's names, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
