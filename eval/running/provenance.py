"""Where rows come from: configuration, command, commit, versions and machine, in the `run.json` beside them."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
from blake3 import blake3

from memkv.config import format_bytes

ROOT = Path(__file__).parents[2]

# What the figures may depend on.
PACKAGES = (
    "memkv", "torch", "transformers", "tokenizers", "numpy", "sentence-transformers", "faiss-cpu", "bm25s",
    "safetensors", "scikit-learn", "ray", "lm_eval",
)  # fmt: skip


def describe_part(workers: int, module: str = "eval.run") -> dict[str, Any]:
    """One sitting of a run, at its start: command (`python -m module ...`), commit, versions, machine."""
    return {
        "command": shlex.join(["python", "-m", module, *sys.argv[1:]]),
        "commit": commit(),
        "python": platform.python_version(),
        "versions": versions(),
        "machine": machine(),
        "workers": workers,
        "started": now(),
    }


def now() -> str:
    """The time, ISO 8601 in UTC, whole seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def commit() -> dict[str, Any]:
    """The checkout's commit, and whether files differ from it; None where this is no git checkout."""
    head = git("rev-parse", "HEAD")
    status = git("status", "--porcelain")
    return {"id": head, "dirty": None if status is None else bool(status)}


def git(*arguments: str) -> str | None:
    """What git prints, or None if it cannot say."""
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def versions() -> dict[str, str]:
    """Installed versions of PACKAGES; those that are not installed are left out."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """Processor, cores that this process may use, memory, system."""
    return {
        "cpu": cpu_name(),
        "cores": cores(),
        "memory": format_bytes(psutil.virtual_memory().total),
        "system": platform.platform(),
    }


def cores() -> int:
    """Cores that this process may use: fewer than the machine has, in a container."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def cpu_name() -> str:
    """As the system names the processor."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def text_hash(text: str) -> str:
    """BLAKE3 of a text, in hexadecimal."""
    return blake3(text.encode()).hexdigest()


def differences(before: Any, after: Any, where: str = "") -> list[str]:
    """Where two pieces of plain data differ, one line each: `seed: 0 before, 1 now`."""
    if isinstance(before, dict) and isinstance(after, dict):
        keys = [*before, *(key for key in after if key not in before)]
        pairs = ((f"{where}.{key}" if where else str(key), before.get(key), after.get(key)) for key in keys)
        return [line for name, old, new in pairs for line in differences(old, new, name)]
    return [] if before == after else [f"{where}: {short(before)} before, {short(after)} now"]


def short(value: Any, limit: int = 80) -> str:
    """A value in at most `limit` characters."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."
