"""States: one compaction as one prompt, with all that is needed to score whatever is written in answer to it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.scenarios import Probe, Rule, Turn, build
from eval.scorers import text_survival
from memkv.compaction.notes import (
    Count,
    Edit,
    Loss,
    Note,
    Piece,
    Written,
    apply,
    as_text,
    parse,
    prompt,
    size,
    truncate,
    write,
)
from memkv.errors import ConfigError
from memkv.turns import Message
from train.truth import Standing


@dataclass(frozen=True)
class Target:
    """One rule as it stands after the state's messages: what a good memory says of it.

    Attributes:
        rule: `active` with the value that holds, or `never`.
        wording: the sentence that says it; empty where nothing holds.
        reachable: it was in the notes or is said in the new messages, so that keeping it is this compaction's job.
    """

    rule: Rule
    wording: str
    reachable: bool


@dataclass(frozen=True)
class State:
    """Notes and new messages.

    Attributes:
        id: scenario, window and how the notes came about.
        fold: how many compactions went before.
        notes: as the policy finds them.
        turns: the new messages.
        room: tokens that the notes may take.
        targets: every rule of the scenario.
        probes: what can be asked of the rules that hold.
    """

    id: str
    fold: int
    notes: tuple[str, ...]
    turns: tuple[Turn, ...]
    room: int
    targets: tuple[Target, ...]
    probes: tuple[Probe, ...] = ()

    def prompt(self, count: Count) -> list[Message]:
        """What the policy reads."""
        return prompt(self.notes, [Piece(0, turn.role, turn.text) for turn in self.turns], self.room, count)

    def after(self, answer: str, count: Count) -> tuple[Written, tuple[Note, ...], tuple[Note, ...]]:
        """The answer as edits, the notes that it makes, and those of them that fit the room."""
        written = parse(answer, len(self.notes))
        whole = apply(self.notes, written)
        return written, whole, truncate(whole, self.room, count)


Row = tuple[State, str]  # and what was, or should be, written in answer


def targets_of(now: Sequence[Standing], notes: Sequence[str], before: Sequence[Standing]) -> tuple[Target, ...]:
    """Standings as targets: reachable are those in the notes with their value, and those that the messages changed."""
    kept = text_survival(as_text(notes), [standing.rule for standing in now]).verdicts
    earlier = {standing.rule.id: standing for standing in before}
    found = []
    for standing in now:
        was = earlier.get(standing.rule.id)
        new = was is None or was.wording != standing.wording
        in_notes = kept[standing.rule.id].verdict in ("right", "distorted", "ambiguous")
        found.append(Target(standing.rule, standing.wording, bool(standing.wording) and (new or in_notes)))
    return tuple(found)


def oracle(state: State, count: Count) -> str:
    """The best answer: what is new word for word, what has changed in its place, what is over gone.

    Where not all fits, the longest notes go first, so that as many rules as possible stay; their loss is declared.
    """
    lines = dict(enumerate(state.notes, 1))
    says = {number: _rules_in(line, state.targets) for number, line in lines.items()}
    edits: dict[int, Edit] = {}
    added: list[tuple[Target, str]] = []
    for target in state.targets:
        at = next((number for number, ids in says.items() if target.rule.id in ids), None)
        if target.wording:
            right = at is not None and target.rule.id in _right_in(lines[at], state.targets)
            if at is None and target.reachable:
                added.append((target, target.wording))
            elif at is not None and not right:
                edits[at] = Edit("change", at, target.wording)
        elif at is not None:
            edits[at] = Edit("drop", at, "")
    for number in lines:
        if not says[number]:  # a note that is no rule takes room
            edits[number] = Edit("drop", number, "")
    order = {target.rule.id: place for place, target in enumerate(_by_place(state, [t for t, _ in added]))}
    added.sort(key=lambda pair: order[pair[0].rule.id])
    return _within_room(state, lines, edits, added, count)


def _rules_in(line: str, targets: Sequence[Target]) -> set[str]:
    """Ids of the rules that a note claims anything of."""
    found = text_survival(f"- {line}", [target.rule for target in targets]).verdicts
    return {rule for rule, reading in found.items() if reading.verdict != "absent"}


def _right_in(line: str, targets: Sequence[Target]) -> set[str]:
    """Ids of the rules that a note says rightly."""
    found = text_survival(f"- {line}", [target.rule for target in targets]).verdicts
    return {rule for rule, reading in found.items() if reading.verdict == "right"}


def _by_place(state: State, targets: Sequence[Target]) -> list[Target]:
    """Targets in the order in which the messages say them."""
    text = "\n".join(turn.text for turn in state.turns)
    # Without its first letter, which is made a capital where a lead was taken off.
    return sorted(targets, key=lambda target: text.find(target.wording[1:]))


def _within_room(
    state: State,
    lines: dict[int, str],
    edits: dict[int, Edit],
    added: list[tuple[Target, str]],
    count: Count,
) -> str:
    """Edits that keep as many notes as fit; what they give up is declared lost."""
    losses: list[Loss] = []
    topics = {target.rule.id: target.rule.topic for target in state.targets}

    def after() -> list[str]:
        texts = {number: edits[number].text if number in edits else line for number, line in lines.items()}
        return [text for text in texts.values() if text] + [text for _, text in added]

    while size(after(), count) > state.room and after():
        longest = max(after(), key=count)
        new = next((pair for pair in added if pair[1] == longest), None)
        if new is not None:
            added.remove(new)
            losses.append(Loss(new[0].rule.topic, 1.0))
            continue
        number = next(n for n, line in lines.items() if (edits[n].text if n in edits else line) == longest)
        ids = _rules_in(longest, state.targets)
        losses += [Loss(topics[rule], 1.0) for rule in sorted(ids)]
        edits[number] = Edit("drop", number, "")
    chosen = [*(edits[number] for number in sorted(edits)), *(Edit("add", None, text) for _, text in added)]
    return write(chosen, losses)


def save(path: Path, states: Iterable[State]) -> None:
    """Write one JSON object a line, whole or not at all."""
    _write(path, (to_line(state) for state in states))


def save_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write states and answers, one pair a line, whole or not at all."""
    _write(path, (json.dumps({"answer": answer, "state": to_line(state)}) for state, answer in rows))


def _write(path: Path, lines: Iterable[str]) -> None:
    """Into place at the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    partial.replace(path)


def to_line(state: State) -> str:
    """One line of JSON."""
    return json.dumps(dataclasses.asdict(state), ensure_ascii=False, separators=(",", ":"))


def from_line(line: str, where: str = "state") -> State:
    """The inverse of `to_line`.

    Raises:
        ConfigError: it is no state.
    """
    try:
        data = json.loads(line)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{where}: {error}", "Delete the file; it is made again.") from error
    state: State = build(State, data, where)
    return state


def read(path: Path) -> Iterator[State]:
    """States of a file.

    Raises:
        ConfigError: unreadable, or a line that is no state; the message names it.
    """
    yield from (from_line(line, where) for where, line in _lines(path))


def read_rows(path: Path) -> Iterator[Row]:
    """States and answers of a file.

    Raises:
        ConfigError: as `read`.
    """
    for where, line in _lines(path):
        try:
            data = json.loads(line)
            state, answer = data["state"], str(data["answer"])
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{where} is no row: {error}", "Delete the file; it is made again.") from error
        yield from_line(state, where), answer


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """Lines with the place where they stand."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"Cannot read {path}: {error}", "Delete the file; it is made again.") from error
    yield from ((f"{path}:{number}", line) for number, line in enumerate(lines, 1) if line.strip())
