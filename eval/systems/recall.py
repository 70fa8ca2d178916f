"""memkv's recall of earlier sessions: notes of them as text, and segments as text or spliced in as cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from eval.scenarios import Meeting
from eval.systems.base import Case, Limits, Memory, Spent, bytes_of, prefill
from eval.systems.fitting import text_bytes
from eval.systems.retrieval import DATE
from eval.systems.shelf import Shelf
from memkv.compaction import default_strategy
from memkv.compaction import strategy as strategy_by_name
from memkv.compaction.base import MEMORIES
from memkv.compress import QUANTIZERS, Identity, KVCompressor, codec
from memkv.errors import ConfigError
from memkv.live import LiveCache
from memkv.recall.choosing import STANDING, Candidate, choose
from memkv.recall.embedding import DIMENSIONS, embed
from memkv.recall.nearest import Nearest
from memkv.recall.noting import noted, related
from memkv.recall.stretch import of_user, searched, segment_tokens
from memkv.session.long_term import NEAR, stretches
from memkv.splice import Splicer
from memkv.store import Memory as Stored
from memkv.store.records import NotePlace
from memkv.store.spoken import as_notes, as_text
from memkv.turns import Message

KIND = "recall"
ALL = "all"
WHOLE = " whole"


@dataclass(frozen=True)
class Stretch:
    """A stretch of one session as it comes back."""

    text: str
    messages: tuple[Stored, ...]
    notes: tuple[str, ...] = ()
    standing: Literal[-1, 0, 1] = 0

    @property
    def noted(self) -> str:
        """Its notes as they come back; empty without any."""
        return as_notes(self.messages[0].created, self.notes) if self.notes else ""


class Recall:
    """`recall` reads what it found as text; `recall kv N` splices caches, N tokens of each read again (`all`: all).

    `recall kv N+int4` stores them with a quantizing codec. A splice needs all entries, so none that evicts can be used.
    `recall whole` and `recall whole kv N` do without notes: a stretch comes back whole or not at all.

    Raises:
        ConfigError: no such number, or no such codec.
    """

    budgeted = True
    sampled = False

    def __init__(self, name: str = KIND) -> None:
        self.name = name
        kind, plus, quantizer = name.partition("+")
        form = kind.removeprefix(KIND)
        self.noting = not form.startswith(WHOLE)
        repair = form.removeprefix(WHOLE).removeprefix(" kv ").strip()
        if repair and repair != ALL and not repair.isdecimal():
            raise ConfigError(f"{name!r} does not say how much is read again", "Write recall, or recall kv 8.")
        if plus and (not repair or quantizer not in QUANTIZERS):
            known = ", ".join(QUANTIZERS)
            raise ConfigError(f"{name!r} is no recall of quantized caches", f"Write recall kv 8+int4; of {known}.")
        self.repair = int(repair) if repair.isdecimal() else repair  # empty: as text
        self.codec: KVCompressor = codec(quantizer) if plus else Identity()

    def remember(self, case: Case, limits: Limits) -> Memory:
        """See `System.remember`."""
        model, chat = case.model, case.model.chat
        lead = [Message(role="system", content=MEMORIES)]
        found = case.once(noted_stretches if self.noting else bare_stretches)
        texts = [(("", n), text) for n, each in enumerate(found) for text in searched(each.messages)]
        vectors_ND = embed([text for _, text in texts])
        nearest = Nearest(DIMENSIONS, STANDING)
        nearest.add([place for place, _ in texts], vectors_ND, {("", n) for n, each in enumerate(found) if each.notes})
        asked_on = seconds(case.scenario.asked_on)
        most = None if limits.active is None else limits.active - bytes_of(model, lead)
        own = model.profile.at(0)

        def messages(question: str) -> list[Message]:
            """The lead, each stretch that comes back as a message, and all notes that do as one."""
            near = nearest.search(embed([DATE.sub("", question)])[0], NEAR)
            candidates = [
                Candidate(each.address, size(stretch.text), each.cosine, age, stretch.standing, size(stretch.noted))
                for each in near
                for stretch in [found[each.address[1]]]
                for age in [asked_on - stretch.messages[-1].created]
            ]
            room = sum(each.nbytes + each.noted for each in candidates) if most is None else most
            chosen = choose(candidates, [each.vector_D for each in near], room)
            whole = [found[each.address[1]].text for each, form in chosen if form == "whole"]
            noted = [found[each.address[1]].noted for each, form in chosen if form == "notes"]
            back = [memory(text) for text in (*whole, *(["\n".join(noted)] if noted else []))]
            while back and limits.active is not None and bytes_of(model, [*lead, *back]) > limits.active:
                back.pop(0)
            return [*lead, *back] if back else []

        def size(text: str) -> int:
            """Bytes of cache that a memory takes; 0 for none."""
            return bytes_of(model, [memory(text)]) - own if text else 0

        at_rest = {
            "text": text_bytes([text for each in found for text in (each.text, *each.notes)]),
            "vectors": vectors_ND.nbytes,
        }
        if self.repair == "":
            return Memory(messages, text=None, at_rest=at_rest)
        splicer, first = model.once(Splicer), chat.encode(chat.stable(lead))
        tokens = [segment_tokens(chat, each.text)[1] for each in found]
        repairs = [len(each) if self.repair == ALL else min(int(self.repair), len(each)) for each in tokens]
        shelf = Shelf(
            [
                self.codec.compress(splicer.encode(first, each, repair).packed(), None)
                for each, repair in zip(tokens, repairs, strict=True)
            ]
        )
        numbers = {each.text: number for number, each in enumerate(found)}

        def cache(asked: Sequence[Message]) -> tuple[LiveCache, int]:
            """The same messages out of their segments, and the tokens that had to be read."""
            if not asked:
                return prefill(model, asked), 0
            live = model.new_cache()
            model.extend(live, first)
            places = [numbers[text] for message in asked if (text := message["content"]) in numbers]
            spliced = splicer.splice(live, [shelf.take(place) for place in places])
            behind = chat.encode_rest(chat.stable(asked[: 1 + len(places)]), chat.stable(asked))
            if behind:
                model.extend(spliced, behind)
            return spliced, len(first) + sum(repairs[place] for place in places) + len(behind)

        at_rest["kv"] = shelf.nbytes
        spent = Spent(prefilled=sum(len(first) + len(each) for each in tokens))
        return Memory(messages, text=None, at_rest=at_rest, cache=cache, spent=spent)


def memory(text: str) -> Message:
    """As it stands between turns."""
    return Message(role="system", content=text)


def bare_stretches(case: Case) -> list[Stretch]:
    """The stretches of all sessions without notes, as a session's end makes them."""
    return [Stretch(as_text(part), tuple(part)) for meeting in case.scenario.meetings for part in parts(case, meeting)]


def noted_stretches(case: Case) -> list[Stretch]:
    """The same, with the notes that are in force after the last session, by the policy that a session uses."""
    model, found = case.model, list(case.once(bare_stretches))
    strategy = strategy_by_name(default_strategy(model))
    held: dict[NotePlace, str] = {}
    for number, stretch in enumerate(found):
        said = of_user(stretch.messages)
        new = noted(model, strategy, said, related(held, said, model.chat.count))
        held = {place: text for place, text in held.items() if place not in new.over}
        held |= {("", number, number, index): text for index, text in enumerate(new.kept)}
        found[number] = replace(stretch, standing=-1 if new.kept else 0)
    for number, stretch in enumerate(found):
        if notes := tuple(text for (_, first, _, _), text in held.items() if first == number):
            found[number] = replace(stretch, notes=notes, standing=1)
    return found


def parts(case: Case, meeting: Meeting) -> list[list[Stored]]:
    """The messages of a session's stretches."""
    said = seconds(meeting.date)
    messages = [Stored("", n, "message", turn.role, turn.text, said, (), {}) for n, turn in enumerate(meeting.turns, 1)]
    return [messages[a - 1 : b] for a, b in stretches(messages, (), case.model.chat.count, finished=True)]


def seconds(day: str) -> float:
    """The beginning of a day (ISO date), in seconds since 1970."""
    return datetime.fromisoformat(day).timestamp()
