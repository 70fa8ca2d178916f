"""`python -m train.sft --config configs/policy.yaml`: the warm start, before reinforcement.

First the oracle's edits are imitated; then, twice, the policy writes several answers to states of its own making, and
the best of each by the reward is imitated (rejection sampling), or the oracle's where none was as good (DAgger, arXiv
1011.0686). Give the same command again to go on after an interruption.
"""

from __future__ import annotations

import dataclasses
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import tyro
from datasets import Dataset
from peft import PeftModel
from rich.console import Console
from trl import SFTConfig, SFTTrainer

from memkv.errors import MemkvError
from train.chats import chat_rows, read_chats
from train.config import Config, Machine, load_config
from train.data import episodes, oracle_rows, thinned
from train.machine import base_of, prepared, writer_of
from train.policy import Base, new_adapter, save_adapter, trained_adapter
from train.progress import use_bar
from train.rewards import Reward
from train.rollout import rollout, survival
from train.run_folder import ADAPTER, Curves, RunFolder, open_run
from train.sampling import adapter_in_bf16
from train.shared import shared_prompts
from train.states import Row, State, oracle, read_rows, save_rows
from train.workers import spread_over

WARM, ROWS = "warm", "rows.jsonl"
ROUNDING = 1e-6


@dataclass(frozen=True)
class Options:
    """Train the warm start.

    Attributes:
        config: YAML file, as configs/policy.yaml.
        out: folder of the run.
        start: an adapter to go on with, instead of a new one.
    """

    config: Path = Path("configs/policy.yaml")
    out: Path = Path("build/train/policy")
    start: Path | None = None


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, train, and exit: 0, or 1 with a message."""
    options = tyro.cli(Options, prog="python -m train.sft", description=__doc__, args=arguments)
    console = Console(stderr=True, soft_wrap=True)
    try:
        adapter = run(load_config(options.config), options.out, console, options.start)
    except MemkvError as error:
        console.print(f"[red]{type(error).__name__}[/]: {error}", highlight=False)
        sys.exit(1)
    print(f"The warm start is in {adapter}")


def run(config: Config, out: Path, console: Console, start: Path | None = None) -> Path:
    """All parts that are not done yet; returns the folder of the last one's adapter.

    Raises:
        ConfigError: the folder belongs to another configuration.
        ModelUnavailable: the adapter to start from does not fit.
        TrainingDiverged: see `train.run_folder`.
    """
    folder = open_run(out, config)
    config = prepared(config)
    parts = [WARM, *(f"best-{number}" for number in range(1, config.sft.rejection_rounds + 1))]
    for number, part in enumerate(parts):
        if folder.done(part):
            continue
        base = base_of(config.model, config.machine)
        before = folder.part(parts[number - 1]) / ADAPTER if number else start
        model = trained_adapter(base, before, config.lora) if before else new_adapter(base, config.lora, config.seed)
        cached = folder.part(part) / ROWS
        if not cached.exists():
            made = (
                best_answers(config, base, model, number, folder, console) if number else oracle_answers(config, base)
            )
            save_rows(cached, made)
        rows = list(read_rows(cached))
        console.print(f"{part}: {len(rows)} rows", highlight=False)
        if rows:
            imitate(config, base, model, rows, folder, part)
        else:
            console.print("The first answers were the best already: there is nothing to imitate.", style="yellow")
        save_adapter(model, base, folder.part(part) / ADAPTER, config.lora)
    return folder.part(parts[-1]) / ADAPTER


def oracle_answers(config: Config, base: Base) -> list[Row]:
    """Rows of the oracle; windows in which nothing happens are thinned out."""
    count = base.counter()
    with spread_over(config.machine.processes) as spread:
        found = episodes(config.data, spread, config.sft.families)
    made = list(oracle_rows(found, count, config.data.stray))
    if config.sft.chats:
        made += chat_rows(read_chats(config.sft.chat_files), config.sft.chats, config.seed)
    return thinned(made, config.sft.quiet, config.seed)


def best_answers(
    config: Config, base: Base, model: PeftModel, number: int, folder: RunFolder, console: Console
) -> list[Row]:
    """Rows of the policy's own states: the best of several answers to each, or the oracle's where that is better.

    The policy plays on with its first answers, so that the states are those it gets itself into. Those in which the
    first answer was the best already are thinned out.
    """
    sft, count, reward = config.sft, base.counter(), Reward(base.counter())
    writer = writer_of(config, base, model)
    data = dataclasses.replace(config.data, episodes=sft.rejection_episodes, seed=config.data.seed + 1000 * number)
    with spread_over(config.machine.processes) as spread:
        found = episodes(data, spread)
    seeds = iter(range(10**9))
    hard: list[Row] = []
    easy: list[Row] = []

    def write(states: Sequence[State]) -> list[str]:
        """The first answers, with which the policy goes on; the best ones are kept as rows."""
        greedy = writer.answers(states)
        others = writer.several(states, sft.best_of - 1, sft.temperature, config.seed + next(seeds))
        for state, first, rest in zip(states, greedy, others, strict=True):
            total = partial(reward.total, state)
            best = max([first, *rest, oracle(state)], key=total)
            (hard if total(best) > total(first) + ROUNDING else easy).append((state, best))
        return greedy

    reached = survival(rollout(found, write, count, f"best-{number}"))
    folder.log(f"best-{number}", {"kind": "rollout", "step": 0, **dataclasses.asdict(reached)})
    console.print(
        f"before best-{number}: {reached.survived:.0%} of rules survive, {reached.false:.1%} of what is claimed is "
        f"false; in {len(hard)} of {len(hard) + len(easy)} states another answer was better than the first",
        highlight=False,
    )
    rng = random.Random(config.seed)
    chosen = [*hard, *rng.sample(easy, round(sft.easy * len(easy)))]
    # Hard states alone are of one kind: a policy that is shown nothing else does in every state what these ask for.
    known = list(read_rows(folder.part(WARM) / ROWS))
    chosen += rng.sample(known, min(len(known), round(sft.replay * len(chosen))))
    rng.shuffle(chosen)
    return chosen


def imitate(config: Config, base: Base, model: PeftModel, rows: Sequence[Row], folder: RunFolder, part: str) -> None:
    """Supervised training on (state, answer) rows; only the answer is learned."""
    prompt = base.prompter()
    eos = base.tokenizer.eos_token
    dataset = Dataset.from_list([{"prompt": prompt(state), "completion": answer + eos} for state, answer in rows])
    machine: Machine = config.machine
    epochs = config.sft.epochs if part == WARM else config.sft.rejection_epochs
    arguments = SFTConfig(
        output_dir=str(folder.part(part)),
        num_train_epochs=epochs,
        per_device_train_batch_size=machine.sft_batch,
        gradient_accumulation_steps=config.sft.rows_a_step // machine.sft_batch,
        learning_rate=config.sft.learning_rate if part == WARM else config.sft.learning_rate / 2,
        lr_scheduler_type="cosine",
        warmup_steps=config.sft.warmup,
        max_length=None,
        train_sampling_strategy="group_by_length",
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_steps=config.sft.save_steps,
        save_total_limit=1,
        seed=config.seed,
        report_to=[],
        **machine.trainer_arguments(),
    )
    trainer = SFTTrainer(
        model=model,
        args=arguments,
        train_dataset=dataset,
        processing_class=base.tokenizer,
        callbacks=[Curves(folder, part)],
    )
    use_bar(trainer, part)
    with adapter_in_bf16(model, machine.mixed_precision), shared_prompts(model, config.lora.reads):
        trainer.train(resume_from_checkpoint=folder.checkpoint(part))


if __name__ == "__main__":
    main()
