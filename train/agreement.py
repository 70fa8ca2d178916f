"""`python -m train.agreement ADAPTER`: where a policy goes another way than the oracle, token by token.

The oracle's answers on families that were never trained on are read once with the adapter on; at every token it is
noted whether the policy would have written the same. The first token of a line is a decision (what the next message
asks for), the others are copied: the two are learned at different speeds, and call for different cures.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from peft import PeftModel
from rich.console import Console
from torch.nn.utils.rnn import pad_sequence

from memkv.errors import MemkvError
from train.config import Config, load_config
from train.data import held_out, oracle_rows
from train.machine import base_of, prepared
from train.policy import Base, trained_adapter
from train.shared import places, read_prompts
from train.states import Row
from train.workers import spread_over

COPIED, LETTER, END = "inside a line", "a letter", "the end"
BEGINNINGS = {"+": "+ a new note", "~": "~ a changed note", "-": "- a note that is over", "L": "LOST", "N": "No change"}
BATCH = 16


@dataclass(frozen=True)
class Options:
    """Compare a policy with the oracle.

    Attributes:
        adapter: folder of the adapter.
        config: YAML file that it was trained with.
        episodes: conversations of dev families; the same that `train.look` plays.
    """

    adapter: tyro.conf.Positional[Path]
    config: Path = Path("configs/policy.yaml")
    episodes: int = 16


@dataclass
class Tally:
    """How often the policy would have written the oracle's token, of how often it came up."""

    same: int = 0
    all: int = 0


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare, print, and exit: 0, or 1 with a message."""
    options = tyro.cli(Options, prog="python -m train.agreement", description=__doc__, args=arguments)
    try:
        found = agreement(load_config(options.config), options)
    except MemkvError as error:
        Console(stderr=True).print(f"{type(error).__name__}: {error}", markup=False, highlight=False, soft_wrap=True)
        sys.exit(1)
    for kind, tally in sorted(found.items(), key=lambda pair: -pair[1].all):
        print(f"{kind:<22}{tally.same / tally.all:7.1%} of {tally.all:,}")
    begun = [tally for kind, tally in found.items() if kind != COPIED]
    print(f"{'all beginnings':<22}{sum(t.same for t in begun) / sum(t.all for t in begun):7.1%}")


def agreement(config: Config, options: Options) -> dict[str, Tally]:
    """Kind of token -> tally.

    Raises:
        ModelUnavailable: no adapter there, or one for another model.
    """
    config = prepared(config)
    base = base_of(config.model, config.machine)
    model = trained_adapter(base, options.adapter, config.lora)
    count = base.counter()
    with spread_over(config.machine.processes) as spread:
        rows = list(oracle_rows(held_out(config.data, options.episodes, spread), count))
    prompt = base.prompter()
    rows.sort(key=lambda row: len(prompt(row[0])))
    model.eval()
    found: dict[str, Tally] = defaultdict(Tally)
    for start in range(0, len(rows), BATCH):
        for kind, same in compared(model, base, rows[start : start + BATCH], config.lora.reads):
            found[kind].all += 1
            found[kind].same += same
    return dict(found)


@torch.no_grad()
def compared(model: PeftModel, base: Base, rows: Sequence[Row], reads: bool) -> Iterator[tuple[str, bool]]:
    """Each token of the oracle's answers: its kind, and whether the policy's likeliest one is the same."""
    encode, prompt = base.chat.encode, base.prompter()
    prompts = [encode(prompt(state)) for state, _ in rows]
    answers = [[*encode(answer), base.tokenizer.eos_token_id] for _, answer in rows]
    read = read_prompts(model, prompts, reads)
    answers_BA = pad_sequence([torch.tensor(answer) for answer in answers], batch_first=True).to(model.device)
    held_BT = torch.cat([read.mask_BP, torch.ones_like(answers_BA)], 1)  # what follows an answer does not count
    likeliest_BA = model(
        input_ids=torch.cat([read.last_B1, answers_BA[:, :-1]], 1),
        attention_mask=held_BT,
        position_ids=places(held_BT)[:, read.mask_BP.shape[1] :],
        past_key_values=read.cache,
    ).logits.argmax(-1)
    for answer, likeliest in zip(answers, likeliest_BA.tolist(), strict=True):
        text = [base.chat.decode([token]) for token in answer]
        for at, token in enumerate(answer):
            yield kind_of(text, at), likeliest[at] == token


def kind_of(text: Sequence[str], at: int) -> str:
    """What the token at a place of an answer is: the beginning of a line of some kind, its end, or part of it."""
    if at == len(text) - 1:
        return END
    if at and not text[at - 1].endswith("\n"):
        return COPIED
    rest = "".join(text[at:]).split("\n")[0]
    return LETTER if rest.strip().isalpha() and rest.strip().isupper() else BEGINNINGS.get(rest[:1], COPIED)


if __name__ == "__main__":
    main()
