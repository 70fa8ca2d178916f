"""memkv's recall of earlier sessions: segments near the question, read again as text, or spliced in as cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from eval.scenarios import Meeting
from eval.systems.base import Case, Limits, Memory, Spent, bytes_of, prefill
from eval.systems.fitting import text_bytes
from eval.systems.retrieval import DATE
from eval.systems.shelf import Shelf
from memkv.compaction.base import MEMORIES
from memkv.compress import QUANTIZERS, Identity, KVCompressor, codec
from memkv.errors import ConfigError
from memkv.live import LiveCache
from memkv.model import HybridModel
from memkv.recall.choosing import Candidate, choose
from memkv.recall.embedding import DIMENSIONS, embed
from memkv.recall.nearest import Nearest
from memkv.recall.standing import standing
from memkv.recall.stretch import segment_tokens
from memkv.session.long_term import NEAR, stretches
from memkv.splice import Splicer
from memkv.store import Memory as Stored
from memkv.store.spoken import as_text
from memkv.turns import Message

KIND = "recall"
ALL = "all"


@dataclass(frozen=True)
class Stretch:
    """A stretch of one session as it comes back."""

    text: str
    messages: tuple[Stored, ...]


class Recall:
    """`recall` reads what it found as text; `recall kv N` splices caches, N tokens of each read again (`all`: all).

    `recall kv N+int4` stores them with a quantizing codec. A splice needs all entries, so none that evicts can be used.

    Raises:
        ConfigError: no such number, or no such codec.
    """

    budgeted = True
    sampled = False

    def __init__(self, name: str = KIND) -> None:
        self.name = name
        kind, plus, quantizer = name.partition("+")
        repair = kind.removeprefix(KIND).removeprefix(" kv ").strip()
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
        found = [each for meeting in case.scenario.meetings for each in stretches_of(model, meeting)]
        vectors_ND = embed([each.text for each in found])
        nearest = Nearest(DIMENSIONS)
        nearest.add([("", number) for number in range(len(found))], vectors_ND)
        asked_on = seconds(case.scenario.asked_on)
        most = None if limits.active is None else limits.active - bytes_of(model, lead)
        own = model.profile.at(0)

        def messages(question: str) -> list[Message]:
            """The lead, and each stretch that comes back as a message."""
            near = nearest.search(embed([DATE.sub("", question)])[0], NEAR)
            sizes = {each.address[1]: bytes_of(model, [memory(found[each.address[1]])]) - own for each in near}
            stands = standing([found[each.address[1]].messages for each in near])
            candidates = [
                Candidate(each.address, sizes[n], each.cosine, asked_on - found[n].messages[-1].created, in_force)
                for each, in_force in zip(near, stands, strict=True)
                for n in [each.address[1]]
            ]
            chosen = choose(candidates, [each.vector_D for each in near], sum(sizes.values()) if most is None else most)
            texts = [memory(found[each.address[1]]) for each in chosen]
            while texts and limits.active is not None and bytes_of(model, [*lead, *texts]) > limits.active:
                texts.pop(0)
            return [*lead, *texts] if texts else []

        at_rest = {"text": text_bytes([each.text for each in found]), "vectors": vectors_ND.nbytes}
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
            places = [numbers[message["content"]] for message in asked[len(lead) :]]
            spliced = splicer.splice(live, [shelf.take(place) for place in places])
            return spliced, len(first) + sum(repairs[place] for place in places)

        at_rest["kv"] = shelf.nbytes
        spent = Spent(prefilled=sum(len(first) + len(each) for each in tokens))
        return Memory(messages, text=None, at_rest=at_rest, cache=cache, spent=spent)


def memory(stretch: Stretch) -> Message:
    """As it stands between turns."""
    return Message(role="system", content=stretch.text)


def stretches_of(model: HybridModel, meeting: Meeting) -> list[Stretch]:
    """The stretches of a session, as a session's end makes them."""
    said = seconds(meeting.date)
    messages = [Stored("", n, "message", turn.role, turn.text, said, (), {}) for n, turn in enumerate(meeting.turns, 1)]
    parts = [messages[a - 1 : b] for a, b in stretches(messages, (), model.chat.count, finished=True)]
    return [Stretch(as_text(part), tuple(part)) for part in parts]


def seconds(day: str) -> float:
    """The beginning of a day (ISO date), in seconds since 1970."""
    return datetime.fromisoformat(day).timestamp()
