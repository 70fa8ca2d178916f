"""What a policy is trained with: one YAML file for warm start and reinforcement, strict."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from memkv.config import load_yaml
from memkv.errors import ConfigError
from train.data import Config as Data
from train.policy import Lora
from train.rewards import Weights

AUTO = "auto"
Families = Literal["train", "practice"]


@dataclass(frozen=True)
class Machine:
    """How large the pieces are that the machine takes at once; the result depends on them only by rounding.

    Attributes:
        dtype: of the frozen base, the adapter is trained in fp32; auto is bfloat16, or float32 with all sums where that
            is faster, as on CPUs without instructions for bf16.
        device: cpu or cuda.
        attention: transformers' implementation, or `grouped` (`train.attention`), which is faster on a CPU.
        threads: of torch on a CPU; None for all cores.
        processes: that read conversations in parallel.
        readers: frozen readers that judge answers, each in a process of its own; one reads in this process.
        batch: answers written at once; at least one whole group.
        max_answer: tokens of one answer.
        sft_batch: rows of one backward pass of the warm start.
        grpo_batch: answers of one backward pass of reinforcement.
        mixed_precision: on a base in bf16, compute in bf16 what the adapter adds too; its weights stay fp32.
    """

    dtype: str = "bfloat16"
    device: str = "cpu"
    attention: str = "sdpa"
    threads: int | None = None
    processes: int = 2
    readers: int = 1
    batch: int = 16
    max_answer: int = 160
    sft_batch: int = 8
    grpo_batch: int = 8
    mixed_precision: bool = False

    def trainer_arguments(self) -> dict[str, Any]:
        """What transformers' trainers have to know of it."""
        return {
            "use_cpu": self.device == "cpu",
            "bf16": self.mixed_precision,
            "gradient_checkpointing": False,
            "dataloader_pin_memory": self.device != "cpu",
        }


@dataclass(frozen=True)
class Sft:
    """The warm start.

    Attributes:
        epochs: over the oracle's rows.
        rows_a_step: rows of one optimizer step.
        learning_rate: at its highest; half of it for rejection sampling.
        warmup: steps.
        quiet: share of the rows kept in which nothing is to be done, of all rows.
        rejection_rounds: times that the best of several answers are imitated.
        rejection_episodes: conversations of each round.
        rejection_epochs: over its rows.
        easy: share of the states kept in which the first answer was the best already.
        replay: rows of the warm start that are mixed in, for each new one.
        best_of: answers to each state.
        temperature: of all but the first, which is greedy.
        families: that the oracle's conversations are made of: train, practice, or both.
        chats: times that each chat of `train/messages` is cut into windows (`train.chats`); 0 leaves them out.
        chat_files: names of the files of chats, without the ending; none takes all but what is held out.
        save_steps: optimizer steps between checkpoints.
    """

    epochs: float = 1.0
    rows_a_step: int = 16
    learning_rate: float = 5e-4
    warmup: int = 10
    quiet: float = 0.2
    rejection_rounds: int = 2
    rejection_episodes: int = 40
    rejection_epochs: float = 1.0
    easy: float = 0.5
    replay: float = 1.0
    best_of: int = 4
    temperature: float = 0.8
    families: tuple[Families, ...] = ("train",)
    chats: int = 0
    chat_files: tuple[str, ...] = ()
    save_steps: int = 25


@dataclass(frozen=True)
class Stage:
    """A stretch of reinforcement.

    Attributes:
        name: of the stage.
        steps: optimizer steps.
        folds: compactions in a row that the policy plays, from notes that are right, anywhere in a conversation; None
            plays it from its beginning to its end.
        weights: of the reward's terms.
    """

    name: str
    steps: int
    folds: int | None = None
    weights: Weights = Weights()


@dataclass(frozen=True)
class Grpo:
    """Reinforcement by groups of answers to the same state (GRPO, arXiv 2402.03300; dr_grpo, arXiv 2503.20783).

    Attributes:
        stages: one after the other; a list in YAML.
        refresh: steps after which the states are made anew by the policy as it is then.
        episodes: conversations that each refresh plays.
        watched: conversations of dev families that are played too, to see how it goes.
        groups: states of one optimizer step.
        answers: to each state.
        temperature: of sampling.
        learning_rate: constant after warm-up.
        warmup: steps.
        beta: weight of the KL divergence from the warm start.
        easy: share of the states kept in which the policy's greedy answer was as good as the oracle's.
        families: that the conversations are made of, as in `Sft`.
        patience: steps without any difference in reward before the run is stopped.
        save_steps: optimizer steps between checkpoints.
    """

    stages: tuple[Stage, ...] = ()
    refresh: int = 20
    episodes: int = 48
    watched: int = 16
    groups: int = 4
    answers: int = 8
    temperature: float = 0.9
    learning_rate: float = 5e-5
    warmup: int = 5
    beta: float = 0.02
    easy: float = 0.25
    families: tuple[Families, ...] = ("train",)
    patience: int = 20
    save_steps: int = 10


@dataclass(frozen=True)
class Config:
    """All of it.

    Attributes:
        model: the base: smollm2-135m, a local folder or a hub id.
        seed: of adapter, sampling and order; conversations have their own in `data`.
    """

    model: str = "smollm2-135m"
    seed: int = 0
    data: Data = field(default_factory=Data)
    lora: Lora = field(default_factory=Lora)
    sft: Sft = field(default_factory=Sft)
    grpo: Grpo = field(default_factory=Grpo)
    machine: Machine = field(default_factory=Machine)


def load_config(path: Path) -> Config:
    """Read and check a YAML file.

    Raises:
        ConfigError: an unknown key, or sizes that do not go together.
    """
    config = load_yaml(Config, path)
    check(config, str(path))
    return config


def check(config: Config, where: str) -> None:
    """Raise ConfigError for sizes that do not go together."""
    if config.sft.rows_a_step % config.machine.sft_batch:
        raise ConfigError(f"{where}: rows_a_step is no multiple of sft_batch", "Correct one of them.")
    if (config.grpo.groups * config.grpo.answers) % config.machine.grpo_batch:
        raise ConfigError(f"{where}: groups times answers is no multiple of grpo_batch", "Correct one of them.")
    if config.sft.rejection_rounds and config.sft.best_of < 2:
        raise ConfigError(f"{where}: the best of {config.sft.best_of} answers is no choice", "Use 2 or more.")
    if config.grpo.answers < 2:
        raise ConfigError(f"{where}: a group of {config.grpo.answers} answers has no differences", "Use 2 or more.")
    if not config.grpo.stages:
        raise ConfigError(f"{where}: grpo.stages is empty", "Give one or more, as in configs/policy.yaml.")
    for stage in config.grpo.stages:
        if stage.steps < 1 or config.grpo.refresh < 1:
            raise ConfigError(f"{where}: stage {stage.name!r} has no steps", "Give 1 or more.")
