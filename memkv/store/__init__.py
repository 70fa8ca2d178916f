"""Memories that outlive the process: text and events are the truth, KV blobs are checked, disposable derivatives."""

from memkv.store.memory_store import MemoryStore
from memkv.store.names import parse_address
from memkv.store.protocols import BlobStore, Index
from memkv.store.records import (
    BlobRef,
    Event,
    GcReport,
    Memory,
    NewEvent,
    NewMemory,
    Notes,
    Problem,
    SessionInfo,
    SessionRecord,
    StoredSegment,
    Tenant,
    Usage,
)
from memkv.store.tenant import TenantStore

__all__ = [
    "BlobRef",
    "BlobStore",
    "Event",
    "GcReport",
    "Index",
    "Memory",
    "MemoryStore",
    "NewEvent",
    "NewMemory",
    "Notes",
    "Problem",
    "SessionInfo",
    "SessionRecord",
    "StoredSegment",
    "Tenant",
    "TenantStore",
    "Usage",
    "parse_address",
]
