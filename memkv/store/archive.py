"""One session as one file: magic, version, manifest, blob, checksum. Import trusts nothing in it.

In order, integers little endian: magic `MEMKVSES`; u32 format version; u64 length of the manifest; the manifest, JSON
with the session, its memories, events, context and tokens; the blob, as long as the manifest says (0: none); 32 bytes
of blake3 over everything before.
"""

from __future__ import annotations

import base64
import dataclasses
import os
import secrets
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from blake3 import blake3

from memkv.config import format_bytes
from memkv.errors import Conflict, DamagedBlob, InvalidInput, NotFound, StorageFull
from memkv.store.backend import Backend, over_quota
from memkv.store.blob_files import storage_errors, sync_folder
from memkv.store.hashed_write import CHUNK
from memkv.store.manifest import Manifest, parse_manifest
from memkv.store.names import check_name, to_json
from memkv.store.records import BROUGHT, KIND, OF, BlobRef, Memory, SessionRecord
from memkv.store.spoken import as_text

MAGIC = b"MEMKVSES"
VERSION = 1
HEADER = struct.Struct("<8sIQ")
CHECKSUM_BYTES = 32
LONGEST_MANIFEST = 256 << 20


def export_session(backend: Backend, tenant_id: str, record: SessionRecord, path: Path, blob: memoryview | None) -> int:
    """Write the session with `blob`, which is its stored KV, into one new file; its bytes.

    Raises:
        Conflict: another writer moved the session's head since `record` was read.
    """
    name = record.name
    memories = backend.index.memories(tenant_id, name, None, None, -1, 0)
    events = backend.index.events(tenant_id, name, None)
    if backend.session(tenant_id, name) != record:
        raise Conflict(f"Session {name!r} moved while it was exported", "Export it again.")
    manifest = to_json(
        {
            "session": {
                "name": name, "head": record.head, "next_n": record.next_n, "next_seq": record.next_seq,
                "settings": record.settings, "created": record.created, "updated": record.updated,
            },
            "memories": [
                {k: v for k, v in dataclasses.asdict(whole(backend, tenant_id, memory)).items() if k != "session"}
                for memory in memories
            ],
            "events": [
                {k: v for k, v in dataclasses.asdict(event).items() if k != "session"}
                for event in events
            ],
            "context": list(record.context),
            "tokens": base64.b64encode(record.tokens).decode(),
            "fingerprint": record.fingerprint,
            "blob_length": 0 if blob is None else len(blob),
        },
        "The session",
    ).encode()  # fmt: skip
    if len(manifest) > LONGEST_MANIFEST:
        raise InvalidInput(
            f"Session {name!r} has {format_bytes(len(manifest))} of text; an export holds 256 MiB", "Forget some of it."
        )
    parts = [HEADER.pack(MAGIC, VERSION, len(manifest)), manifest, blob or b""]
    checksum = blake3()
    for part in parts:
        checksum.update(part)
    write_file(path, [*parts, checksum.digest()])
    return sum(len(part) for part in parts) + CHECKSUM_BYTES


def whole(backend: Backend, tenant_id: str, memory: Memory) -> Memory:
    """A memory with its text, also where that lies in another session, which the file does not hold."""
    of = memory.data.get(OF)
    if of is None:
        return memory
    text = memory.text or as_text(backend.index.stretch(tenant_id, of["session"], of["first"], of["last"]))
    kind = {KIND: memory.data[KIND]} if KIND in memory.data else {}
    return dataclasses.replace(memory, text=text, data={BROUGHT: True, **kind})


def write_file(path: Path, parts: list[bytes | memoryview]) -> None:
    """Temp file beside `path`, fsync, rename, fsync of the folder."""
    temp = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with storage_errors():
            descriptor = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                for part in parts:
                    file.write(part)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temp, path)
            sync_folder(path.parent)
    except OSError as error:
        raise InvalidInput(f"Cannot write {path}: {error.strerror}", "Name a file in a folder that exists.") from error
    finally:
        temp.unlink(missing_ok=True)


def import_session(backend: Backend, tenant_id: str, path: Path, name: str | None) -> SessionRecord:
    """Add the session in the file to the tenant. Nothing is written unless everything in it checks out."""
    try:
        file = path.open("rb", buffering=0)
    except FileNotFoundError as error:
        raise NotFound(f"No file {path}", "Check the path.") from error
    except OSError as error:
        raise InvalidInput(f"Cannot open {path}: {error.strerror}", "Check the path.") from error
    with file:
        reader = ArchiveReader(file, path)
        manifest = reader.manifest()
        session = check_name(name or manifest.record.name, "session")
        refuse_existing(backend, tenant_id, session)
        refuse_too_large(backend, tenant_id, manifest)
        if not manifest.blob_length:
            list(reader.blob(0))  # no blob, but the checksum
            return add_session(backend, tenant_id, session, manifest, None)
        ref: BlobRef | None = None
        try:
            with backend.blobs.writing():
                ref = backend.blobs.put(backend.tenant(tenant_id).key, reader.blob(manifest.blob_length))
                return add_session(backend, tenant_id, session, manifest, ref)
        except BaseException:
            backend.discard(ref)
            raise


def add_session(
    backend: Backend, tenant_id: str, session: str, manifest: Manifest, ref: BlobRef | None
) -> SessionRecord:
    """The transaction of an import."""
    record = dataclasses.replace(manifest.record, name=session, blob=ref, updated=time.time())
    with backend.growing(tenant_id):
        refuse_existing(backend, tenant_id, session)
        backend.index.save_session(tenant_id, record)
        backend.index.add_memories(tenant_id, session, manifest.memories)
        backend.index.add_events(tenant_id, session, manifest.events)
    return record


def refuse_existing(backend: Backend, tenant_id: str, session: str) -> None:
    """Raise Conflict when the name is taken."""
    if backend.index.session(tenant_id, session) is not None:
        raise Conflict(f"Session {session!r} exists already", "Import it under another name with --name.")


def refuse_too_large(backend: Backend, tenant_id: str, manifest: Manifest) -> None:
    """Refuse a blob that cannot fit before any of it is written."""
    tenant, used = backend.tenant(tenant_id), backend.index.usage(tenant_id).total
    if tenant.quota_bytes is not None and used + manifest.blob_length > tenant.quota_bytes:
        raise over_quota(tenant, used, used + manifest.blob_length)
    if manifest.blob_length > backend.blobs.free_bytes():
        raise StorageFull(f"The blob in the file needs {format_bytes(manifest.blob_length)}", "Free some space.")


class ArchiveReader:
    """Reads an export once, from front to back, hashing as it goes."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        """Start at the front of `file`; `path` is for messages."""
        self.file, self.path, self.hasher = file, path, blake3()
        self.size = os.fstat(file.fileno()).st_size

    def manifest(self) -> Manifest:
        """The checked manifest.

        Raises:
            DamagedBlob: not an export, cut off, or with lengths or contents that cannot be.
            InvalidInput: an export of a newer memkv.
        """
        if self.size < HEADER.size + CHECKSUM_BYTES:
            raise self.damaged(f"has only {self.size} bytes")
        magic, version, length = HEADER.unpack(self._take(HEADER.size))
        if magic != MAGIC:
            raise self.damaged("is not an export of memkv")
        if version != VERSION:
            raise InvalidInput(f"{self.path} has export format {version}, this memkv reads {VERSION}", "Upgrade memkv.")
        room = self.size - HEADER.size - CHECKSUM_BYTES
        if length > min(room, LONGEST_MANIFEST):
            raise self.damaged(f"announces {length} bytes of manifest in {self.size} bytes of file")
        manifest = parse_manifest(self._take(length), self.path)
        if manifest.blob_length != room - length:
            raise self.damaged(f"announces a blob of {manifest.blob_length} bytes and has {room - length}")
        return manifest

    def blob(self, length: int) -> Iterator[bytes]:
        """The blob in chunks; after the last one, DamagedBlob unless the checksum of the whole file is right."""
        while length:
            chunk = self._take(min(CHUNK, length))
            length -= len(chunk)
            yield chunk
        expected = self.hasher.digest()
        if self._take(CHECKSUM_BYTES) != expected:
            raise self.damaged("does not have its checksum")

    def damaged(self, what: str) -> DamagedBlob:
        """The error for this file."""
        return DamagedBlob(f"{self.path} {what}", "Export the session again; nothing was imported.")

    def _take(self, count: int) -> bytes:
        parts, missing = [], count
        while missing:
            part = self.file.read(missing)
            if not part:
                raise self.damaged("was cut off while it was read")
            self.hasher.update(part)
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)
