"""A page fault for memory: a question that touches what left the context brings it back.

As cache, where a whole stretch of it is near (`LongTerm`); here as text, the sentence that it touches.
"""

from __future__ import annotations

from collections.abc import Collection

from memkv.compaction import Item
from memkv.compaction.base import word_overlap
from memkv.compaction.declare import MADE_FROM
from memkv.model import HybridModel
from memkv.recall.lost import Gone, Stretch, touched
from memkv.store import TenantStore

MOST = 192  # tokens for one question


def bring_back(
    model: HybridModel,
    tenant: TenantStore,
    name: str,
    items: tuple[Item, ...],
    brought: Collection[int],
    question: str,
    room: int,
) -> list[Stretch]:
    """What of session `name` the question touches and the context does not hold, within `room` tokens.

    Messages in `brought` have come back whole already, as memories.
    """
    present = {*brought, *(item.n for item in items)}
    gone = [memory for memory in tenant.memories(name, kind="message") if memory.n not in present]
    if not gone or room < 1:
        return []
    declared = declared_lost(tenant, name)
    found = [Gone(memory.n, memory.text, declared.get(memory.n, 1.0)) for memory in gone]
    back = {item.text for item in items if item.kind == "recalled"}
    stretches = touched(question, found, min(MOST, room), model.chat.count)
    return [stretch for stretch in stretches if stretch.text not in back]


def declared_lost(tenant: TenantStore, name: str) -> dict[int, float]:
    """Message -> probability that it was lost, as the last compaction that took it out declared it.

    Where a strategy declares nothing, the words that its result shares with the message stand in for it. A note that
    was dropped, because what it said no longer holds, takes the messages it was made from along; one that was left to
    the store for want of room makes them lost.
    """
    lost: dict[int, float] = {}
    memories = {memory.n: memory for memory in tenant.memories(name)}
    for event in tenant.events(name, kind="compaction"):
        for entry in event.data.get("ledger", ()):
            n, status = entry["memory"], entry["status"]
            kept = entry["probability"] if entry["probability"] is not None else entry["overlap"]
            if status != "verbatim":
                lost[n] = 1.0 - (kept or 0.0)
            note = memories.get(n)
            if note is None or note.kind != "summary" or status not in ("dropped", "store_only"):
                continue
            for source in note.sources:
                if source in memories and word_overlap(note.text, memories[source].text) >= MADE_FROM:
                    lost[source] = float(status == "store_only")
    return lost
