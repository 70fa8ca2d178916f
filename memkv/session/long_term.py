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

from memkv.compaction import CompactionStrategy, Pinned
from memkv.compress import KVCompressor, decompress
from memkv.errors import DamagedBlob, NotFound, QuotaExceeded, StorageFull, UnsupportedModel
from memkv.model import HybridModel
from memkv.recall.choosing import LEAST, Candidate, Form, choose
from memkv.recall.part import part_of
from memkv.recall.stretch import segment_tokens, trust
from memkv.session.at_rest import at_rest, quantizing
from memkv.session.notes_in_force import NotesInForce
from memkv.session.room import tokens_within
from memkv.session.vectors import Vectors
from memkv.snapshot import CacheSnapshot
from memkv.snapshot_file import read_snapshot, to_buffers
from memkv.splice import Segment, Splicer
from memkv.splice.segment import unpacked
from memkv.store import Memory, Notes, StoredSegment, TenantStore
from memkv.store.spoken import as_notes, as_text

STRETCH = 64  # tokens from which on a stretch of messages is finished; longer ones say more that nobody asked for
# Tokens of a segment that are read again where it is put, in models with a recurrent state. Where there is attention
# alone none are: answers are as good (eval/results/recall), and the first token comes three times sooner.
REPAIR = 8
RECURRENT = frozenset({"linear", "hybrid", "hybrid_sliding"})  # kinds of layers
CAUGHT_UP = 4  # sessions whose memories are made at the first turn of another one
NEAR = 24  # nearest segments that are looked at for one message


@dataclass(frozen=True)
class Found:
    """A segment that comes back, with its text: `whole`, its `notes` that are in force, or the `part` that is near.

    `score` is the message's cosine to what is nearest to it in the segment, `nbytes` what it takes in the live cache,
    `trust` who said it.
    """

    stored: StoredSegment
    text: str
    score: float
    nbytes: int
    trust: tuple[str, ...]
    form: Form = "whole"

    @property
    def place(self) -> dict[str, str | int]:
        """Where it was said."""
        return {"session": self.stored.session, "first": self.stored.first, "last": self.stored.last}


@dataclass(frozen=True)
class Sought:
    """What was found for a message: segments that come back, the oldest first.

    `too_large` are those that were near enough, and take more than there is room for in any form; the nearest first.
    """

    back: tuple[Found, ...] = ()
    too_large: tuple[Found, ...] = ()


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
        self.model, self.tenant, self.codec = model, tenant, quantizing(codec)
        self.notes = NotesInForce(model, tenant, strategy or Pinned())
        self.vectors = Vectors(tenant)
        self._seen = -1  # changes of segments when it last looked
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

    @property
    def repair(self) -> int:
        """Tokens of a segment that this model reads again."""
        return REPAIR if RECURRENT.intersection(self.model.layer_kinds) else 0

    def look(self) -> None:
        """Take over what was made or forgotten since the last look: by a session that ended, or by another process."""
        changes = self.tenant.segment_changes()
        if changes != self._seen:
            self.notes.look()
            self.vectors.look(self.notes.addresses)
            self._seen = changes

    # -- making

    def remember(self, name: str, finished: bool = False) -> list[StoredSegment]:
        """Make segments of the messages of session `name` that are in none; of the last ones only if it is finished.

        Raises:
            QuotaExceeded, StorageFull: no room.
        """
        taken = {n for known in self.tenant.segments(name) for n in range(known.first, known.last + 1)}
        new = stretches(self.tenant.memories(name), taken, self.model.chat.count, finished)
        if not new:
            return []
        self.notes.look()
        made = [self._make(StoredSegment(name, first, last, time.time())) for first, last in new]
        self.vectors.make(made)
        return made

    def catch_up(self, present: str, most: int = CAUGHT_UP) -> list[StoredSegment]:
        """Make segments of what other sessions left unmade: they were killed, or are older than segments are.

        Of the `most` sessions that were used last: their texts are read, and somebody waits. The earliest of them
        first, as later ones change what earlier ones laid down.
        """
        behind = [name for name in self.tenant.unsegmented() if name != present][:most]
        return [segment for name in reversed(behind) for segment in self.remember(name, finished=True)]

    def _make(self, segment: StoredSegment) -> StoredSegment:
        """Read a stretch alone and store its cache and its notes.

        There is no cache without a splicer, and of what is longer than the model's positions.

        Raises:
            NotFound: nothing was said.
        """
        said = self._said(segment)
        cache = None if self.splicer is None else self._read(self.splicer, said)
        segment = replace(segment, notes=self.notes.write(said))
        self._keep(segment, cache, len(said), segment.notes)
        self.notes.take_in(segment, said)
        return segment

    def _said(self, segment: StoredSegment) -> list[Memory]:
        """Its messages.

        Raises:
            NotFound: they were forgotten.
        """
        said = self.tenant.stretch(segment.session, segment.first, segment.last)
        if not said:
            raise NotFound("Nothing is left of this memory", "It was forgotten meanwhile; say your message again.")
        return said

    def _read(self, splicer: Splicer, said: Sequence[Memory]) -> CacheSnapshot | None:
        """The cache of a stretch that is read alone, as it is stored; None where it is longer than the positions."""
        lead, tokens = segment_tokens(self.model.chat, as_text(said))
        most = self.model.max_tokens
        if most is not None and len(lead) + len(tokens) > most:
            return None
        return at_rest(self.codec, splicer.encode(lead, tokens, min(self.repair, len(tokens))).packed())[0]

    def _keep(
        self, segment: StoredSegment, cache: CacheSnapshot | None, messages: int, notes: Notes | None = None
    ) -> None:
        """Store a segment of so many messages; without notes it keeps those that it has."""
        buffers = None if cache is None else to_buffers(cache)
        made_for = None if cache is None else asdict(cache.fingerprint)
        self.tenant.keep_segment(segment.session, segment.first, segment.last, messages, buffers, made_for, notes)

    # -- finding

    def find(
        self, text: str, session: str, present: Collection[int], budget: int, back: Collection[str] = ()
    ) -> Sought:
        """The segments that are worth most for a message within `budget` bytes of cache.

        Args:
            text: the message.
            session: that it is said in.
            present: numbers of the messages of that session that its context holds.
            budget: bytes.
            back: texts of memories that it holds already.
        """
        self.look()
        if not len(self.vectors):
            return Sought()
        near, ages, found = [], [], {}
        now = time.time()
        for each in self.vectors.search(text, NEAR + len(back) + len(self.tenant.segments(session))):
            stored = self.tenant.segment(*each.address)
            if stored is None or (stored.session == session and in_context(stored, present)):
                continue
            messages = self.tenant.stretch(stored.session, stored.first, stored.last)
            every = self._forms(stored, messages, each.cosine, session)
            if every["whole"].nbytes > budget and stored.session != session:
                every["whole"] = self._part(every["whole"], messages, text, budget)
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
                self.notes.standing(forms["whole"].stored),
                forms["notes"].nbytes if "notes" in forms else 0,
            )
            for each, age in zip(near, ages, strict=True)
            for forms in [found[each.address]]
        ]
        chosen = choose(candidates, [each.vector_D for each in near], budget)
        left = {each.address for each in candidates if each.nbytes > budget and each.worth >= LEAST}
        left -= {each.address for each, _ in chosen}
        return Sought(
            tuple(found[each.address][form] for each, form in chosen),
            tuple(found[each.address]["whole"] for each in near if each.address in left),
        )

    def _part(self, whole: Found, messages: Sequence[Memory], asked: str, budget: int) -> Found:
        """What of a segment comes back in place of all of it; the whole where nothing of it is touched, or fits."""
        profile = self.model.profile
        room = tokens_within(self.model, profile.at(0) + budget)
        text = part_of(messages, asked, room, self.model.chat.count)
        return replace(whole, text=text, nbytes=self.bytes_of(text), form="part") if text else whole

    def _forms(
        self, stored: StoredSegment, messages: Sequence[Memory], cosine: float, session: str
    ) -> dict[Form, Found]:
        """The forms in which a segment can come back; of the session itself whole only, as it has notes of its own."""
        in_force = self.notes.of(stored)
        texts: dict[Form, str] = {"whole": as_text(messages)}
        if in_force and messages and stored.session != session:
            texts["notes"] = as_notes(messages[0].created, in_force)
        score, voices = round(cosine, 4), trust(messages)
        return {
            form: Found(stored, text, score, self.bytes_of(text), voices if form == "whole" else ("user",), form)
            for form, text in texts.items()
        }

    def fetch(self, found: Found) -> tuple[Segment, str]:
        """The segment's cache for this model, and why it was made again from the text; empty if it was there.

        Raises:
            NotFound: its text was forgotten this moment.
            UnsupportedModel: nothing can be spliced into this model, or nothing so long.
        """
        stored = found.stored
        why = "It was never read by this model."
        if stored.fingerprint == asdict(self.model.fingerprint):
            try:
                return self._taken(stored), ""
            except (DamagedBlob, NotFound) as error:
                why = error.message  # a damaged one is in quarantine, and logged there
        said = self._said(stored)
        cache = self._read(self.model.once(Splicer), said)
        if cache is None:
            raise UnsupportedModel(f"{stored.address} is longer than the model's positions", "Ask for a part of it.")
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
