"""What was brought back for the last reply, and why: the same account for the terminal and the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from memkv.store import Event, TenantStore


@dataclass(frozen=True)
class Brought:
    """One memory that stood before the last reply.

    Attributes:
        n: its number in the session.
        origin: where it comes from, for people.
        session: where it was said; empty for the session itself.
        first, last: numbers of the messages there.
        said: when, in seconds since 1970; None where it is this session's own.
        score: cosine to the message, or how sure it was that it is touched.
        nbytes: of cache that it takes; None where it was not measured.
        came: `cache`, `text`, `notes` or `part`.
        voices: who speaks there, beside user and assistant.
        why: it came as text, or was read again; empty if neither.
    """

    n: int
    origin: str
    session: str
    first: int
    last: int
    said: float | None
    score: float
    nbytes: int | None
    came: str
    voices: tuple[str, ...]
    why: str


def of_last_reply(tenant: TenantStore, session: str) -> tuple[list[Brought], list[Mapping[str, Any]]]:
    """What came back for it, and what was near and too large (data of `memories_left` events)."""
    events = tenant.events(session)
    turns = [place for place, event in enumerate(events) if event.kind == "turn"]
    since = turns[-2] if len(turns) > 1 else 0
    recent = events[since : turns[-1]] if turns else []
    back = [brought(tenant, event) for event in recent if event.kind == "recalled"]
    return back, [event.data for event in recent if event.kind == "memories_left"]


def brought(tenant: TenantStore, event: Event) -> Brought:
    """One `recalled` event with what the store says of its place."""
    data, of = event.data, event.data.get("of")
    came = data["form"] if data.get("form") in ("notes", "part") else data.get("how", "text")
    if not of:  # of the session itself
        n, why = data["from"], data.get("why", "")
        return Brought(data["memory"], origin(data), "", n, n, None, data["score"], None, came, (), why)
    said = tenant.stretch(of["session"], of["first"], of["first"])
    voices = tuple(voice for voice in data.get("trust", ()) if voice not in ("user", "assistant"))
    created = said[0].created if said else None
    return Brought(
        data["memory"], origin(data), of["session"], of["first"], of["last"], created, data["score"],
        data.get("bytes"), came, voices, data.get("why", ""),
    )  # fmt: skip


def origin(data: Mapping[str, Any]) -> str:
    """Where a recalled text comes from, for people."""
    of = data.get("of")
    if not of:
        return f"message {data['from']}"
    form = {"notes": "the rules of ", "part": "a part of "}.get(data.get("form", ""), "")
    return f"{form}session {of['session']}, items {of['first']} to {of['last']}"
