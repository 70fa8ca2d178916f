"""The reward of a compaction: what the evaluation's own scorers say of the notes it leaves, term by term.

    gate * (survival + behaviour + calibration) - false rules - stale rules - padding - overflow

The notes are cut to their room *before* they are read, so nothing is gained by writing more. Every term is about this
compaction alone: what the notes and the new messages held, not what was lost before.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from eval.reading import question_tokens
from eval.scenarios import Probe
from eval.scorers import choose, is_claimed, is_kept, text_survival
from eval.systems.base import prefill
from eval.systems.fitting import standing
from memkv import HybridModel
from memkv.compaction.base import SUMMARY_HEADING, word_overlap
from memkv.compaction.notes import Loss, Note, as_text, size
from memkv.compaction.windows import Count
from memkv.scoring import Branch, score
from train.states import State, Target

COSTS = ("false_rules", "stale_rules", "padding", "overflow")  # terms that are taken off
ABOUT = 0.5  # share of a declared topic's words that a rule must hold for the declaration to be about it


@dataclass(frozen=True)
class Weights:
    """What each term counts."""

    survival: float = 1.0
    behaviour: float = 0.5
    calibration: float = 0.25
    false_rules: float = 1.5
    stale_rules: float = 0.5
    padding: float = 0.5
    overflow: float = 0.5


@dataclass(frozen=True)
class Terms:
    """Shares from 0 to 1, except `behaviour`, which may be below 0; the gate is already in the first three.

    Attributes:
        gate: share of the answer's lines that are edits.
        survival: reachable rules that the notes say rightly.
        behaviour: mean probability of the right option after the notes, less that after nothing.
        calibration: one less the Brier score of the declared losses.
        false_rules: lines that claim a rule that does not hold, for each rule that could be kept.
        stale_rules: amended rules whose old value is still claimed.
        padding: share of the notes' tokens beyond what the rules that they say rightly take in the user's words:
            filler, the same rule twice, messages copied whole.
        overflow: tokens beyond the room, or beyond what the rules themselves take where that is more, as a share of it.
    """

    gate: float
    survival: float
    behaviour: float
    calibration: float
    false_rules: float
    stale_rules: float
    padding: float
    overflow: float


class Reward:
    """Scores answers. The same answer to the same state is read once.

    Args:
        count: tokens of a text, by the policy's tokenizer.
        reader: a frozen model that is asked the probes; None leaves `behaviour` at 0.
        weights: see `Weights`.
    """

    def __init__(self, count: Count, reader: HybridModel | None = None, weights: Weights | None = None) -> None:
        self.count, self.reader, self.weights = count, reader, weights or Weights()
        self.terms: Callable[[State, str], Terms] = lru_cache(maxsize=4096)(self._terms)
        self._without: dict[tuple[str, tuple[str, ...]], float] = {}

    def total(self, state: State, answer: str) -> float:
        """The sum that a policy is trained on."""
        terms, w = self.terms(state, answer), self.weights
        gained = w.survival * terms.survival + w.behaviour * terms.behaviour + w.calibration * terms.calibration
        lost = (
            w.false_rules * terms.false_rules
            + w.stale_rules * terms.stale_rules
            + w.padding * terms.padding
            + w.overflow * terms.overflow
        )
        return gained - lost

    def _terms(self, state: State, answer: str) -> Terms:
        """Every term of one answer."""
        written, whole, kept = state.after(answer, self.count)
        lines = [note.text for note in kept]
        verdicts = read_notes(lines, state.targets)
        reachable = [target for target in state.targets if target.reachable]
        right = {target.rule.id for target in reachable if is_kept(verdicts[target.rule.id])}
        needed = [target.wording for target in reachable]
        amended = [t for t in reachable if t.rule.old_value is not None]
        n_written = len(written.edits) + len(written.losses) + len(written.malformed)
        gate = 1.0 if not written.malformed else 1 - len(written.malformed) / n_written
        return Terms(
            gate=gate,
            survival=gate * (len(right) / len(reachable) if reachable else 1.0),
            behaviour=gate * self._behaviour(state, lines),
            calibration=gate * (1 - brier(written.losses, reachable, right)),
            false_rules=min(1.0, false_lines(lines, state.targets) / max(1, len(reachable))),
            stale_rules=sum(verdicts[t.rule.id] == "stale" for t in amended) / len(amended) if amended else 0.0,
            padding=padded(
                lines, [t.wording for t in state.targets if t.wording and is_kept(verdicts[t.rule.id])], self.count
            ),
            overflow=overflow(whole, max(state.room, size(needed, self.count)), self.count),
        )

    def _behaviour(self, state: State, lines: Sequence[str]) -> float:
        """What the reader does better with the notes than with nothing, over the probes of reachable rules."""
        asked = {target.rule.id for target in state.targets if target.reachable}
        probes = [probe for probe in state.probes if probe.rule in asked]
        if self.reader is None or not probes:
            return 0.0
        for probe in probes:
            key = (probe.question, probe.options)
            if key not in self._without:
                self._without[key] = self._probabilities(self.reader, (), [probe])[0]
        with_notes = self._probabilities(self.reader, lines, probes) if lines else None
        if with_notes is None:
            return 0.0
        without = [self._without[probe.question, probe.options] for probe in probes]
        return sum(p - p0 for p, p0 in zip(with_notes, without, strict=True)) / len(probes)

    def _probabilities(self, reader: HybridModel, lines: Sequence[str], probes: Sequence[Probe]) -> list[float]:
        """Probability of each probe's right option after the notes."""
        chat = reader.chat
        messages = standing(reader, f"{SUMMARY_HEADING}\n{as_text(lines)}") if lines else []
        live, read = prefill(reader, messages), chat.stable(messages)
        stems = [tuple(question_tokens(reader, read, messages, probe.question)) for probe in probes]
        leaves = [tuple(tuple(chat.encode(option)) for option in probe.options) for probe in probes]
        branches = [Branch(stem, options) for stem, options in zip(stems, leaves, strict=True)]
        found = []
        for probe, branch, sums in zip(probes, branches, score(reader, live, branches), strict=True):
            each = [total / len(leaf) for total, leaf in zip(sums, branch.leaves, strict=True)]
            found.append(choose(each, probe.answer, probe.id).probability)
        return found


def read_notes(lines: Sequence[str], targets: Sequence[Target]) -> dict[str, str]:
    """Rule -> verdict of what the notes say of it, as the evaluation reads it.

    A rule that holds until a day is only kept with the day: without it the note would be false once the day has passed.
    """
    text = as_text(lines)
    found = {rule: said.verdict for rule, said in text_survival(text, [t.rule for t in targets]).verdicts.items()}
    dated = [t.rule for t in targets if t.rule.type == "expiring" and is_kept(found[t.rule.id])]
    past = text_survival(text, [dataclasses.replace(rule, status="expired") for rule in dated]).verdicts
    return {**found, **{rule: "distorted" for rule, said in past.items() if is_claimed(said.verdict)}}


def false_lines(lines: Sequence[str], targets: Sequence[Target]) -> int:
    """Number of lines that claim a rule that does not hold."""
    over = [target.rule for target in targets if not target.wording]
    found = [text_survival(as_text([line]), over).verdicts.values() for line in lines]
    return sum(any(is_claimed(said.verdict) for said in each) for each in found)


def padded(lines: Sequence[str], said: Sequence[str], count: Count) -> float:
    """Share of the tokens of `lines` beyond those of `said`, the rules that they say rightly."""
    taken = size(lines, count)
    return max(0, taken - size(said, count)) / taken if taken else 0.0


def brier(losses: Sequence[Loss], reachable: Sequence[Target], right: set[str]) -> float:
    """Mean squared error of the declared losses over the rules that could have been kept; undeclared is 0."""
    if not reachable:
        return max((loss.probability for loss in losses), default=0.0)
    errors = [(declared(losses, target) - (target.rule.id not in right)) ** 2 for target in reachable]
    return sum(errors) / len(errors)


def declared(losses: Sequence[Loss], target: Target) -> float:
    """The probability of loss that is declared of a rule."""
    about = [loss for loss in losses if word_overlap(loss.topic, f"{target.rule.topic} {target.wording}") >= ABOUT]
    return max((loss.probability for loss in about), default=0.0)


def overflow(notes: Sequence[Note], room: int, count: Count) -> float:
    """Tokens beyond the room, as a share of it, at most 1."""
    return min(1.0, max(0, size([note.text for note in notes], count) - room) / room)
