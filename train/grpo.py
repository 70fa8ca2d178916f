"""`python -m train.grpo --config configs/policy.yaml`: reinforcement of the compaction policy, after `train.sft`.

GRPO by TRL: several answers to the same state (notes and new messages), each scored by what the evaluation's scorers
and a frozen reader find in the notes it leaves, so that credit goes to the compaction that earned it. The states are
the policy's own: every few steps it plays conversations anew and learns from where it then is. Give the same command
again to go on after an interruption; the trajectory is the same.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from datasets import Dataset
from peft import PeftModel
from rich.console import Console
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl import GRPOConfig, GRPOTrainer

from memkv.errors import ConfigError, MemkvError
from train.config import Config, load_config
from train.machine import base_of, prepared, writer_of
from train.playing import PART, Segment, play, segments, watch
from train.policy import Base, Writer, save_adapter, trained_adapter
from train.progress import use_bar
from train.readers import Readers
from train.rewards import COSTS, Weights
from train.run_folder import ADAPTER, Curves, RunFolder, open_run, step_of
from train.sampling import adapter_in_bf16
from train.shared import shared_prompts
from train.states import State, read, save, to_line
from train.trl_names import keep_groups_together
from train.workers import spread_over

TERMS = tuple(field.name for field in dataclasses.fields(Weights))


@dataclass(frozen=True)
class Options:
    """Train the policy by reinforcement.

    Attributes:
        config: YAML file, as configs/policy.yaml.
        out: folder of the run; the warm start in it is where this begins.
        start: another adapter to begin with.
    """

    config: Path = Path("configs/policy.yaml")
    out: Path = Path("build/train/policy")
    start: Path | None = None


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, train, and exit: 0, or 1 with a message."""
    options = tyro.cli(Options, prog="python -m train.grpo", description=__doc__, args=arguments)
    console = Console(stderr=True, soft_wrap=True)
    try:
        adapter = run(load_config(options.config), options.out, options.start, console)
    except MemkvError as error:
        console.print(f"[red]{type(error).__name__}[/]: {error}", highlight=False)
        sys.exit(1)
    print(f"The trained adapter is in {adapter}")


def run(config: Config, out: Path, start: Path | None, console: Console) -> Path:
    """All segments that are not done yet; returns the adapter's folder.

    Raises:
        ConfigError: the folder belongs to another configuration, or there is no warm start.
        ModelUnavailable: the adapter to start from does not fit.
        TrainingDiverged: see `train.run_folder`.
    """
    folder = open_run(out, config)
    config = prepared(config)
    if folder.done(PART):
        return folder.part(PART) / ADAPTER
    warm = start or warm_start(folder, config)
    machine = config.machine
    with spread_over(machine.processes) as spread, spread_over(machine.readers) as spread_readers:
        readers = Readers(config, spread_readers)
        for segment in segments(config):
            checkpoint = folder.checkpoint(PART)
            if checkpoint is None or step_of(Path(checkpoint)) < segment.last:
                file = folder.part(PART) / f"states-{segment.first:05}.jsonl"
                if not file.exists():
                    save(file, play(config, now(config, folder, warm), segment, folder, console, spread))
                reinforce(config, warm, readers, segment, list(read(file)), folder)
        player = now(config, folder, warm)
        watch(config, player, sum(stage.steps for stage in config.grpo.stages), folder, console, spread)
    save_adapter(player.model, player.base, folder.part(PART) / ADAPTER, config.lora)
    return folder.part(PART) / ADAPTER


def now(config: Config, folder: RunFolder, warm: Path) -> Writer:
    """The policy as the last checkpoint has it; before the first, the warm start."""
    checkpoint = folder.checkpoint(PART)
    base = base_of(config.model, config.machine)
    model = trained_adapter(base, Path(checkpoint) if checkpoint else warm, config.lora)
    return writer_of(config, base, model)


def warm_start(folder: RunFolder, config: Config) -> Path:
    """The last adapter of `train.sft` in the run's folder.

    Raises:
        ConfigError: there is none.
    """
    rounds = config.sft.rejection_rounds
    name = f"best-{rounds}" if rounds else "warm"
    if not folder.done(name):
        raise ConfigError(
            f"{folder.path} holds no warm start {name!r}",
            f"Train it: python -m train.sft --out {folder.path}, or name one with --start.",
        )
    return folder.part(name) / ADAPTER


def group_writer(config: Config, base: Base, model: PeftModel) -> Callable[..., dict[str, Any]]:
    """What TRL asks for answers: the prompt of a group is read once, not once an answer."""
    writer, each = writer_of(config, base, model), config.grpo.answers

    def write(prompts: Sequence[str], trainer: GRPOTrainer) -> dict[str, Any]:
        """Every prompt comes as often as it is to be answered."""
        answers = writer.tokens(prompts[::each], each, config.grpo.temperature)
        read = [base.tokenizer(prompt, add_special_tokens=False)["input_ids"] for prompt in prompts]
        return {"prompt_ids": read, "completion_ids": answers, "logprobs": None}

    return write


def reward_functions(readers: Readers) -> list[Callable[..., list[float]]]:
    """One function a term, as TRL logs them one by one; the sum is weighted by TRL."""

    def function(name: str) -> Callable[..., list[float]]:
        sign = -1.0 if name in COSTS else 1.0

        def term(completions: Sequence[str], state: Sequence[str], **_: Any) -> list[float]:
            """The term of each answer."""
            return [sign * getattr(terms, name) for terms in readers.terms(state, completions)]

        term.__name__ = name
        return term

    return [function(name) for name in TERMS]


class StopAt(TrainerCallback):
    """Ends the trainer at a step of the whole run, with a checkpoint."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """Save and stop at the segment's last step."""
        if state.global_step >= self.step:
            control.should_save = control.should_training_stop = True
        return control


def reinforce(
    config: Config, warm: Path, readers: Readers, segment: Segment, pool: Sequence[State], folder: RunFolder
) -> None:
    """The segment's steps, from the last checkpoint on. TRL keeps a copy of the warm start for the KL divergence."""
    grpo, machine = config.grpo, config.machine
    base = base_of(config.model, machine)
    model = trained_adapter(base, warm, config.lora)
    prompt = base.prompter()
    # One list for the whole run, of which this segment's steps read their own stretch: so that a trainer that resumes,
    # and skips what it has read, comes out at the same row as one that was never stopped.
    rows = [{"prompt": prompt(state), "state": to_line(state)} for state in pool]
    steps = sum(stage.steps for stage in grpo.stages)
    dataset = Dataset.from_list(
        [rows[(i - segment.first * grpo.groups) % len(rows)] for i in range(steps * grpo.groups)]
    )
    arguments = GRPOConfig(
        output_dir=str(folder.part(PART)),
        max_steps=steps,
        shuffle_dataset=False,
        per_device_train_batch_size=machine.grpo_batch,
        gradient_accumulation_steps=grpo.groups * grpo.answers // machine.grpo_batch,
        num_generations=grpo.answers,
        max_completion_length=machine.max_answer,
        temperature=grpo.temperature,
        learning_rate=grpo.learning_rate,
        lr_scheduler_type="constant_with_warmup",
        warmup_steps=grpo.warmup,
        beta=grpo.beta,
        loss_type="dr_grpo",
        scale_rewards="none",
        reward_weights=[getattr(segment.stage.weights, name) for name in TERMS],
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_steps=grpo.save_steps,
        save_total_limit=2,
        seed=config.seed,
        report_to=[],
        **machine.trainer_arguments(),
    )
    trainer = GRPOTrainer(
        model=model,
        args=arguments,
        reward_funcs=reward_functions(readers),
        train_dataset=dataset,
        processing_class=base.tokenizer,
        rollout_func=group_writer(config, base, model),
        callbacks=[Curves(folder, PART, grpo.patience), StopAt(segment.last)],
    )
    keep_groups_together()
    use_bar(trainer, segment.stage.name)
    with adapter_in_bf16(model, machine.mixed_precision), shared_prompts(model, config.lora.reads):
        trainer.train(resume_from_checkpoint=folder.checkpoint(PART))


if __name__ == "__main__":
    main()
