"""Recall: the time to the first token with memories spliced in against reading their text, and search among many."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from eval.bench.harness import Bench, Goal, Row, take_turns
from eval.bench.store_bench import resident
from memkv import MemoryStore
from memkv.live import LiveCache
from memkv.recall.embedding import DIMENSIONS
from memkv.recall.nearest import Nearest, as_bytes
from memkv.recall.stretch import segment_tokens
from memkv.snapshot_file import read_snapshot, to_buffers
from memkv.splice import Segment, Splicer
from memkv.splice.segment import unpacked
from memkv.store import NewMemory, TenantStore

SEGMENTS, TOKENS = 8, 256
REPAIRS = {0: 6.0, 8: 4.0, 32: None}  # tokens read again of each segment -> times faster than reading all
QUESTION = "What did I tell you about the launch, and who has to agree to it?"
ROUNDS = 7  # the peer reads 2,048 tokens in each
MEMORIES, VECTORS_EACH, NEAREST = 100_000, 4, 8  # a stretch of 256 tokens has a vector, and one of each message
SEARCHES = 50
MOST_MS, ADDING_MS, STARTING_S, MEMORY = 20.0, 5.0, 1.0, 1.2


def rows(bench: Bench) -> list[Row]:
    """First the splice, then the search."""
    return [*first_token(bench), *search(bench)]


def first_token(bench: Bench) -> list[Row]:
    """Milliseconds from the ids of eight segments to the logits that answer a question."""
    model = bench.model
    splicer = Splicer(model)
    lead, _ = segment_tokens(model.chat, "")
    question = model.chat.encode(QUESTION)
    texts = [bench.token_ids[start : start + TOKENS] for start in range(0, SEGMENTS * TOKENS, TOKENS)]
    found: list[Row] = []
    with MemoryStore.open(bench.folder / "store") as store:
        tenant = store.tenant("bench")
        for repair, limit in REPAIRS.items():
            bench.say(f"Encoding {SEGMENTS} segments of {TOKENS} tokens, {repair} of each to be read again")
            keep(tenant, f"repair-{repair}", [splicer.encode(lead, text, repair) for text in texts])
            parts: dict[str, list[float]] = {"read and check": [], "turn and repair": [], "question": []}

            def spliced(name: str = f"repair-{repair}", parts: dict[str, list[float]] = parts) -> None:
                started = time.perf_counter()
                segments = [unpacked(tenant.take_segment(name, 1 + 2 * n, read_snapshot)) for n in range(SEGMENTS)]
                read = time.perf_counter()
                live = model.new_cache()
                model.extend(live, lead)
                live = splicer.splice(live, segments)
                put = time.perf_counter()
                ask(live)
                asked = time.perf_counter()
                for part, taken in zip(parts, (read - started, put - read, asked - put), strict=True):
                    parts[part].append(taken * 1e3)

            def as_text() -> None:
                live = model.new_cache()
                model.extend(live, [*lead, *(token for text in texts for token in text)])
                ask(live)

            def ask(live: LiveCache) -> None:
                assert len(live) == len(lead) + SEGMENTS * TOKENS
                model.extend(live, question)

            times = take_turns({"ours": spliced, "peer": as_text}, min(bench.rounds, ROUNDS), warmup=1)
            name = f"first token after {SEGMENTS} x {TOKENS} recalled tokens, {repair} of each read again"
            goal = None if limit is None else Goal("speedup", limit)
            found.append(Row(name, times["ours"], times["peer"], goal=goal, peer_name="prefill of their text"))
            found += [Row(f"  of it: {part}", taken[1:]) for part, taken in parts.items()]
    return found


def keep(tenant: TenantStore, name: str, segments: Sequence[Segment]) -> None:
    """Store segments under a session of as many exchanges."""
    record = tenant.create_session(name)
    said = [NewMemory("said", role=role) for _ in segments for role in ("user", "assistant")]
    tenant.commit(name, record.head, memories=said, context=(), tokens=b"")
    for number, segment in enumerate(segments):
        first = 1 + 2 * number
        tenant.keep_segment(
            name, first, first + 1, 2, to_buffers(segment.packed()), asdict(segment.snapshot.fingerprint)
        )


def search(bench: Bench) -> list[Row]:
    """An index of a hundred thousand memories as a session makes it at its start, and as it asks and adds."""
    count = MEMORIES * VECTORS_EACH
    bench.say(f"Indexing {count:,} vectors of {MEMORIES:,} memories")
    vectors_ND = clustered(count)
    asked_ND = vectors_ND[:: count // SEARCHES] + 0.05 * noise(SEARCHES, seed=2)
    each = vectors_ND.reshape(MEMORIES, VECTORS_EACH, DIMENSIONS)
    stored = [("session", number, as_bytes(vectors)) for number, vectors in enumerate(each)]
    before = resident()
    started = time.perf_counter()
    nearest = Nearest.of(DIMENSIONS, stored)
    start_s = time.perf_counter() - started
    grown = (resident() - before) / vectors_ND.nbytes
    searching, adding, right = [], [], []
    for number, asked_D in enumerate(asked_ND):
        cosines_N = (vectors_ND @ asked_D).reshape(MEMORIES, VECTORS_EACH).max(axis=1)
        best = np.argsort(-cosines_N, kind="stable")[:NEAREST]
        started = time.perf_counter()
        found = nearest.search(asked_D, NEAREST)
        searching.append((time.perf_counter() - started) * 1e3)
        right.append(len({near.address[1] for near in found} & set(best.tolist())) / NEAREST)
        started = time.perf_counter()
        nearest.add([("new", number)], -asked_D[None])  # far from all that is asked
        adding.append((time.perf_counter() - started) * 1e3)
    name = f"of {MEMORIES:,} memories"
    return [
        Row(f"recall@{NEAREST} {name}", [statistics.mean(right)], unit="", goal=Goal("at_least", 0.95)),
        Row(f"search {name}", searching, goal=Goal("at_most", MOST_MS)),
        Row(f"adding one {name}", adding, goal=Goal("at_most", ADDING_MS)),
        Row(f"start {name}", [start_s], unit="s", goal=Goal("at_most", STARTING_S)),
        Row(f"memory {name}, of their vectors", [grown], unit="x", goal=Goal("at_most", MEMORY)),
    ]


def clustered(count: int) -> NDArray[np.float32]:
    """Vectors (ND) of length 1 in clusters, as those of texts about some topics are."""
    centers = noise(count // 100, seed=0)
    vectors = np.repeat(centers, 100, axis=0) + 0.5 * noise(count, seed=1)
    return np.ascontiguousarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def noise(count: int, seed: int) -> NDArray[np.float32]:
    """Random vectors (ND)."""
    return np.random.default_rng(seed).standard_normal((count, DIMENSIONS), dtype=np.float32) / DIMENSIONS**0.5
