"""The manifest of an export, parsed as hostile input: strict JSON, exact keys, exact types, numbers that exist."""

from __future__ import annotations

import base64
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from memkv.errors import DamagedBlob, InvalidInput
from memkv.store.names import check_name, check_text, to_json
from memkv.store.records import Event, Memory, SessionRecord

LARGEST = 2**53  # of any number: exact in JSON, far inside SQLite's integers


@dataclass(frozen=True)
class Manifest:
    """What an export says of its session; `record.blob` is not set."""

    record: SessionRecord
    memories: list[Memory]
    events: list[Event]
    blob_length: int


def parse_manifest(data: bytes, path: Path) -> Manifest:
    """Read and check the manifest.

    Raises:
        DamagedBlob: it is not what `export` writes.
        InvalidInput: a session name that no store accepts.
    """
    try:
        tree = json.loads(data.decode(), object_pairs_hook=unique_keys, parse_constant=no_constant)
        return build(tree)
    except InvalidInput:
        raise
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise DamagedBlob(
            f"The manifest of {path} is damaged: {error}", "Export the session again; nothing was imported."
        ) from error


def build(tree: Any) -> Manifest:
    """The records in a parsed tree; ValueError names the first thing that is wrong."""
    top = fields(tree, "session", "memories", "events", "context", "tokens", "fingerprint", "blob_length")
    session = fields(top["session"], "name", "head", "next_n", "next_seq", "settings", "created", "updated")
    name = check_name(typed(session["name"], str), "session")
    memories = [build_memory(item, name) for item in typed(top["memories"], list)]
    events = [build_event(item, name) for item in typed(top["events"], list)]
    record = SessionRecord(
        name=name, head=whole(session["head"]), next_n=whole(session["next_n"], 1),
        next_seq=whole(session["next_seq"], 1), context=numbers(top["context"]), settings=tree_of(session["settings"]),
        fingerprint=fingerprint(top["fingerprint"]), blob=None, created=moment(session["created"]),
        updated=moment(session["updated"]), tokens=base64.b64decode(typed(top["tokens"], str), validate=True),
    )  # fmt: skip
    known = rising([memory.n for memory in memories], record.next_n, "memory")
    rising([event.seq for event in events], record.next_seq, "event")
    if not set(record.context) <= known:
        raise ValueError("the context names a memory that does not exist")
    for memory in memories:
        if not set(memory.sources) <= known or any(n >= memory.n for n in memory.sources):
            raise ValueError(f"memory {memory.n} derives from one that is not before it")
    return Manifest(record, memories, events, whole(top["blob_length"]))


def build_memory(item: Any, session: str) -> Memory:
    """One memory."""
    row = fields(item, "n", "kind", "role", "text", "created", "sources", "data")
    return Memory(
        session, whole(row["n"], 1), text(row["kind"]), text(row["role"]), text(row["text"]), moment(row["created"]),
        numbers(row["sources"]), tree_of(row["data"]),
    )  # fmt: skip


def build_event(item: Any, session: str) -> Event:
    """One event."""
    row = fields(item, "seq", "kind", "created", "data")
    return Event(session, whole(row["seq"], 1), text(row["kind"]), moment(row["created"]), tree_of(row["data"]))


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, which must not name a key twice."""
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key appears twice")
    return result


def no_constant(name: str) -> NoReturn:
    """Refuse NaN and the infinities, which are not JSON."""
    raise ValueError(f"{name} is not JSON")


def fields(item: Any, *names: str) -> dict[str, Any]:
    """An object with exactly these keys."""
    row: dict[str, Any] = typed(item, dict)
    if row.keys() != set(names):
        raise ValueError(f"expected the keys {', '.join(names)}")
    return row


def typed(item: Any, kind: type) -> Any:
    """The item, of exactly this type: True is no integer here."""
    if type(item) is not kind:
        raise ValueError(f"expected {kind.__name__}, found {type(item).__name__}")
    return item


def whole(item: Any, smallest: int = 0) -> int:
    """A whole number from `smallest` to 2^53."""
    number: int = typed(item, int)
    if not smallest <= number <= LARGEST:
        raise ValueError("a number is out of range")
    return number


def numbers(item: Any) -> tuple[int, ...]:
    """Distinct numbers of memories."""
    found = tuple(whole(number, 1) for number in typed(item, list))
    if len(set(found)) != len(found):
        raise ValueError("a memory is named twice")
    return found


def rising(found: list[int], limit: int, what: str) -> set[int]:
    """Numbers in rising order, all below `limit`."""
    if any(one >= other for one, other in zip(found, found[1:], strict=False)) or (found and found[-1] >= limit):
        raise ValueError(f"the numbers of the {what} records are not in order")
    return set(found)


def moment(item: Any) -> float:
    """Seconds since 1970."""
    if type(item) not in (int, float) or not math.isfinite(item) or not 0 <= item < LARGEST:
        raise ValueError("a time is out of range")
    return float(item)


def text(item: Any) -> str:
    """Text that can be stored."""
    found: str = typed(item, str)
    check_text(found)
    return found


def tree_of(item: Any) -> dict[str, Any]:
    """A JSON object that can be stored."""
    found: dict[str, Any] = typed(item, dict)
    to_json(found, "A record")
    return found


def fingerprint(item: Any) -> dict[str, str] | None:
    """Text by name, or nothing."""
    return None if item is None else {text(name): text(value) for name, value in typed(item, dict).items()}
