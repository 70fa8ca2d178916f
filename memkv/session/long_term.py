"""Memories of earlier conversations: made of what was said, and found again where a message is near them.

A stretch of messages becomes a segment: its cache, read alone (`memkv.splice`), its vectors, and notes of what it lays
down. All are derived; the text stays the truth, so that whatever is missing or damaged, or of another model, is made
again from it. A stretch comes back whole, as cache, or with its notes in force, as text.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from memkv.compaction import CompactionStrategy, Pinned
from memkv.compress import KVCompressor, decompress
from memkv.errors import DamagedBlob, NotFound, QuotaExceeded, StorageFull, UnsupportedModel
from memkv.model import HybridModel
from memkv.recall.choosing import STANDING, Candidate, Form, choose
from memkv.recall.embedding import DIMENSIONS, NAME, embed
from memkv.recall.nearest import Address, Nearest, as_bytes
from memkv.recall.noting import noted, related
from memkv.recall.stretch import of_user, searched, segment_tokens, trust
from memkv.session.at_rest import at_rest, quantizing
from memkv.snapshot import CacheSnapshot
from memkv.snapshot_file import read_snapshot, to_buffers
from memkv.splice import Segment, Splicer
from memkv.splice.segment import unpacked
from memkv.store import Memory, Notes, StoredSegment, TenantStore
from memkv.store.records import NotePlace
from memkv.store.spoken import as_notes, as_text

STRETCH = 256  # tokens from which on a stretch of messages is finished
REPAIR = 8  # tokens of a segment that are read again where it is put
CAUGHT_UP = 4  # sessions whose memories are made at the first turn of another one
EMBEDDED_AT_ONCE = 256  # segments
VECTOR_BYTES = 4 * DIMENSIONS
NEAR = 24  # nearest segments that are looked at for one message


@dataclass(frozen=True)
class Found:
    """A segment that comes back, with its text: `whole`, or its `notes` that are in force.

    `score` is the message's cosine to what is nearest to it in the segment, `nbytes` what it takes in the live cache,
    `trust` who said it.
    """

    stored: StoredSegment
    text: str
    score: float
    nbytes: int
    trust: tuple[str, ...]
    form: Form = "whole"


class LongTerm:
    """What a tenant's sessions left behind, for one model.

    Args:
        model: of the sessions.
        tenant: whose they are.
        codec: how new segments are stored; None as they are. Of one that evicts only the quantizing part is used, as a
            splice needs all entries.
        strategy: that notes what new segments lay down (`memkv.recall.noting`); None goes by the wording alone.
    """

    def __init__(
        self,
        model: HybridModel,
        tenant: TenantStore,
        codec: KVCompressor | None = None,
        strategy: CompactionStrategy | None = None,
    ) -> None:
        self.model, self.tenant, self.strategy = model, tenant, strategy or Pinned()
        self.codec = quantizing(codec)
        self.as_text = ""  # why memories come back as text, if they do

    @cached_property
    def splicer(self) -> Splicer | None:
        """None where this model cannot take in what it did not read; `as_text` then says why."""
        if not self.model.chat.takes_late_system:
            self.as_text = "Its chat template has no place for a system message between turns."
            return None
        try:
            return self.model.once(Splicer)
        except UnsupportedModel as error:
            self.as_text = error.message
            return None

    @cached_property
    def _nearest(self) -> Nearest:
        """All vectors; those that are missing, damaged or of another embedding model are made."""
        stored = [row for row in self.tenant.vectors(NAME) if row[2] and len(row[2]) % VECTOR_BYTES == 0]
        nearest = Nearest.of(DIMENSIONS, stored, self._holding, STANDING)
        new = self.tenant.unembedded(NAME, VECTOR_BYTES)
        for start in range(0, len(new), EMBEDDED_AT_ONCE):  # stored as it goes, so that Ctrl-C loses little
            nearest.add(*self._embedded(new[start : start + EMBEDDED_AT_ONCE]), self._holding)
        return nearest

    @cached_property
    def _notes(self) -> dict[NotePlace, str]:
        """Notes of all segments that are in force, the oldest first."""
        found: dict[NotePlace, str] = {}
        for segment in self.tenant.noted():
            add_notes(found, segment)
        return found

    @property
    def _holding(self) -> set[Address]:
        """Addresses of the segments that hold such."""
        return {(session, first) for session, first, _, _ in self._notes}

    # -- making

    def remember(self, name: str, finished: bool = False) -> list[StoredSegment]:
        """Make segments of the messages of session `name` that are in none; of the last ones only if it is finished.

        Raises:
            QuotaExceeded, StorageFull: no room.
        """
        taken = {n for known in self.tenant.segments(name) for n in range(known.first, known.last + 1)}
        new = stretches(self.tenant.memories(name), taken, self.model.chat.count, finished)
        made = [self._make(StoredSegment(name, first, last, time.time())) for first, last in new]
        if made and "_nearest" in self.__dict__:  # else whoever looks first will embed them
            self._nearest.add(*self._embedded(made), self._holding)
        return made

    def catch_up(self, present: str, most: int = CAUGHT_UP) -> list[StoredSegment]:
        """Make segments of what other sessions left unmade: they were killed, or are older than segments are.

        Of the `most` sessions that were used last: their texts are read, and somebody waits. The earliest of them
        first, as later ones change what earlier ones laid down.
        """
        behind = [name for name in self.tenant.unsegmented() if name != present][:most]
        return [segment for name in reversed(behind) for segment in self.remember(name, finished=True)]

    def _make(self, segment: StoredSegment) -> StoredSegment:
        """Read a stretch alone and store its cache and its notes; without a splicer there is no cache."""
        said = self.tenant.stretch(segment.session, segment.first, segment.last)
        cache = None if self.splicer is None else self._read(self.splicer, said)
        segment = replace(segment, notes=self._noted(said))
        self._keep(segment, cache, len(said), segment.notes)
        add_notes(self._notes, segment)
        return segment

    def _noted(self, said: Sequence[Memory]) -> Notes:
        """What a stretch lays down; it can change what was said before it, whenever that became a segment."""
        own = of_user(said)
        near = related(self._notes, own, self.model.chat.count)
        before = {place: note for place, note in near.items() if self._said_by(place, said[0].created)}
        return noted(self.model, self.strategy, own, before)

    def _said_by(self, place: NotePlace, moment: float) -> bool:
        """Whether the stretch of a note was said before `moment` (seconds since 1970), and is still there."""
        session, first, last, _ = place
        segment = self.tenant.segment(session, first)
        there = segment is not None and segment.last == last
        return there and all(message.created <= moment for message in self.tenant.stretch(session, first, first))

    def _read(self, splicer: Splicer, said: Sequence[Memory]) -> CacheSnapshot:
        """The cache of a stretch that is read alone, as it is stored.

        Raises:
            NotFound: nothing was said.
        """
        if not said:
            raise NotFound("Nothing is left of this memory", "It was forgotten meanwhile; say your message again.")
        lead, tokens = segment_tokens(self.model.chat, as_text(said))
        return at_rest(self.codec, splicer.encode(lead, tokens, min(REPAIR, len(tokens))).packed())[0]

    def _keep(
        self, segment: StoredSegment, cache: CacheSnapshot | None, messages: int, notes: Notes | None = None
    ) -> None:
        """Store a segment of so many messages; without notes it keeps those that it has."""
        buffers = None if cache is None else to_buffers(cache)
        made_for = None if cache is None else asdict(cache.fingerprint)
        self.tenant.keep_segment(segment.session, segment.first, segment.last, messages, buffers, made_for, notes)

    def _embedded(self, segments: Sequence[StoredSegment]) -> tuple[list[Address], NDArray[np.float32]]:
        """Vectors (ND) of segments, each with its address; they are stored, if there is room for them.

        Segments of which nothing is left are passed by: they were forgotten this moment.
        """
        said = [self.tenant.stretch(segment.session, segment.first, segment.last) for segment in segments]
        found = {(each.session, each.first): searched(text) for each, text in zip(segments, said, strict=True) if text}
        addresses = [address for address, texts in found.items() for _ in texts]
        vectors_ND = embed([text for texts in found.values() for text in texts])
        ends = np.cumsum([len(texts) for texts in found.values()])[:-1]
        parts = np.split(vectors_ND, ends.astype(int))
        rows = [(*address, as_bytes(part)) for address, part in zip(found, parts, strict=False)]  # none of none
        with suppress(QuotaExceeded, StorageFull, NotFound):  # they are derived: whoever comes next makes them again
            self.tenant.keep_vectors(NAME, rows)
        return addresses, vectors_ND

    # -- finding

    def find(
        self, text: str, session: str, present: Collection[int], budget: int, back: Collection[str] = ()
    ) -> list[Found]:
        """The segments that are worth most for a message within `budget` bytes of cache, the oldest first.

        Args:
            text: the message.
            session: that it is said in.
            present: numbers of the messages of that session that its context holds.
            budget: bytes.
            back: texts of memories that it holds already.
        """
        if not len(self._nearest):
            return []
        near, ages, found = [], [], {}
        now = time.time()
        for each in self._nearest.search(embed([text])[0], NEAR + len(back) + len(self.tenant.segments(session))):
            stored = self.tenant.segment(*each.address)
            if stored is None or (stored.session == session and in_context(stored, present)):
                continue
            messages = self.tenant.stretch(stored.session, stored.first, stored.last)
            every = self._forms(stored, messages, each.cosine, session)
            forms = {form: one for form, one in every.items() if one.text not in back}
            if not messages or "whole" not in forms:  # forgotten by another process this moment, or here
                continue
            near.append(each)
            ages.append(now - messages[-1].created)
            found[each.address] = forms
            if len(found) == NEAR:
                break
        candidates = [
            Candidate(
                each.address,
                forms["whole"].nbytes,
                each.cosine,
                age,
                self._standing(forms["whole"].stored),
                forms["notes"].nbytes if "notes" in forms else 0,
            )
            for each, age in zip(near, ages, strict=True)
            for forms in [found[each.address]]
        ]
        chosen = choose(candidates, [each.vector_D for each in near], budget)
        return [found[each.address][form] for each, form in chosen]

    def _forms(
        self, stored: StoredSegment, messages: Sequence[Memory], cosine: float, session: str
    ) -> dict[Form, Found]:
        """The forms in which a segment can come back; of the session itself whole only, as it has notes of its own."""
        in_force = [text for place, text in places_of(stored) if place in self._notes]
        texts: dict[Form, str] = {"whole": as_text(messages)}
        if in_force and messages and stored.session != session:
            texts["notes"] = as_notes(messages[0].created, in_force)
        score, voices = round(cosine, 4), trust(messages)
        return {
            form: Found(stored, text, score, self.bytes_of(text), voices if form == "whole" else ("user",), form)
            for form, text in texts.items()
        }

    def _standing(self, stored: StoredSegment) -> Literal[-1, 0, 1]:
        """Whether a segment holds a note that is in force; -1 where it had some and all are over."""
        if not stored.notes.kept:
            return 0
        return 1 if any(place in self._notes for place, _ in places_of(stored)) else -1

    def fetch(self, found: Found) -> tuple[Segment, str]:
        """The segment's cache for this model, and why it was made again from the text; empty if it was there.

        Raises:
            NotFound: its text was forgotten this moment.
            UnsupportedModel: nothing can be spliced into this model.
        """
        stored = found.stored
        why = "It was never read by this model."
        if stored.fingerprint == asdict(self.model.fingerprint):
            try:
                return self._taken(stored), ""
            except (DamagedBlob, NotFound) as error:
                why = error.message  # a damaged one is in quarantine, and logged there
        said = self.tenant.stretch(stored.session, stored.first, stored.last)
        cache = self._read(self.model.once(Splicer), said)
        with suppress(QuotaExceeded, StorageFull):  # then it is made again next time too
            self._keep(stored, cache, len(said))
        return unpacked(decompress(cache)), why

    def _taken(self, stored: StoredSegment) -> Segment:
        """As it is in the store."""
        return unpacked(decompress(self.tenant.take_segment(stored.session, stored.first, read_snapshot)))

    def bytes_of(self, text: str) -> int:
        """Bytes of cache that a text takes, by the measured profile."""
        profile = self.model.profile
        return profile.at(len(segment_tokens(self.model.chat, text)[1])) - profile.at(0)


def places_of(segment: StoredSegment) -> list[tuple[NotePlace, str]]:
    """Notes of a segment with their places."""
    return [
        ((segment.session, segment.first, segment.last, index), text) for index, text in enumerate(segment.notes.kept)
    ]


def add_notes(notes: dict[NotePlace, str], segment: StoredSegment) -> None:
    """Take a segment's notes in, and out what it says is over."""
    for place in segment.notes.over:
        notes.pop(place, None)
    notes.update(places_of(segment))


def stretches(
    memories: Sequence[Memory], taken: Collection[int], count: Callable[[str], int], finished: bool
) -> list[tuple[int, int]]:
    """First and last number of each stretch of whole exchanges that is to become a segment.

    Args:
        memories: of a session, in order; only its messages count.
        taken: numbers that are in segments already.
        count: tokens of a text.
        finished: nothing more will be said, so that what is shorter than STRETCH becomes one too.
    """
    found: list[list[Memory]] = []
    run: list[Memory] = []
    last = 0
    for memory in memories:
        if run and memory.n != last + 1:  # something in between was forgotten
            found.append(run)
            run = []
        last = memory.n
        if memory.n in taken and run:
            found.append(run)
            run = []
        if memory.kind != "message" or memory.n in taken:
            continue
        run.append(memory)
        if memory.role == "assistant" and sum(count(each.text) for each in run) >= STRETCH:
            found.append(run)
            run = []
    if finished and run:
        found.append(run)
    return [(run[0].n, run[-1].n) for run in found]


def in_context(segment: StoredSegment, present: Collection[int]) -> bool:
    """Whether any of a segment's messages is in the context."""
    return any(segment.first <= n <= segment.last for n in present)
