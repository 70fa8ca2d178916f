"""`python -m train.wild ADAPTER`: what a policy notes of messages of no generator, beside what is worded as a rule.

The generator's conversations share frames and talk, in training and in the evaluation. The messages that are held out
in `train/messages` were written without a look at them: rules alone, in a row, in lists, in the midst of a request,
changed; and none.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from rich.console import Console

from memkv.compaction.matching import likeness
from memkv.compaction.notes import apply, parse
from memkv.compaction.rules import find_rules
from memkv.compaction.shipped import SHIPPED
from memkv.compaction.trained import loaded, write
from memkv.errors import MemkvError
from memkv.model import HybridModel
from memkv.pretrained import EMBEDDED
from train.chats import HELD_OUT, Said, chats_of

AT_ONCE = 4  # messages of one window
ROOM = 384
SAME = 0.75  # likeness from which on a note is the sentence


@dataclass(frozen=True)
class Options:
    """Look at what a policy notes of messages that no generator made.

    Attributes:
        adapter: folder of the adapter.
        model: that it was trained on.
        file: chats, as in `train/messages`.
        show: print every message that was not got right.
    """

    adapter: tyro.conf.Positional[Path] = SHIPPED / EMBEDDED
    model: str = EMBEDDED
    file: Path = HELD_OUT
    show: bool = False


@dataclass(frozen=True)
class Tally:
    """Sentences to be noted, how many of them were, and how many notes are none of them."""

    wanted: int = 0
    noted: int = 0
    others: int = 0

    def __add__(self, other: Tally) -> Tally:
        """Both."""
        return Tally(self.wanted + other.wanted, self.noted + other.noted, self.others + other.others)

    def __str__(self) -> str:
        """As it is printed."""
        made = self.noted + self.others
        share = self.noted / max(1, self.wanted)
        return f"{self.noted} of {self.wanted} noted ({share:.0%}), {self.others} of {made} notes are none of them"


def main(arguments: Sequence[str] | None = None) -> None:
    """Read, note, count."""
    options = tyro.cli(Options, prog="python -m train.wild", description=__doc__, args=arguments)
    try:
        examples = [message for chat in chats_of(options.file) for message in chat]
        found = noted(HybridModel.from_pretrained(options.model, dtype=torch.float32), options.adapter, examples)
    except MemkvError as error:
        Console(stderr=True, soft_wrap=True).print(f"[red]{type(error).__name__}[/]: {error}", highlight=False)
        sys.exit(1)
    worded = [find_rules(example.said) for example in examples]
    both = [[*ours, *rest] for ours, rest in zip(found, map(without, worded, found), strict=True)]
    for name, notes in (("policy", found), ("worded as rules", worded), ("both", both)):
        print(f"{name:>16}: {sum(map(tally, notes, examples), Tally())}")
    if options.show:
        for example, ours in zip(examples, found, strict=True):
            if tally(ours, example) != Tally(len(example.keep), len(example.keep)):
                print(f"\n{example.said}\n  to note: {list(example.keep)}\n  noted:   {ours}")


def noted(model: HybridModel, adapter: Path, examples: Sequence[Said]) -> list[list[str]]:
    """What the policy notes of each message, in windows that begin without notes."""
    policy = loaded(model, adapter)
    found: list[list[str]] = []
    for start in range(0, len(examples), AT_ONCE):
        window = examples[start : start + AT_ONCE]
        said = [example.said for example in window]
        answer, sure = write(model, policy, [], said, ROOM)
        notes = apply([], parse(answer, [], said, sure))
        last = len(said) - 1  # also of a note that is of no message
        places = [last if note.under is None else min(note.under, last) for note in notes]
        found += [[n.text for n, at in zip(notes, places, strict=True) if at == place] for place in range(len(said))]
    return found


def tally(notes: Sequence[str], example: Said) -> Tally:
    """Notes of one message."""
    held = [sentence for sentence in example.keep if any(likeness(note, sentence) >= SAME for note in notes)]
    return Tally(len(example.keep), len(held), len(without(notes, example.keep)))


def without(texts: Sequence[str], others: Sequence[str]) -> list[str]:
    """Those that are like none of the others."""
    return [text for text in texts if all(likeness(text, other) < SAME for other in others)]


if __name__ == "__main__":
    main()
