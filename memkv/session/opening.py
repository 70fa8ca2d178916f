"""How a session comes up: its stored cache checked and restored, or its text read again; never silently empty."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from memkv.compaction import Context, Item, Truncate, to_messages
from memkv.compress import decompress
from memkv.errors import Conflict, DamagedBlob, FingerprintMismatch, MemkvError
from memkv.live import LiveCache
from memkv.model import HybridModel, Progress
from memkv.recall.stretch import text_of
from memkv.session.answering import read
from memkv.session.records import Opened
from memkv.session.room import AIM, tokens_within
from memkv.snapshot import Fingerprint
from memkv.snapshot_file import read_snapshot
from memkv.store import NewEvent, SessionRecord, TenantStore
from memkv.store.records import BROUGHT, KIND, OF

OPENING_TRIES = 3


class Stale(MemkvError):
    """No stored cache fits the stored text, so the text is read again."""


@dataclass(frozen=True)
class Start:
    """A live cache, the stored state it stands for, the items it has read, and what to log with the next commit."""

    record: SessionRecord
    live: LiveCache
    items: tuple[Item, ...]
    opened: Opened
    notes: tuple[NewEvent, ...] = ()


def token_bytes(token_ids: Sequence[int]) -> bytes:
    """Token ids as the store keeps them: 32-bit little-endian integers."""
    return np.asarray(token_ids, dtype="<i4").tobytes()


def items_of(tenant: TenantStore, name: str, numbers: Sequence[int]) -> tuple[Item, ...]:
    """Items of session `name` by number, from the store, which is the truth; those that were forgotten are left out.

    A memory of another conversation is stored as the place that it came from.
    """
    known = {memory.n: memory for memory in tenant.memories(name)}
    found = []
    for memory in (known[n] for n in numbers if n in known):
        kind = memory.data.get(KIND, "memory") if OF in memory.data or BROUGHT in memory.data else memory.kind
        sure = memory.data.get("sure")
        found.append(Item(memory.n, kind, memory.role, text_of(tenant, memory), memory.sources, sure))
    return tuple(found)


def open_cache(
    model: HybridModel, tenant: TenantStore, name: str, budget: int, rebuild: bool, progress: Progress | None
) -> Start:
    """Restore the stored cache of session `name`; rebuild it from text where it is gone or damaged, and say so.

    Raises:
        FingerprintMismatch: it belongs to another model, and `rebuild` is off.
        Conflict: another writer moved the session on all the time.
    """
    for _ in range(OPENING_TRIES - 1):
        try:
            return open_once(model, tenant, name, budget, rebuild, progress)
        except Conflict:
            continue  # the state that was being opened is not the latest any more
    return open_once(model, tenant, name, budget, rebuild, progress)


def open_once(
    model: HybridModel, tenant: TenantStore, name: str, budget: int, rebuild: bool, progress: Progress | None
) -> Start:
    """`open_cache`, of the state at one head."""
    began = time.perf_counter()
    record = tenant.session(name)
    items = items_of(tenant, name, record.context)
    if not items:
        return Start(record, model.new_cache(), (), Opened("new", 0, 0, time.perf_counter() - began))
    try:
        live, size = restore(model, tenant, record, rebuild)
        opened = Opened("restored", len(live), 0, time.perf_counter() - began, size)
        return Start(record, live, items, opened)
    except (DamagedBlob, Stale) as error:
        live, items, notes = rebuild_from_text(model, items, record.next_n, budget, progress)
        note = NewEvent("rebuilt", {"reason": error.message, "tokens": len(live)})
        opened = Opened("rebuilt", 0, len(live), time.perf_counter() - began, 0, error.message)
        head, record = record.head, tenant.session(name)  # without the blob that was put into quarantine
        if record.head != head:
            raise Conflict(f"Session {name!r} moved while it was opened", "Open it again.") from error
        return Start(record, live, items, opened, (note, *notes))


def restore(model: HybridModel, tenant: TenantStore, record: SessionRecord, rebuild: bool) -> tuple[LiveCache, int]:
    """The live cache from the stored blob, and the blob's bytes.

    Raises:
        FingerprintMismatch: see `open_cache`.
        DamagedBlob: it failed a check and is quarantined.
        Stale: nothing is stored, or it belongs to another model and `rebuild` is on.
    """
    if record.blob is None or record.fingerprint is None:
        raise Stale("No cache is stored for this text")
    try:
        differences = Fingerprint(**record.fingerprint).differences(model.fingerprint)
    except TypeError as error:
        raise Stale("The stored fingerprint is of another format") from error
    if differences:
        made_with = record.settings.get("model", "the model named above")
        mismatch = FingerprintMismatch(
            differences,
            f"Load {made_with}, which it was made with, or read the text again with this one: `--rebuild` on the "
            "command line, Session(..., rebuild=True) in Python.",
        )
        if not rebuild:
            raise mismatch
        raise Stale(mismatch.message)
    snapshot = tenant.take_blob(record.name, record.head, read_snapshot)
    try:
        snapshot = decompress(snapshot)
        if token_bytes(snapshot.token_ids) != record.tokens:
            raise DamagedBlob("The stored cache belongs to other text", "It will be rebuilt from the stored text.")
        return model.restore(snapshot), record.blob.length
    except (DamagedBlob, FingerprintMismatch) as error:
        # The record's fingerprint fitted, so one inside the blob that does not is damage too.
        if tenant.session(record.name).head == record.head:
            tenant.quarantine(record.name, error.message)
        raise DamagedBlob(error.message, error.next_step) from error


def rebuild_from_text(
    model: HybridModel, items: tuple[Item, ...], next_n: int, budget: int, progress: Progress | None
) -> tuple[LiveCache, tuple[Item, ...], tuple[NewEvent, ...]]:
    """Read the stored text again; the oldest messages stay out where it no longer fits, which is noted."""
    chat, live, limit = model.chat, model.new_cache(), model.max_tokens
    notes: tuple[NewEvent, ...] = ()
    tokens = len(chat.encode(chat.stable(to_messages(model, items))))
    room = budget if limit is None else min(budget, model.profile.at(limit))
    if tokens and model.profile.at(tokens) > room:
        aim = model.profile.at(int(AIM * tokens_within(model, room)))
        found = Truncate().compact(Context(model, items, live, next_n), aim, room)
        items = found.items
        before = model.profile.at(tokens)
        ledger = {"strategy": "truncate", "before": before, "after": found.after, "ledger": found.ledger.as_data()}
        notes = (NewEvent("compaction", ledger),)
    read(model, live, "", chat.stable(to_messages(model, items)), progress)
    return live, items, notes
