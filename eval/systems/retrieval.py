"""Retrieval: all chunks lie in a store; a question brings back the best ones that fit."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import ClassVar

from eval.systems.base import Case, Limits, Memory, bytes_of
from eval.systems.chunks import Chunk, chunk_turns
from eval.systems.fitting import json_bytes, room, standing, text_bytes
from memkv.model import HybridModel
from memkv.turns import Message

CHUNK_TOKENS = 64
HEADING = "Notes from earlier conversations:"
# Questions begin with the day of asking, as every session does; searching for it would only find other days.
DATE = re.compile(r"\A\[[^\]]*\]\s*")


def chunked(case: Case, size: int) -> list[list[Chunk]]:
    """Chunks of what is said in each round."""
    chat = case.model.chat
    rounds: list[list[Chunk]] = []
    first = 0
    for turns in case.scenario.chunks:
        rounds.append(chunk_turns(turns, size, chat.count, first))
        first += len(turns)
    return rounds


@dataclass
class Shelf:
    """Chunks, and how many of them fit in front of a question.

    Attributes:
        model: whose tokens and bytes count.
        chunks: all of the store, in the order of the conversation.
        limits: the budget.
    """

    model: HybridModel
    chunks: Sequence[Chunk]
    limits: Limits
    _room: int | None = field(init=False)
    _costs: list[int] = field(init=False)

    def __post_init__(self) -> None:
        """Count each chunk's tokens once.

        Raises:
            BudgetExceeded: the budget does not hold one token.
        """
        chat = self.model.chat
        room_tokens = room(self.model, self.limits)
        heading = len(chat.encode(chat.stable(standing(self.model, HEADING))))
        self._room = None if room_tokens is None else room_tokens - heading
        self._costs = [len(chat.encode(f"\n{line([chunk])}")) for chunk in self.chunks]

    def fill(self, ranked: Iterable[int], taken: Sequence[int] = (), share: float = 1.0) -> list[int]:
        """`taken` and the best of `ranked` that fit beside it; a chunk that is too long makes room for shorter ones.

        Args:
            ranked: chunk numbers, best first.
            taken: chunk numbers that are in already.
            share: of the budget that may be filled.
        """
        chosen = list(dict.fromkeys(taken))
        left = None if self._room is None else int(share * self._room) - sum(self._costs[index] for index in chosen)
        for index in ranked:
            if index in chosen or (left is not None and self._costs[index] > left):
                continue
            chosen.append(index)
            left = None if left is None else left - self._costs[index]
        # Tokens of parts need not add up to those of the whole: what counts is the whole.
        while self.limits.active is not None and bytes_of(self.model, self.messages(chosen)) > self.limits.active:
            chosen.pop()
        return chosen

    def messages(self, chosen: Iterable[int]) -> list[Message]:
        """The chosen chunks in the order of the conversation, as one message; none for no chunk."""
        return standing(self.model, self.text(chosen))

    def text(self, chosen: Iterable[int]) -> str:
        """What that message says."""
        pieces: list[list[Chunk]] = []
        for chunk in (self.chunks[index] for index in sorted(chosen)):
            last = pieces[-1][-1] if pieces else None
            if last is not None and (last.message, last.part + 1) == (chunk.message, chunk.part):
                pieces[-1].append(chunk)
            else:
                pieces.append([chunk])
        return "\n".join([HEADING, *map(line, pieces)]) if pieces else ""

    def at_rest(self) -> dict[str, int]:
        """Bytes of the store's text, and of what says where it came from."""
        places = [{key: value for key, value in asdict(chunk).items() if key != "text"} for chunk in self.chunks]
        return {"text": text_bytes([chunk.text for chunk in self.chunks]), "metadata": json_bytes(places)}


def line(chunks: Sequence[Chunk]) -> str:
    """Successive chunks of one message as the model sees them."""
    return f"{chunks[0].role.capitalize()}: {''.join(chunk.text for chunk in chunks).strip()}"


class Retrieval:
    """What all retrievals share: the size of their chunks, and with another than the usual one it is in the name.

    Args:
        chunk_tokens: most tokens a chunk.
    """

    kind: ClassVar[str]
    budgeted = True
    sampled = False

    def __init__(self, chunk_tokens: int = CHUNK_TOKENS) -> None:
        self.chunk_tokens = chunk_tokens

    @property
    def name(self) -> str:
        """See `System.name`."""
        return self.kind if self.chunk_tokens == CHUNK_TOKENS else f"{self.kind} {self.chunk_tokens}"


def retrieving(
    shelf: Shelf, search: Callable[[str], list[int]], index_bytes: Mapping[str, int], text: str | None
) -> Memory:
    """A memory that answers each question with `search(question)`, chunk numbers that fit.

    Args:
        shelf: the store.
        search: from a question without its date to chunk numbers.
        index_bytes: of what the search needs at rest, by kind.
        text: see `Memory.text`.
    """
    found: dict[str, list[Message]] = {}

    def messages(question: str) -> list[Message]:
        query = DATE.sub("", question)
        if query not in found:
            found[query] = shelf.messages(search(query))
        return list(found[query])

    return Memory(messages=messages, text=text, at_rest={**shelf.at_rest(), **index_bytes})
