"""Save a live cache as a session does: snapshot, safetensors bytes, one durable commit."""

from __future__ import annotations

from dataclasses import asdict

from memkv import HybridModel
from memkv.live import LiveCache
from memkv.session.opening import token_bytes
from memkv.snapshot_file import to_buffers
from memkv.store import SessionRecord, TenantStore


def commit_cache(model: HybridModel, tenant: TenantStore, record: SessionRecord, live: LiveCache) -> SessionRecord:
    """Make `live` the new head of the session of `record`."""
    snapshot = model.capture(live)
    return tenant.commit(
        record.name,
        record.head,
        context=(),
        tokens=token_bytes(live.token_ids),
        fingerprint=asdict(snapshot.fingerprint),
        blob=to_buffers(snapshot),
    )
