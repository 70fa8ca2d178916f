"""Memories of earlier conversations: made of what was said, and found again where a message is near them.

A stretch of messages becomes a segment (`memkv.splice`): its cache, read alone, and its vector. Both are derived; the
text stays the truth, so that whatever is missing or damaged, or of another model, is made again from it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from memkv.compress import KVCompressor, decompress
from memkv.errors import DamagedBlob, NotFound, QuotaExceeded, StorageFull, UnsupportedModel
from memkv.model import HybridModel
from memkv.recall.choosing import Candidate, choose
from memkv.recall.embedding import DIMENSIONS, NAME, embed
from memkv.recall.nearest import Address, Nearest, as_bytes
from memkv.recall.standing import standing
from memkv.recall.stretch import segment_tokens, trust
from memkv.session.at_rest import at_rest, quantizing
from memkv.snapshot import CacheSnapshot
from memkv.snapshot_file import read_snapshot, to_buffers
from memkv.splice import Segment, Splicer
from memkv.splice.segment import unpacked
from memkv.store import Memory, StoredSegment, TenantStore
from memkv.store.spoken import as_text

STRETCH = 256  # tokens from which on a stretch of messages is finished
REPAIR = 8  # tokens of a segment that are read again where it is put
CAUGHT_UP = 4  # sessions whose memories are made at the first turn of another one
EMBEDDED_AT_ONCE = 256  # segments
VECTOR_BYTES = 4 * DIMENSIONS
NEAR = 24  # nearest segments that are looked at for one message


@dataclass(frozen=True)
class Found:
    """A segment that comes back, with its text.

    `score` is its cosine to the message, `nbytes` what it takes in the live cache, `trust` who said it.
    """

    stored: StoredSegment
    text: str
    score: float
    nbytes: int
    trust: tuple[str, ...]


class LongTerm:
    """What a tenant's sessions left behind, for one model.

    Args:
        model: of the sessions.
        tenant: whose they are.
        codec: how new segments are stored; None as they are. Of one that evicts only the quantizing part is used, as a
            splice needs all entries.
    """

    def __init__(self, model: HybridModel, tenant: TenantStore, codec: KVCompressor | None = None) -> None:
        self.model, self.tenant = model, tenant
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
        stored = list(self.tenant.vectors(NAME))
        nearest = Nearest.of(DIMENSIONS, [row for row in stored if len(row[2]) == VECTOR_BYTES])
        new = self.tenant.unembedded(NAME, VECTOR_BYTES)
        for start in range(0, len(new), EMBEDDED_AT_ONCE):  # stored as it goes, so that Ctrl-C loses little
            nearest.add(*self._embedded(new[start : start + EMBEDDED_AT_ONCE]))
        return nearest

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
            self._nearest.add(*self._embedded(made))
        return made

    def catch_up(self, present: str, most: int = CAUGHT_UP) -> list[StoredSegment]:
        """Make segments of what other sessions left unmade: they were killed, or are older than segments are.

        Of the `most` sessions that were used last: their texts are read, and somebody waits.
        """
        behind = [name for name in self.tenant.unsegmented() if name != present][:most]
        return [segment for name in behind for segment in self.remember(name, finished=True)]

    def _make(self, segment: StoredSegment) -> StoredSegment:
        """Read a stretch alone and store its cache; without a splicer it is stored as a place in the text only."""
        said = self.tenant.stretch(segment.session, segment.first, segment.last)
        cache = None if self.splicer is None else self._read(self.splicer, said)
        self._keep(segment, cache, len(said))
        return segment

    def _read(self, splicer: Splicer, said: Sequence[Memory]) -> CacheSnapshot:
        """The cache of a stretch that is read alone, as it is stored.

        Raises:
            NotFound: nothing was said.
        """
        if not said:
            raise NotFound("Nothing is left of this memory", "It was forgotten meanwhile; say your message again.")
        lead, tokens = segment_tokens(self.model.chat, as_text(said))
        return at_rest(self.codec, splicer.encode(lead, tokens, min(REPAIR, len(tokens))).packed())[0]

    def _keep(self, segment: StoredSegment, cache: CacheSnapshot | None, messages: int) -> None:
        """Store a segment of so many messages."""
        buffers = None if cache is None else to_buffers(cache)
        made_for = None if cache is None else asdict(cache.fingerprint)
        self.tenant.keep_segment(segment.session, segment.first, segment.last, messages, buffers, made_for)

    def _embedded(self, segments: Sequence[StoredSegment]) -> tuple[list[Address], NDArray[np.float32]]:
        """Addresses and vectors (ND) of segments; the vectors are stored, if there is room for them.

        Segments of which nothing is left are passed by: they were forgotten this moment.
        """
        said = [self.tenant.stretch(segment.session, segment.first, segment.last) for segment in segments]
        addresses = [(each.session, each.first) for each, text in zip(segments, said, strict=True) if text]
        vectors_ND = embed([as_text(text) for text in said if text])
        rows = [(*address, as_bytes(vector)) for address, vector in zip(addresses, vectors_ND, strict=True)]
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
        near, said, found = [], [], {}
        for each in self._nearest.search(embed([text])[0], NEAR + len(back) + len(self.tenant.segments(session))):
            stored = self.tenant.segment(*each.address)
            if stored is None or each.address in found or (stored.session == session and in_context(stored, present)):
                continue
            messages = self.tenant.stretch(stored.session, stored.first, stored.last)
            whole = as_text(messages)
            if not messages or whole in back:  # forgotten by another process this moment, or here
                continue
            near.append(each)
            said.append(messages)
            found[each.address] = Found(stored, whole, round(each.cosine, 4), self.bytes_of(whole), trust(messages))
            if len(found) == NEAR:
                break
        now = time.time()
        candidates = [
            Candidate(each.address, found[each.address].nbytes, each.cosine, now - messages[-1].created, in_force)
            for each, messages, in_force in zip(near, said, standing(said), strict=True)
        ]
        return [found[each.address] for each in choose(candidates, [each.vector_D for each in near], budget)]

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
