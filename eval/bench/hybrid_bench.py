"""The hybrid beside the model that it was made from: restore, prefill, and decoding behind a long context."""

from __future__ import annotations

import time
from dataclasses import dataclass

from eval.bench.conversation import commit_cache
from eval.bench.harness import ROOT, Bench, Goal, Row, take_turns
from memkv import HybridModel, MemoryStore
from memkv.live import LiveCache
from memkv.pretrained import HYBRID
from memkv.session.opening import restore
from memkv.snapshot import same_tensors
from memkv.store import SessionRecord, TenantStore

PREFILL_ROUNDS = 7
LONG, WRITTEN = 8000, 16  # tokens in context, and written behind them in each round
SMALLEST_SHARE = 0.32  # of bytes and time of a restore


@dataclass
class Contender:
    """A model with the same conversation, stored."""

    model: HybridModel
    live: LiveCache
    tenant: TenantStore
    record: SessionRecord

    def restore(self) -> LiveCache:
        """The conversation, from the store."""
        live, _ = restore(self.model, self.tenant, self.record, rebuild=False)
        return live


def rows(bench: Bench) -> list[Row]:
    """Peer is the original, in all rows."""
    hybrid = HybridModel.from_pretrained(HYBRID, notify=bench.say)
    live = hybrid.new_cache()
    hybrid.extend(live, bench.token_ids)
    found: list[Row] = []
    with MemoryStore.open(bench.folder / "store") as store:
        ours, peer = (
            stored(store.tenant(name), model, cache)
            for name, model, cache in (("ours", hybrid, live), ("peer", bench.model, bench.live))
        )
        for one in (ours, peer):
            assert same_tensors(one.model.capture(one.restore()), one.model.capture(one.live))
        found += restores(bench, ours, peer)
    return [*found, prefills(bench, hybrid), decodes(bench, hybrid)]


def stored(tenant: TenantStore, model: HybridModel, live: LiveCache) -> Contender:
    """The conversation, committed."""
    return Contender(model, live, tenant, commit_cache(model, tenant, tenant.create_session("bench"), live))


def restores(bench: Bench, ours: Contender, peer: Contender) -> list[Row]:
    """What is read from the store, and how long that takes until the cache can be used."""
    sizes = [float(one.model.capture(one.live).payload) for one in (ours, peer)]
    times = take_turns({"ours": lambda: use(ours), "peer": lambda: use(peer)}, bench.rounds)
    name, goal = f"restore of {bench.tokens} tokens", Goal("ratio", SMALLEST_SHARE)
    return [
        Row(f"{name}: bytes", sizes[:1], sizes[1:], "bytes", goal, "original"),
        Row(f"{name}: time", times["ours"], times["peer"], "ms", goal, "original"),
    ]


def use(one: Contender) -> None:
    """Restore, and nothing else."""
    assert len(one.restore()) == len(one.live)


def prefills(bench: Bench, hybrid: HybridModel) -> Row:
    """Reading the same tokens."""

    def read(model: HybridModel) -> None:
        model.extend(model.new_cache(), bench.token_ids)

    times = take_turns(
        {"ours": lambda: read(hybrid), "peer": lambda: read(bench.model)}, min(bench.rounds, PREFILL_ROUNDS), warmup=1
    )
    name = f"prefill of {bench.tokens} tokens"
    return Row(name, times["ours"], times["peer"], "ms", Goal("ratio", 1.0), "original")


def decodes(bench: Bench, hybrid: HybridModel) -> Row:
    """A token written behind a long context."""
    text = "\n".join((ROOT / "LICENSE").read_text(encoding="utf-8") for _ in range(4))
    token_ids = bench.model.chat.encode(text)[:LONG]
    assert len(token_ids) == LONG
    caches = {}
    for name, model in (("ours", hybrid), ("peer", bench.model)):
        bench.say(f"Reading {LONG} tokens")
        caches[name] = (model, model.new_cache())
        model.extend(caches[name][1], token_ids)

    def write(name: str) -> float:
        model, live = caches[name]
        fork = live.fork()
        tokens = model.generate(fork, WRITTEN + 1)
        next(tokens)  # the fork's own copy is made here
        began = time.perf_counter()
        count = sum(1 for _ in tokens)
        return (time.perf_counter() - began) * 1e3 / count

    times = take_turns({"ours": lambda: write("ours"), "peer": lambda: write("peer")}, bench.rounds)
    return Row(f"a token behind {LONG} tokens", times["ours"], times["peer"], "ms", Goal("ratio", 1.0), "original")
