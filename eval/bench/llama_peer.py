"""llama.cpp's side of the benchmark, a process of its own in .venv-peers: it knows nothing of memkv.

Called as `python llama_peer.py GGUF FOLDER FLASH_ATTENTION`, with the token ids as JSON on the first line of stdin.
Then each line on stdin is one round: save the state, restore it, and answer with one line of JSON.
"""

import ctypes
import json
import os
import pickle
import sys
import time
from pathlib import Path

import llama_cpp
from llama_cpp import Llama


def main() -> None:
    """Read the tokens once, then save and restore on demand."""
    gguf, folder, flash_attention = sys.argv[1], Path(sys.argv[2]), sys.argv[3] == "1"
    token_ids = json.loads(sys.stdin.readline())
    llama = Llama(gguf, n_ctx=len(token_ids) + 256, n_threads=os.cpu_count(), flash_attn=flash_attention, verbose=False)
    start = time.perf_counter()
    llama.eval(token_ids)
    print(json.dumps({"version": llama_cpp.__version__, "prefill_ms": (time.perf_counter() - start) * 1e3}), flush=True)
    for number, kind in enumerate(sys.stdin):
        path = folder / f"llama-{number}.state"
        save_and_restore = {"file": through_file, "pickle": through_pickle}[kind.strip()]
        print(json.dumps(save_and_restore(llama, token_ids, path)), flush=True)
        path.unlink()


def through_file(llama: Llama, token_ids: list[int], path: Path) -> dict[str, float]:
    """llama_state_save_file, fsync, llama_state_load_file into the same context; milliseconds and bytes."""
    context, count = llama.ctx, len(token_ids)
    tokens = (llama_cpp.llama_token * count)(*token_ids)
    start = time.perf_counter()
    assert llama_cpp.llama_state_save_file(context, str(path).encode(), tokens, count)
    saved = time.perf_counter()
    fsync(path)
    synced = time.perf_counter()
    read_tokens = (llama_cpp.llama_token * count)()
    read_count = ctypes.c_size_t()
    assert llama_cpp.llama_state_load_file(context, str(path).encode(), read_tokens, count, ctypes.byref(read_count))
    loaded = time.perf_counter()
    assert list(read_tokens) == token_ids and read_count.value == count
    return figures(start, saved, synced, loaded, path)


def through_pickle(llama: Llama, token_ids: list[int], path: Path) -> dict[str, float]:
    """Llama.save_state pickled, fsync, unpickled and Llama.load_state: what llama-cpp-python itself offers."""
    start = time.perf_counter()
    with path.open("wb") as file:
        pickle.dump(llama.save_state(), file, protocol=pickle.HIGHEST_PROTOCOL)
    saved = time.perf_counter()
    fsync(path)
    synced = time.perf_counter()
    with path.open("rb") as file:
        llama.load_state(pickle.load(file))
    loaded = time.perf_counter()
    assert llama.n_tokens == len(token_ids)
    return figures(start, saved, synced, loaded, path)


def fsync(path: Path) -> None:
    """Make the file survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def figures(start: float, saved: float, synced: float, loaded: float, path: Path) -> dict[str, float]:
    """What one round took; restoring starts when the save is durable."""
    return {
        "save_ms": (saved - start) * 1e3,
        "fsync_ms": (synced - saved) * 1e3,
        "load_ms": (loaded - synced) * 1e3,
        "bytes": path.stat().st_size,
    }


if __name__ == "__main__":
    main()
