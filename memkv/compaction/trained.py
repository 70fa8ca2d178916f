"""Self-summarization by a trained policy: an adapter on the session's own model, on only while it compacts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from blake3 import blake3

from memkv.compaction.base import (
    NEW,
    Compaction,
    Context,
    Item,
    LedgerEntry,
    LossLedger,
    Status,
    entry_of,
    keep_recent,
    word_overlap,
)
from memkv.compaction.declare import Calibration, evidence, load_calibration
from memkv.compaction.drafting import drafted
from memkv.compaction.notes import BULLET, Loss, Note, apply, bare, fitting, letter, parse, prompt
from memkv.compaction.origin import check_origin, read_origin
from memkv.compaction.shipped import SHIPPED, shipped_for
from memkv.compaction.windows import windows
from memkv.compaction.worded import with_worded
from memkv.model import HybridModel
from memkv.turns import ChatFormat, Message

WINDOW = 320  # tokens of the user's new messages that the policy reads at once, as in training
MOST_ROOM = 384  # tokens of notes; it was trained on no more
LONGEST_ANSWER = 384  # tokens: a window of nothing but rules, with letters and signs


@dataclass(frozen=True)
class TrainedSummary:
    """The policy folds the new messages into its notes, window by window; the newest messages stay in front of them.

    Every note is an item of its own, so that the ledger and `forget` know what it was made from, and a note that
    nobody touches stays the same item through all compactions.

    Attributes:
        adapter: folder of the adapter (PEFT), with its calibration; SHIPPED takes the one that comes for the model,
            None asks the model as it is, to compare with.
        pin_rules: let the registry's sentences compete for the room too, word for word.
    """

    adapter: Path | None
    pin_rules: bool = False

    @property
    def name(self) -> str:
        """`trained`, `trained:FOLDER`, or `notes` without an adapter; with `pinned+` the registry competes."""
        name = "notes" if self.adapter is None else "trained" if self.adapter == SHIPPED else f"trained:{self.adapter}"
        return f"pinned+{name}" if self.pin_rules else name

    def adapter_for(self, model: HybridModel) -> Path | None:
        """The adapter that writes.

        Raises:
            ModelUnavailable: none comes for this model.
        """
        return shipped_for(model) if self.adapter == SHIPPED else self.adapter

    def compact(self, context: Context, aim: int, most: int) -> Compaction:
        """See `CompactionStrategy.compact`.

        Raises:
            ModelUnavailable: there is no such adapter, or it belongs to another model.
        """
        adapter = self.adapter_for(context.model)
        calibration = Calibration() if adapter is None else load_calibration(adapter)
        room = room_for_notes(context, aim, self.pin_rules)
        notes, losses = fold(context, adapter, room)
        rules = context.standing("rule")
        if self.pin_rules:
            rules, notes, left = with_worded(context, notes, room)
            losses = (*losses, *left)
        new = renumbered(context, (*context.standing("system"), *rules, *notes))
        standing = [item for item in new if item.kind != "summary"]
        behind = [item for item in new if item.kind == "summary"]
        kept = keep_recent(context, standing, aim, most, behind)
        return Compaction(kept.items, kept.before, kept.after, declare(context, kept.items, losses, calibration))


def room_for_notes(context: Context, aim: int, pin_rules: bool = False) -> int:
    """Tokens that notes may take: what `aim` bytes leave beside what stands already, at most MOST_ROOM.

    With `pin_rules`, sentences that the registry found take part in that room and do not stand beside it.
    """
    headings = [Item(0, "summary", "", BULLET), *([Item(0, "rule", "", "")] if pin_rules else [])]
    beside = [item for item in context.standing("system", "rule") if not (pin_rules and item.sure is not None)]
    free = aim - context.bytes_of((*beside, *headings))
    profile = context.model.profile
    if profile.at(MOST_ROOM) - profile.at(0) <= free:
        return MOST_ROOM
    fits = 1
    while profile.at(fits + 1) - profile.at(0) <= free:
        fits += 1
    return fits


def fold(context: Context, adapter: Path | None, room: int) -> tuple[tuple[Item, ...], tuple[Loss, ...]]:
    """The notes after the messages that they did not cover yet, and what the policy declared lost on the way."""
    model, count = context.model, context.model.chat.count
    notes = [note for item in context.standing("summary") for note in as_notes(item)]
    # A note's number is higher than those of all messages that were there when it was made: they were read then.
    covered = max((n for item in context.standing("summary") for n in (item.n, *item.sources)), default=0)
    unread = [item for item in context.messages() if item.n > covered]
    losses: list[Loss] = []
    policy = loaded(model, adapter)
    for window in windows([Message(role=item.role, content=item.text) for item in unread], WINDOW, count):
        said, sources = [piece.text for piece in window], [unread[piece.turn].n for piece in window]
        texts = [bare(note.text) for note in notes]
        answer, sure = write(model, policy, texts, said, room)
        written = parse(answer, texts, said, sure)
        kept, left = fitting(apply(texts, written), room, count)
        notes = [itemize(note, notes, sources) for note in kept]
        losses += [*written.losses, *left]
    return tuple(notes), tuple(losses)


def renumbered(context: Context, items: Sequence[Item]) -> tuple[Item, ...]:
    """Items with the numbers that new ones get: without a gap from `context.next_n` on, as they are stored."""
    known = {item.n for item in context.items}
    numbers = iter(range(context.next_n, context.next_n + len(items)))
    return tuple(item if item.n in known else replace(item, n=next(numbers)) for item in items)


def as_notes(item: Item) -> list[Item]:
    """A standing summary as notes: itself if it is one line of notes, else one for each of its lines, not yet kept."""
    lines = [line.strip() for line in item.text.splitlines() if line.strip()]
    if len(lines) == 1 and lines[0].startswith(BULLET):
        return [item]
    return [Item(NEW, "summary", "", BULLET + line.removeprefix(BULLET), (*item.sources, item.n)) for line in lines]


def itemize(note: Note, before: Sequence[Item], read: Sequence[int]) -> Item:
    """A note as an item: the one that it was before, or a new one with the messages that it was made from.

    Args:
        note: as the fold left it.
        before: the notes as the fold found them.
        read: numbers of the messages that it read. A note that does not say which one it is of is of all.
    """
    if note.before is not None:
        return before[note.before - 1]
    at = note.under
    sources = read if at is None or at >= len(read) else [read[at]]
    return Item(NEW, "summary", "", BULLET + note.text, tuple(dict.fromkeys(sources)), round(note.sure, 4))


@dataclass(frozen=True)
class Policy:
    """What writes: an adapter by its name in the model, and whether it is on while the prompt is read."""

    name: str | None
    reads: bool


def loaded(model: HybridModel, adapter: Path | None) -> Policy:
    """The adapter, loaded at its first use and switched off; without one, the model as it is.

    Raises:
        ModelUnavailable: there is no such adapter, or it belongs to another model.
        ConfigError: the record of what it was trained on is damaged.
    """
    if adapter is None:
        return Policy(model.adapter, reads=True)
    # Two folders may share a name, and PyTorch takes no dot in it.
    name = f"{adapter.name.replace('.', '_')}-{blake3(str(adapter.resolve()).encode()).hexdigest(8)}"
    if not model.has_adapter(name):
        check_origin(adapter, model)
        model.load_adapter(adapter, name)
    origin = read_origin(adapter)
    return Policy(name, reads=origin is None or origin.reads)


def write(
    model: HybridModel, policy: Policy, notes: Sequence[str], said: Sequence[str], room: int
) -> tuple[str, dict[str, float]]:
    """The policy's answer, greedily, and of each line the probability of the token that it was least sure of."""
    chat = model.chat
    asked = chat.encode(chat.render(prompt(notes, said, room, chat.count), open_reply=True))
    with model.with_adapter(policy.name if policy.reads else None):
        live = model.new_cache()
        model.extend(live, asked[:-1])
    with model.with_adapter(policy.name):
        live.adapter = policy.name  # whoever read: this cache is thrown away, nothing is stored of it
        model.extend(live, asked[-1:])
        letters = [letter(number) for number in range(len(said))]
        written = list(drafted(model, live, letters, LONGEST_ANSWER))
    sure: dict[str, float] = {}
    for line in lines_of(chat, written):
        text = chat.decode([token for token, _ in line]).strip()
        sure[text] = min(probability for _, probability in line)
    return chat.decode([token for token, _ in written]).strip(), sure


def lines_of(chat: ChatFormat, written: Sequence[tuple[int, float]]) -> Iterator[list[tuple[int, float]]]:
    """Tokens of an answer line by line; the one that ends a line belongs to it."""
    line: list[tuple[int, float]] = []
    for token, probability in written:
        line.append((token, probability))
        if "\n" in chat.decode([token]):
            yield line
            line = []
    if line:
        yield line


def declare(context: Context, after: Sequence[Item], losses: Sequence[Loss], calibration: Calibration) -> LossLedger:
    """What became of each item: of notes by what followed them, of messages by evidence and calibration."""
    numbers = {item.n for item in after}
    notes = [item for item in after if item.kind in ("summary", "rule")]
    return LossLedger(tuple(_entry(item, notes, after, numbers, losses, calibration) for item in context.items))


def _entry(
    item: Item,
    notes: Sequence[Item],
    after: Sequence[Item],
    numbers: set[int],
    losses: Sequence[Loss],
    calibration: Calibration,
) -> LedgerEntry:
    """The ledger entry of one item."""
    if item.n in numbers or item.kind not in ("summary", "rule", "message"):
        return entry_of(item, after, item.n in numbers)
    if item.kind != "message":
        heirs = tuple(note.n for note in notes if item.n in note.sources)
        lost = any(loss.topic == bare(item.text) for loss in losses)
        gone = LedgerEntry(item.n, "store_only" if lost else "dropped", (), 0.0, 0.0)
        overlap = word_overlap(item.text, " ".join(note.text for note in notes if note.n in heirs))
        return LedgerEntry(item.n, "paraphrased", heirs, overlap, 1.0) if heirs else gone
    seen = evidence(item, notes, losses)
    overlap = word_overlap(item.text, " ".join(note.text for note in notes if note.n in seen.notes))
    status: Status = "paraphrased" if seen.notes else "store_only"
    return LedgerEntry(item.n, status, seen.notes, overlap, round(calibration.probability(seen), 4))
