"""What has to be set once a process before anything is trained."""

from __future__ import annotations

import warnings

import torch

from train.config import Machine
from train.trl_on_cpu import score_answers_only


def prepare(machine: Machine) -> None:
    """Threads, TRL on a CPU, and no advice of libraries to their own developers."""
    if machine.threads is not None:
        torch.set_num_threads(machine.threads)
    if machine.device == "cpu":
        score_answers_only()
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
