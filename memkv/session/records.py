"""What a session hands out, and the draft that a turn works on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from memkv.cache_size import CacheSize
from memkv.compaction import Item
from memkv.live import LiveCache
from memkv.session.long_term import Found
from memkv.store import NewEvent, NewMemory
from memkv.store.records import KIND, OF


@dataclass(frozen=True)
class Opened:
    """How a session came up: `new`, `restored` from its stored cache, or `rebuilt` from its text, and why."""

    how: Literal["new", "restored", "rebuilt"]
    reused_tokens: int
    prefilled_tokens: int
    seconds: float
    blob_bytes: int = 0
    reason: str = ""


@dataclass(frozen=True)
class Reply:
    """What a turn gives back.

    `size` is the live cache measured after the turn, `reused_tokens` were not read again, `spliced_tokens` came out of
    memories as cache, `prefilled_tokens` were read new, `stored_bytes` lie on disk for this session's cache; `ended`
    says whether the reply came to its end, and was not cut off at its most tokens or by Ctrl-C; `events` are what was
    logged, newest last.
    """

    text: str
    size: CacheSize
    reused_tokens: int
    prefilled_tokens: int
    generated_tokens: int
    first_token_seconds: float
    seconds: float
    stored_bytes: int
    interrupted: bool = False
    ended: bool = True
    events: tuple[NewEvent, ...] = ()
    spliced_tokens: int = 0


def as_memory(item: Item) -> NewMemory:
    """What a compaction made, as it is stored."""
    data = {} if item.sure is None else {"sure": item.sure}
    return NewMemory(item.text, kind=item.kind, role=item.role, sources=item.sources, data=data)


@dataclass
class Draft:
    """What a commit will add to a session; kept apart so that a failed commit leaves the session as it was."""

    live: LiveCache
    items: list[Item]
    next_n: int
    memories: list[NewMemory] = field(default_factory=list)
    events: list[NewEvent] = field(default_factory=list)

    @property
    def free_n(self) -> int:
        """The number that the next new memory gets."""
        return self.next_n + len(self.memories)

    def add(
        self,
        kind: str,
        role: str,
        text: str,
        data: Mapping[str, Any] | None = None,
        sources: tuple[int, ...] = (),
    ) -> None:
        """Append an item to the context and to what will be stored."""
        self.items.append(Item(self.free_n, kind, role, text, sources))
        self.memories.append(NewMemory(text, kind=kind, role=role, sources=sources, data=dict(data or {})))

    def bring(self, found: Found, how: str, why: str) -> None:
        """Append a memory of an earlier conversation; a whole one is stored as the place that it came from.

        Args:
            found: the memory.
            how: as `cache` or as `text`.
            why: it came as text, or its cache had to be made again; empty if neither.
        """
        of = found.place
        came = {"score": found.score, "bytes": found.nbytes, "how": how, "why": why, "trust": list(found.trust)}
        self.log("recalled", {"memory": self.free_n, "of": of, "form": found.form, **came})
        whole = found.form == "whole"
        kind = "memory" if whole else "noted"
        self.items.append(Item(self.free_n, kind, "", found.text))
        text = "" if whole else found.text  # notes may be made anew, and a part was for one message
        self.memories.append(NewMemory(text, kind="recalled", data={OF: of} if whole else {OF: of, KIND: kind}))

    def brought(self, session: str) -> set[int]:
        """Numbers of the messages of a session that came back whole in this turn as a memory."""
        places = [memory.data[OF] for memory in self.memories if OF in memory.data and not memory.text]
        return {n for of in places if of["session"] == session for n in range(of["first"], of["last"] + 1)}

    def log(self, kind: str, data: Mapping[str, Any]) -> None:
        """Append an event; numbers and sizes only, never text."""
        self.events.append(NewEvent(kind, data))
