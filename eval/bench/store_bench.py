"""The store against the bare system calls: commit and write + fsync, read_blob and read(), and 10,000 memories.

`python -m eval.bench.store_bench [FOLDER]` runs it alone; give it a folder on the disk that you care about.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from eval.bench.harness import ROOT, Bench, Goal, Row, print_table, take_turns
from memkv.store import MemoryStore, NewEvent, NewMemory

BLOB_BYTES = 47_185_920  # 2,048 tokens of the embedded model: 23,040 bytes each in bf16
MEMORIES, SESSIONS = 10_000, 100
PAGE = 50
TENSORS = 60  # keys and values of 30 layers: what a commit gets is not one buffer


def rows(bench: Bench) -> list[Row]:
    """All comparisons."""
    bench.say(f"Store: commit and read_blob of {BLOB_BYTES / 1e6:.0f} MB")
    return [*commit_rows(bench), *read_rows(bench), *many_memories(bench)]


def commit_rows(bench: Bench) -> list[Row]:
    """One commit, all its fsyncs and the removal of the old blob included, against one write + fsync."""
    data, number = bytearray(random.Random(0).randbytes(BLOB_BYTES)), 0
    step = BLOB_BYTES // TENSORS
    buffers = [memoryview(data)[at : at + step] for at in range(0, BLOB_BYTES, step)]
    with MemoryStore.open(bench.folder / "commit") as store:
        tenant = store.tenant("bench")
        record = tenant.create_session("s")

        def commit() -> None:
            nonlocal record, number
            number += 1
            data[:8] = number.to_bytes(8, "little")  # else the blob would be the old one
            new, context = [NewMemory("A question.", role="user"), NewMemory("An answer.", role="assistant")], [1, 2]
            events = [NewEvent("turn", {"tokens": 2048})]
            record = tenant.commit(
                "s", record.head, memories=new, events=events, context=context, tokens=bytes(8192), blob=buffers
            )

        times = take_turns({"ours": commit, "peer": lambda: write_and_sync(bench.folder / "bare", data)}, bench.rounds)
    goal = Goal("ratio", 2.0)
    return [Row("store: commit of 47 MB", times["ours"], times["peer"], goal=goal, peer_name="write + fsync")]


def write_and_sync(path: Path, data: bytearray) -> float | None:
    """A new file, written and synced."""
    path.unlink(missing_ok=True)
    with path.open("wb", buffering=0) as file:
        view = memoryview(data)
        while view:
            view = view[file.write(view) :]
        os.fsync(file.fileno())
    return None


def read_rows(bench: Bench) -> list[Row]:
    """Read and verify, against a plain read of the same file; both from a warm page cache."""
    with MemoryStore.open(bench.folder / "read") as store:
        tenant = store.tenant("bench")
        tenant.create_session("s")
        record = tenant.commit("s", 0, context=[], tokens=b"", blob=[random.Random(1).randbytes(BLOB_BYTES)])
        assert record.blob is not None
        path = bench.folder / "read" / "blobs" / record.blob.id[:2] / record.blob.id
        times = take_turns(
            {"ours": lambda: drop(tenant.read_blob("s")), "peer": lambda: plain_read(path)}, bench.rounds
        )
    goal = Goal("ratio", 1.5)
    return [
        Row("store: read_blob of 47 MB, checksum included", times["ours"], times["peer"], goal=goal, peer_name="read()")
    ]


def plain_read(path: Path) -> None:
    """What a program without a store would do."""
    with path.open("rb") as file:
        drop(file.read())


def drop(data: bytes | memoryview) -> None:
    """Use the result, so that both contenders free theirs inside the timing."""
    assert len(data) == BLOB_BYTES


def many_memories(bench: Bench) -> list[Row]:
    """Opening and listing a store of 10,000 memories, and what it does to the process's memory."""
    bench.say(f"Store: {MEMORIES} memories")
    folder = bench.folder / "many"
    fill(folder)
    with MemoryStore.open(folder) as store:
        tenant = store.tenant("bench", create=False)

        def first_page() -> None:
            assert len(tenant.sessions()) == SESSIONS
            assert len(tenant.memories(limit=PAGE)) == PAGE

        def everything() -> None:
            assert len(tenant.memories()) == MEMORIES

        listing = take_turns({"page": first_page, "all": everything}, bench.rounds)
        before = resident()
        for _ in range(20):
            assert sum(1 for _ in tenant.iter_memories()) == MEMORIES
        grown = (resident() - before) / 2**20
    opening = take_turns({"open": lambda: open_and_look(folder)}, bench.rounds)
    return [
        Row("10,000 memories: open", opening["open"], goal=Goal("at_most", 200)),
        Row("10,000 memories: list sessions and a first page", listing["page"], goal=Goal("at_most", 50)),
        Row("10,000 memories: list all", listing["all"], goal=Goal("at_most", 50)),
        Row("10,000 memories: memory gained in 20 walks over all", [grown], unit="MiB", goal=Goal("at_most", 4)),
    ]


def fill(folder: Path) -> None:
    """Sessions of messages of a usual length."""
    words = "policy source editor deadline quote anonymous check sign off before print the a of".split()
    chance = random.Random(2)
    with MemoryStore.open(folder) as store:
        tenant = store.tenant("bench")
        for number in range(SESSIONS):
            name = f"session {number}"
            tenant.create_session(name)
            texts = [" ".join(chance.choices(words, k=80)) for _ in range(MEMORIES // SESSIONS)]
            tenant.commit(name, 0, memories=[NewMemory(text, role="user") for text in texts], context=[1], tokens=b"")


def open_and_look(folder: Path) -> None:
    """Open, find the tenant, close."""
    with MemoryStore.open(folder) as store:
        store.tenant("bench", create=False)


def resident() -> int:
    """Bytes of memory that the process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> int:
    """Run these rows alone."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build"
    folder.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=folder) as scratch:
        found = rows(Bench(21, Path(scratch), lambda said: print(said, file=sys.stderr)))
    print_table(found, Console() if sys.stdout.isatty() else Console(width=200))
    return 1 if any(row.to_json()["met"] is False for row in found) else 0


if __name__ == "__main__":
    sys.exit(main())
