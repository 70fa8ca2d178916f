"""States: one compaction as one prompt, with all that is needed to score whatever is written in answer to it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.scenarios import Probe, Rule, build
from eval.scorers import text_survival
from memkv.compaction.notes import BULLET, Edit, Note, Written, apply, as_text, fitting, parse, prompt, write
from memkv.compaction.windows import Count
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
        place: index of the user's message among the new ones that made it so; None where it was so before.
    """

    rule: Rule
    wording: str
    reachable: bool
    place: int | None = None


@dataclass(frozen=True)
class State:
    """Notes and new messages.

    Attributes:
        id: scenario, window and how the notes came about.
        fold: how many compactions went before.
        notes: as the policy finds them.
        said: the user's new messages, or parts of long ones.
        room: tokens that the notes may take.
        targets: every rule of the scenario.
        probes: what can be asked of the rules that hold.
    """

    id: str
    fold: int
    notes: tuple[str, ...]
    said: tuple[str, ...]
    room: int
    targets: tuple[Target, ...]
    probes: tuple[Probe, ...] = ()

    def prompt(self, count: Count) -> list[Message]:
        """What the policy reads."""
        return prompt(self.notes, self.said, self.room, count)

    def after(self, answer: str, count: Count) -> tuple[Written, tuple[Note, ...], tuple[Note, ...]]:
        """The answer as edits and losses, the notes that it makes, and those of them that are kept in the room."""
        written = parse(answer, self.notes, self.said)
        whole = apply(self.notes, written)
        kept, left = fitting(whole, self.room, count)
        return dataclasses.replace(written, losses=(*written.losses, *left)), whole, kept


Row = tuple[State, str]  # and what was, or should be, written in answer


def targets_of(now: Sequence[Standing], notes: Sequence[str], places: Sequence[int | None]) -> tuple[Target, ...]:
    """Standings as targets: reachable are those in the notes with their value, and those that the messages made so."""
    kept = text_survival(as_text(notes), [standing.rule for standing in now]).verdicts
    found = []
    for standing, place in zip(now, places, strict=True):
        in_notes = kept[standing.rule.id].verdict in ("right", "ambiguous")
        reachable = bool(standing.wording) and (place is not None or in_notes)
        found.append(Target(standing.rule, standing.wording, reachable, place))
    return tuple(found)


def oracle(state: State) -> str:
    """The best answer of one who knows no more than what the policy reads.

    What is new is noted word for word under its message, in the place of what it changes; what is over goes there by
    its topic. What is no rule, is wrong beside a right note, or is said twice goes before. Room is the
    allocator's matter.
    """
    rules = [target.rule for target in state.targets]
    claimed = [claims(line, rules) for line in state.notes]
    in_force = {target.rule.id for target in state.targets if target.wording}
    right = [{rule for rule, verdict in each.items() if verdict == "right" and rule in in_force} for each in claimed]
    held = {rule for each in right for rule in each}
    edits: list[Edit] = []
    seen: set[str] = set()
    for number, (said, good) in enumerate(zip(claimed, right, strict=True), 1):
        if good - seen:
            seen |= good
        elif said.keys() <= held:
            edits.append(Edit("drop", state.notes[number - 1], None, number))
    gone = {edit.number for edit in edits}
    for target in _as_said(state):
        wrong = [n for n in range(1, len(claimed) + 1) if n not in gone and not right[n - 1]]
        about = [n for n in wrong if target.rule.id in claimed[n - 1]]
        if target.place is None or target.rule.id in held or not (target.wording or about):
            continue  # nobody who reads no more than the messages can know better
        if not about:
            edits.append(Edit("add", target.wording, target.place))
        elif target.wording:
            edits.append(Edit("change", target.wording, target.place, about[0]))
        else:
            edits.append(Edit("drop", _named(state.notes[about[0] - 1], target, state), target.place, about[0]))
        gone |= set(about[:1])
    return write(edits, messages=len(state.said))


def _named(note: str, target: Target, state: State) -> str:
    """How the messages say what a note is about, or else the note itself."""
    topic = target.rule.topic
    return topic if any(topic.casefold() in message.casefold() for message in state.said) else note


def claims(line: str, rules: Sequence[Rule]) -> dict[str, str]:
    """Rules that a note claims anything of, with what the metric finds of each."""
    found = text_survival(f"{BULLET}{line}", rules).verdicts
    return {rule: reading.verdict for rule, reading in found.items() if reading.verdict != "absent"}


def _as_said(state: State) -> list[Target]:
    """Targets in the order in which the messages say them."""
    text = "\n".join(state.said)
    # Without its first letter, which is made a capital where a lead was taken off.
    return sorted(state.targets, key=lambda target: text.find(target.wording[1:]))


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
