"""Save and restore of one conversation against what a user would otherwise pick: torch.save, llama.cpp's state files.

memkv's side is the whole of what a session does: snapshot, safetensors bytes hashed on the way to a temporary file,
fsync, rename, fsync of the folders, the transaction; then read, checksum, header checks, fingerprint, a live cache.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import torch

from eval.bench.conversation import commit_cache
from eval.bench.harness import ROOT, Bench, Goal, Row, take_turns
from memkv import MemoryStore
from memkv.embedded import gguf_file
from memkv.snapshot_file import read_snapshot
from memkv.store.tenant import TenantStore

PEER_PYTHON = ROOT / ".venv-peers/bin/python"
AHEAD = Goal("ratio", 1.0)


def rows(bench: Bench) -> list[Row]:
    """Milliseconds of save + restore, and bytes on disk."""
    with MemoryStore.open(bench.folder / "store") as store:
        ours = Ours(bench, store.tenant("bench"))
        torch_peer = TorchPeer(bench)
        with llama_process(bench, False) as llama, llama_process(bench, True) as flash:
            contenders = {
                "memkv": ours.save_and_restore,
                "torch": torch_peer.save_and_restore,
                "llama": lambda: llama.total("file"),
                "flash": lambda: flash.total("file"),
                "pickle": lambda: llama.total("pickle"),
            }
            times = take_turns(contenders, bench.rounds)
    last = slice(-bench.rounds, None)  # without the warm-up
    version = llama.hello["version"]
    state_file = f"llama.cpp {version} state file"
    name = f"save + restore, {bench.tokens} tokens"
    timed = [
        Row(name, times["memkv"], peer, "ms", AHEAD, peer_name, note)
        for peer, peer_name, note in (
            (times["torch"], "torch.save + fsync + torch.load", ""),
            (llama.not_durable("file")[last], state_file, "no fsync, as it comes"),
            (times["llama"], f"{state_file} + fsync", llama.split("file")),
            (flash.not_durable("file")[last], f"{state_file}, flash_attn", "no fsync"),
            (times["flash"], f"{state_file}, flash_attn, + fsync", flash.split("file")),
            (times["pickle"], f"pickled Llama.save_state {version} + fsync", llama.split("pickle")),
        )
    ]
    parts = [
        Row("  of which save", ours.saves[last], torch_peer.saves[last], "ms", None, "torch.save + fsync"),
        Row("  of which restore", ours.loads[last], torch_peer.loads[last], "ms", None, "torch.load (no checks)"),
    ]
    sizes = [
        Row("bytes on disk", [ours.bytes / 2**20], [size / 2**20], "MiB", None, peer)
        for size, peer in (
            (torch_peer.bytes, "torch.save"),
            (llama.bytes["file"], state_file),
            (llama.bytes["pickle"], f"pickled Llama.save_state {version}"),
        )
    ]
    return [*timed, *parts, *sizes]


class Ours:
    """memkv's store, the session's path in and out."""

    def __init__(self, bench: Bench, tenant: TenantStore) -> None:
        self.model, self.tenant = bench.model, tenant
        # Two conversations that differ in one number take turns, so that no commit finds its own blob already there.
        other = bench.live.fork()
        first = other.cache.layers[0]
        first.keys = first.keys.clone()
        first.keys[0, 0, 0, 0] += 1
        self.lives = (bench.live, other)
        self.record = tenant.create_session("bench")
        self.saves: list[float] = []
        self.loads: list[float] = []
        self.bytes = 0

    def save_and_restore(self) -> float:
        """Commit the cache as the session's new head and read it back; milliseconds without the check after it."""
        live = self.lives[self.record.head % 2]
        start = time.perf_counter()
        self.record = commit_cache(self.model, self.tenant, self.record, live)
        saved = time.perf_counter()
        restored = self.model.restore(self.tenant.take_blob("bench", None, read_snapshot))
        loaded = time.perf_counter()
        assert torch.equal(restored.cache.layers[0].keys, live.cache.layers[0].keys)
        assert self.record.blob is not None
        self.bytes = self.record.blob.length
        self.saves.append((saved - start) * 1e3)
        self.loads.append((loaded - saved) * 1e3)
        return (loaded - start) * 1e3


class TorchPeer:
    """torch.save of the transformers cache object, made durable, and torch.load."""

    def __init__(self, bench: Bench) -> None:
        self.cache, self.folder = bench.live.cache, bench.folder
        self.saves: list[float] = []
        self.loads: list[float] = []
        self.bytes = 0

    def save_and_restore(self) -> float:
        """One round; milliseconds without deleting the file."""
        path = self.folder / "cache.pt"
        start = time.perf_counter()
        with path.open("wb") as file:
            torch.save(self.cache, file)
            file.flush()
            os.fsync(file.fileno())
        saved = time.perf_counter()
        restored = torch.load(path, weights_only=False)
        loaded = time.perf_counter()
        assert restored.get_seq_length() == self.cache.get_seq_length()
        self.bytes = path.stat().st_size
        path.unlink()
        self.saves.append((saved - start) * 1e3)
        self.loads.append((loaded - saved) * 1e3)
        return (loaded - start) * 1e3


class LlamaPeer:
    """The conversation in a llama.cpp process, driven a round at a time through its pipes."""

    def __init__(self, process: subprocess.Popen[str], token_ids: list[int]) -> None:
        self.process = process
        self.took: dict[str, list[dict[str, float]]] = {"file": [], "pickle": []}
        self.hello = self.ask(json.dumps(token_ids))

    def ask(self, line: str) -> dict[str, Any]:
        """One line there, one line of JSON back."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"llama.cpp's process ended with status {self.process.wait()}")
        parsed: dict[str, Any] = json.loads(answer)
        return parsed

    def total(self, kind: str) -> float:
        """One round by `file` or `pickle`: save, fsync and load in milliseconds."""
        took = self.ask(kind)
        self.took[kind].append(took)
        return float(took["save_ms"] + took["fsync_ms"] + took["load_ms"])

    def not_durable(self, kind: str) -> list[float]:
        """Milliseconds of save and load alone, of every round."""
        return [took["save_ms"] + took["load_ms"] for took in self.took[kind]]

    def split(self, kind: str) -> str:
        """The medians of the three steps."""
        steps = {step: median(took[f"{step}_ms"] for took in self.took[kind]) for step in ("save", "fsync", "load")}
        return ", ".join(f"{step} {time:.1f}" for step, time in steps.items())

    @property
    def bytes(self) -> dict[str, float]:
        """Bytes of the state on disk by kind."""
        return {kind: took[-1]["bytes"] for kind, took in self.took.items() if took}


@contextmanager
def llama_process(bench: Bench, flash_attention: bool) -> Iterator[LlamaPeer]:
    """Start llama.cpp on the GGUF that memkv's weights were converted from, with the same tokens read."""
    if not PEER_PYTHON.exists():
        raise SystemExit("llama.cpp is not built yet: run `make .venv-peers/.ready` (about 6 minutes, once)")
    script = Path(__file__).with_name("llama_peer.py")
    bench.say("Reading the tokens in llama.cpp" + (" with flash attention" if flash_attention else ""))
    command = [str(PEER_PYTHON), str(script), str(gguf_file()), str(bench.folder), str(int(flash_attention))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield LlamaPeer(process, bench.token_ids)
        finally:
            process.kill()
