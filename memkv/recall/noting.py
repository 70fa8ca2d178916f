"""What a stretch of conversation lays down: notes that a policy makes of it, and earlier ones that are over.

A stretch has some hundred tokens, its rules a few dozen. Where the budget does not hold what was said, it holds those.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from memkv.compaction import CompactionStrategy, TrainedSummary
from memkv.compaction.matching import ALIKE, COPIED, likeness, meant, replaced, stems_of, takes_back
from memkv.compaction.notes import apply, parse
from memkv.compaction.rules import BULLET, find_rules
from memkv.compaction.trained import MOST_ROOM, WINDOW, loaded, write
from memkv.compaction.windows import Count, sentences, windows
from memkv.model import HybridModel
from memkv.recall.stretch import own_words
from memkv.store.records import NotePlace, Notes
from memkv.turns import Message

READ = 192  # tokens of earlier notes that the policy reads with a stretch
Held = list[tuple[NotePlace | None, str]]  # notes, and where those of earlier stretches stand


def noted(
    model: HybridModel, strategy: CompactionStrategy, said: Sequence[str], before: Mapping[NotePlace, str]
) -> Notes:
    """The notes of a stretch in which the user said so much.

    Args:
        model: of the session.
        strategy: of the session. A trained policy writes the notes, with the registry beside it if it has one; with any
            other strategy what is worded as a rule is noted.
        said: the user's messages.
        before: notes of earlier stretches that it may change (`related`).

    Raises:
        ModelUnavailable: the policy's adapter is gone, or belongs to another model.
    """
    held: Held = list(before.items())
    adapter = strategy.adapter_for(model) if isinstance(strategy, TrainedSummary) else None
    if isinstance(strategy, TrainedSummary) and adapter is not None:
        held = by_policy(model, adapter, said, held)
        if strategy.pin_rules:
            held = by_wording(said, held, takes=False)
    else:
        held = by_wording(said, held, takes=True)
    left = {place for place, _ in held}
    return Notes(
        tuple(text for place, text in held if place is None), tuple(place for place in before if place not in left)
    )


def by_policy(model: HybridModel, adapter: Path, said: Sequence[str], held: Held) -> Held:
    """The notes after what the policy makes of the messages, window by window."""
    policy = loaded(model, adapter)
    for window in windows([Message(role="user", content=text) for text in said], WINDOW, model.chat.count):
        texts, new = [text for _, text in held], [piece.text for piece in window]
        answer, sure = write(model, policy, texts, new, MOST_ROOM)
        after = apply(texts, parse(answer, texts, new, sure))
        held = [(None, note.text) if note.before is None else held[note.before - 1] for note in after]
    return held


def changed(said: Sequence[str], kept: Sequence[str], before: Mapping[NotePlace, str]) -> list[NotePlace]:
    """Which notes of an earlier stretch are over by the wording of what the user said later.

    Args:
        said: the later messages.
        kept: notes of them.
        before: notes of the earlier stretch.
    """
    left = {place for place, _ in by_wording(said, list(before.items()), takes=True, rules=kept)}
    return [place for place in before if place not in left]


def by_wording(said: Sequence[str], held: Held, takes: bool, rules: Collection[str] = ()) -> Held:
    """The notes, with what is worded as a rule and like none of them.

    Args:
        said: messages.
        held: notes so far.
        takes: let sentences take notes back too; else somebody has seen to that.
        rules: sentences that are rules however they are worded.
    """
    held = list(held)
    for message in map(own_words, said):
        worded = {*find_rules(message), *rules}
        for sentence in (BULLET.sub("", each) for each in sentences(message)):
            earlier: dict[int | None, str] = {at: text for at, (_, text) in enumerate(held)}
            if takes_back(sentence):
                over = meant(sentence, earlier, fewest=2) if takes else None
            elif sentence in worded and not any(
                same(sentence, text, place is None and not takes) for place, text in held
            ):
                over = replaced(sentence, message, earlier)
                held.append((None, sentence))
            else:
                continue
            if over is not None:
                del held[over]
    return held


def same(sentence: str, note: str, by_policy: bool) -> bool:
    """Whether a note says a sentence; one that the policy just wrote may have slips, another is a rule of its own."""
    return max(likeness(sentence, note), likeness(note, sentence)) >= (ALIKE if by_policy else COPIED)


def related(notes: Mapping[NotePlace, str], said: Sequence[str], count: Count) -> dict[NotePlace, str]:
    """The notes that share the rarest words with what is said, as many as READ tokens hold, in their order."""
    stems = {place: stems_of(note) for place, note in notes.items()}
    seen = Counter(stem for each in stems.values() for stem in each)
    new = stems_of(" ".join(said))
    shares = {place: sum(math.log(1 + len(notes) / seen[stem]) for stem in each & new) for place, each in stems.items()}
    left = READ
    chosen = set()
    for place in sorted(notes, key=lambda place: -shares[place]):
        left -= count(notes[place])
        if left < 0:
            break
        chosen.add(place)
    return {place: note for place, note in notes.items() if place in chosen}
