"""Compactions to learn from. Conversations of the evaluation's generator, train families only.

A conversation is read window by window, as `TrainedSummary` reads it: memory and new messages in, memory out. Each
window is one state (`train.states`), one row to train on. The questions are never in what the policy reads.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest

from rich.progress import track

from eval.generate import DOMAINS, TRAINING, WORDS_PER_TOKEN, generate
from eval.generate import Config as Conversation
from eval.making.family import families
from eval.prose.sentences import split
from eval.scenarios import Scenario, Split, read_scenarios, to_message
from eval.systems.retrieval import DATE
from memkv.compaction.notes import parse
from memkv.compaction.trained import MOST_ROOM
from memkv.compaction.windows import Count, windows
from memkv.errors import ConfigError
from memkv.turns import Message
from train.plain import plainer
from train.states import Row, State, claims, oracle, targets_of
from train.truth import Standing, askable, place_of, standings
from train.workers import Spread

Write = Callable[[State], str]  # a policy: from a state to its answer
# With every rule kept, room for notes of that many tokens would do; the least is what two rules take.
SMALLEST_ROOM = 40
SHORTEST = 4  # words of a sentence that slips in among the notes
NEVER = 3  # rules of a conversation that nobody says, but that notes may claim


@dataclass(frozen=True)
class Config:
    """What there is to learn from.

    Attributes:
        episodes: conversations; even, as they come in twin pairs.
        seed: of conversations, cut points and budgets.
        scenarios: a file of your own conversations and rules instead of generated ones (format: eval/README.md).
        tokens: of a conversation, least and most.
        rules: planted in a conversation, least and most.
        window: the user's new messages of one compaction in tokens, least and most.
        room: the budget as a share of the conversation's tokens, drawn from these.
        stray: share of the oracle's states with a sentence among the notes that is none of its own, as a policy puts
            there that still errs: something to be taken out.
        plain: share of the messages which state rules that say nothing else (`train.plain`).
    """

    episodes: int = 400
    seed: int = 0
    scenarios: str | None = None
    tokens: tuple[int, int] = (500, 1500)
    rules: tuple[int, int] = (3, 12)
    window: tuple[int, int] = (160, 360)
    room: tuple[float, ...] = (0.25, 0.25, 0.125, 0.125, 0.0625)
    stray: float = 0.2
    plain: float = 0.0


@dataclass(frozen=True)
class Episode:
    """A conversation with its cut points and its budget.

    Attributes:
        windows: the user's messages that are read together, in order.
        room: tokens for notes.
        standings: what is in force after each window.
        places: of each standing, the index of the user's message in the window that made it so, if one of it did.
    """

    scenario: Scenario
    windows: tuple[tuple[str, ...], ...]
    room: int
    standings: tuple[tuple[Standing, ...], ...]
    places: tuple[tuple[int | None, ...], ...]

    def state(self, fold: int, notes: Sequence[str], how: str) -> State:
        """The compaction of window `fold` with `notes` from before."""
        now = self.standings[fold]
        return State(
            id=f"{self.scenario.id}/{fold}/{how}",
            fold=fold,
            notes=tuple(notes),
            said=self.windows[fold],
            room=self.room,
            targets=targets_of(now, notes, self.places[fold]),
            probes=tuple(askable(self.scenario, now)),
        )


def conversations(config: Config, *splits: Split) -> list[Scenario]:
    """The conversations, in order of their seeds; of several splits in turn.

    Raises:
        ConfigError: sizes that do not go together, or a scenario file that holds none.
    """
    if config.scenarios is not None:
        return list(read_scenarios(config.scenarios))[: config.episodes]
    rng = random.Random(f"{config.seed}/conversations")
    found: list[Scenario] = []
    while len(found) < config.episodes:
        pair = len(found) // 2
        domain, split = DOMAINS[pair % len(DOMAINS)], splits[pair // len(DOMAINS) % len(splits)]
        most = min(config.rules[1], len(families(domain, split)) - NEVER)
        tokens, rules = rng.randint(*config.tokens), rng.randint(min(config.rules[0], most), most)
        shape = Conversation(tokens=tokens, rounds=1, rules=rules, never=NEVER, probes=2 * (rules + NEVER))
        found += generate(domain, split, config.seed, pair, shape)
    return found[: config.episodes]


def estimated(text: str) -> int:
    """Tokens of a text by its words, as the generator counts: the same cuts whatever the tokenizer."""
    return round(len(text.split()) / WORDS_PER_TOKEN)


def episode(scenario: Scenario, config: Config) -> Episode:
    """Cut points and a budget, drawn from the scenario's name and the seed."""
    rng = random.Random(f"{config.seed}/{scenario.id}/{scenario.seed}")
    messages = [to_message(turn) for turn in scenario.turns]
    if config.plain:
        talk = random.Random(f"{config.seed}/{scenario.id}/{scenario.seed}/plain")
        messages = plainer(messages, scenario, config.plain, talk)
    cut = windows(messages, rng.randint(*config.window), estimated)
    tokens = sum(estimated(message["content"]) for message in messages)
    room = min(MOST_ROOM, max(SMALLEST_ROOM, round(rng.choice(config.room) * tokens)))
    found: list[list[Standing]] = []
    places: list[list[int | None]] = []
    heard: list[Message] = []
    for window in cut:
        before, new = found[-1] if found else [], [Message(role="user", content=piece.text) for piece in window]
        found.append(standings(scenario, [*heard, *new], before))
        of_each = zip_longest(scenario.rules, found[-1], before)
        places.append([place_of(rule, now, was, heard, new) for rule, now, was in of_each])
        heard += new
    parts = tuple(tuple(piece.text for piece in window) for window in cut)
    return Episode(scenario, parts, room, tuple(map(tuple, found)), tuple(map(tuple, places)))


def held_out(config: Config, count: int, spread: Spread = map) -> list[Episode]:
    """Episodes of the dev families, always the same ones: to watch, never to learn from.

    Raises:
        ConfigError: see `conversations`.
    """
    watched = dataclasses.replace(config, episodes=count, seed=0, scenarios=None)
    return read_all(conversations(watched, "dev"), watched, spread)


def episodes(config: Config, spread: Spread = map, splits: Sequence[Split] = ("train",)) -> list[Episode]:
    """All conversations as episodes.

    Raises:
        ConfigError: see `conversations`; or one of them is of a split that is not to be trained on.
    """
    found = conversations(config, *splits)
    foreign = sorted({scenario.split for scenario in found} - {*TRAINING, "own"})
    if foreign:
        raise ConfigError(
            f"Scenarios of the split {foreign[0]!r} cannot be trained on",
            "Generate some: python -m eval.generate --split train.",
        )
    return read_all(found, config, spread)


def read_all(found: Sequence[Scenario], config: Config, spread: Spread) -> list[Episode]:
    """Conversations as episodes, in order."""
    made = spread(partial(episode, config=config), found)
    return list(track(made, "Reading conversations", len(found), transient=True))


def follow(one: Episode, answer: Write, count: Count, how: str, stray: float = 0.0) -> Iterator[Row]:
    """The states of an episode when `answer` writes the notes, and what it wrote.

    Into a share `stray` of the notes a sentence of the window before slips that is no rule, wherever it comes to stand.
    """
    rng = random.Random(f"{one.scenario.id}/{one.scenario.seed}/stray")
    notes: tuple[str, ...] = ()
    for fold in range(len(one.windows)):
        heard = sentences_of(one.windows[fold - 1]) if fold and rng.random() < stray else []
        said = rng.choice(heard) if heard else ""
        if said and not claims(said, one.scenario.rules):
            at = rng.randint(0, len(notes))
            notes = (*notes[:at], said, *notes[at:])
        state = one.state(fold, notes, how)
        written = answer(state)
        yield state, written
        notes = tuple(note.text for note in state.after(written, count)[2])


def sentences_of(window: Sequence[str]) -> list[str]:
    """All sentences of some messages, without the date that one may begin with, and without marks of quotation."""
    lines = [line.lstrip("> ") for message in window for line in DATE.sub("", message).splitlines()]
    return [sentence.strip() for line in lines for sentence in split(line) if len(sentence.split()) >= SHORTEST]


def oracle_rows(found: Sequence[Episode], count: Count, stray: float = 0.0) -> Iterator[Row]:
    """States on the oracle's own way, with its answers."""
    for one in found:
        yield from follow(one, oracle, count, "oracle", stray)


def thinned(rows: Sequence[Row], quiet: float, seed: int) -> list[Row]:
    """Rows in any order, with at most a share `quiet` of those in which nothing is to be done."""
    rng = random.Random(seed)
    busy: list[Row] = []
    calm: list[Row] = []
    for state, answer in rows:
        written = parse(answer, state.notes, state.said)
        (busy if written.edits or written.losses else calm).append((state, answer))
    rng.shuffle(calm)
    kept = [*busy, *calm[: round(len(busy) * quiet / (1 - quiet))]]
    rng.shuffle(kept)
    return kept
