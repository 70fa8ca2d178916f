"""Notes of all segments of a tenant that are in force: what each lays down, without what another one says is over."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from memkv.compaction import CompactionStrategy
from memkv.model import HybridModel
from memkv.recall.nearest import Address
from memkv.recall.noting import changed, noted, related
from memkv.recall.stretch import of_user
from memkv.store import Memory, Notes, StoredSegment, TenantStore
from memkv.store.records import NotePlace


class NotesInForce:
    """The notes of one tenant, as they were when they were last looked at.

    Args:
        model: of the sessions.
        tenant: whose they are.
        strategy: that notes what new segments lay down.
    """

    def __init__(self, model: HybridModel, tenant: TenantStore, strategy: CompactionStrategy) -> None:
        self.model, self.tenant, self.strategy = model, tenant, strategy
        self.held: dict[NotePlace, str] = {}

    def look(self) -> None:
        """Read them from the store."""
        self.held = in_force(self.tenant.noted())

    @property
    def addresses(self) -> set[Address]:
        """Of the segments that hold such."""
        return {(session, first) for session, first, _, _ in self.held}

    def of(self, segment: StoredSegment) -> list[str]:
        """Those of one segment."""
        return [text for place, text in places_of(segment) if place in self.held]

    def standing(self, segment: StoredSegment) -> Literal[-1, 0, 1]:
        """Whether a segment holds a note that is in force; -1 where it had some and all are over."""
        if not segment.notes.kept:
            return 0
        return 1 if self.of(segment) else -1

    def write(self, said: Sequence[Memory]) -> Notes:
        """What a stretch lays down; it can change what was said before it, whenever that became a segment."""
        own = of_user(said)
        near = related(self.held, own, self.model.chat.count)
        before = {place: note for place, note in near.items() if self._said_by(place, said[0].created)}
        return noted(self.model, self.strategy, own, before)

    def take_in(self, segment: StoredSegment, said: Sequence[Memory]) -> None:
        """A segment that is in the store now. One that is noted late is changed by what was said after it.

        Raises:
            QuotaExceeded, StorageFull: no room.
        """
        for place in segment.notes.over:
            self.held.pop(place, None)
        mine = dict(places_of(segment))
        for later in self.tenant.segments_after(said[-1].created) if mine else ():
            messages = of_user(self.tenant.stretch(later.session, later.first, later.last))
            if over := changed(messages, later.notes.kept, mine):
                self.tenant.keep_notes(later, Notes(later.notes.kept, (*later.notes.over, *over)))
                mine = {place: text for place, text in mine.items() if place not in over}
        self.held |= mine

    def _said_by(self, place: NotePlace, moment: float) -> bool:
        """Whether the stretch of a note was said before `moment` (seconds since 1970), and is still there."""
        session, first, last, _ = place
        segment = self.tenant.segment(session, first)
        there = segment is not None and segment.last == last
        return there and all(message.created <= moment for message in self.tenant.stretch(session, first, first))


def places_of(segment: StoredSegment) -> list[tuple[NotePlace, str]]:
    """Notes of a segment with their places."""
    return [
        ((segment.session, segment.first, segment.last, index), text) for index, text in enumerate(segment.notes.kept)
    ]


def in_force(segments: Iterable[StoredSegment]) -> dict[NotePlace, str]:
    """Notes of segments, the oldest first, without those that any of them says are over."""
    segments = list(segments)
    over = {place for segment in segments for place in segment.notes.over}
    return {place: text for segment in segments for place, text in places_of(segment) if place not in over}
