"""What a machine asks for: what has to be set before anything is trained, and how many answers are written at once."""

from __future__ import annotations

import warnings

import torch
from huggingface_hub import constants
from peft import PeftModel

from train.config import Machine
from train.policy import Base, Writer, load_base
from train.trl_on_cpu import score_answers_only


def prepare(machine: Machine) -> None:
    """Threads, TRL on a CPU; nothing sent to anybody, and no advice of libraries to their own developers."""
    constants.HF_HUB_DISABLE_TELEMETRY = True  # TRL reports every run otherwise
    if machine.threads is not None:
        torch.set_num_threads(machine.threads)
    if machine.device == "cpu":
        score_answers_only()
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    warnings.filterwarnings("ignore", message="You are using 'rollout_func'")


def base_of(name: str, machine: Machine) -> Base:
    """The base model as the machine is to run it. Raises as `train.policy.load_base`."""
    return load_base(name, machine.dtype, machine.device, machine.attention)


def writer_of(machine: Machine, base: Base, model: PeftModel) -> Writer:
    """A writer of answers with the machine's sizes."""
    return Writer(model, base, machine.batch, machine.max_answer, machine.mixed_precision)
