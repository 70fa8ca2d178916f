"""A page fault for memory: a question that touches what left the context brings that stretch back, as text."""

from __future__ import annotations

from memkv.compaction import Item
from memkv.model import HybridModel
from memkv.recall import Gone, Stretch, touched
from memkv.store import TenantStore

SHARE = 0.125  # of the context budget that may be spent on one question
MOST = 192  # tokens for one question; less than what every turn keeps free of the model's positions


def bring_back(
    model: HybridModel, tenant: TenantStore, name: str, items: tuple[Item, ...], question: str, free: int
) -> list[Stretch]:
    """What of session `name` the question touches and the context does not hold, within `free` bytes of cache."""
    present = {item.n for item in items}
    gone = [memory for memory in tenant.memories(name, kind="message") if memory.n not in present]
    profile = model.profile
    room = min(MOST, int((free - profile.at(1)) // max(1, profile.at(2) - profile.at(1))))
    if not gone or room < 1:
        return []
    declared = declared_lost(tenant, name)
    found = [Gone(memory.n, memory.text, declared.get(memory.n, 1.0)) for memory in gone]
    back = {item.text for item in items if item.kind == "recalled"}
    stretches = touched(question, found, room, lambda text: len(model.chat.encode(text)))
    return [stretch for stretch in stretches if stretch.text not in back]


def declared_lost(tenant: TenantStore, name: str) -> dict[int, float]:
    """Message -> probability that it was lost, as the last compaction that took it out declared it.

    Where a strategy declares nothing, the words that its result shares with the message stand in for it.
    """
    lost: dict[int, float] = {}
    for event in tenant.events(name, kind="compaction"):
        for entry in event.data.get("ledger", ()):
            kept = entry["probability"] if entry["probability"] is not None else entry["overlap"]
            if entry["status"] != "verbatim":
                lost[entry["memory"]] = 1.0 - (kept or 0.0)
    return lost
