"""What a machine asks for: what has to be set before anything is trained, and how many answers are written at once."""

from __future__ import annotations

import dataclasses
import timeit
import warnings

import torch
from huggingface_hub import constants
from peft import PeftModel

from train.config import AUTO, Config, Machine
from train.policy import Base, Writer, load_base
from train.trl_names import score_answers_only


def prepared(config: Config) -> Config:
    """The configuration with its precision decided on; threads and libraries are set, nothing is sent to anybody."""
    machine = config.machine
    constants.HF_HUB_DISABLE_TELEMETRY = True  # TRL reports every run otherwise
    if machine.threads is not None:
        torch.set_num_threads(machine.threads)
    if machine.device == "cpu":
        score_answers_only()
    else:
        torch.set_float32_matmul_precision("high")  # products of fp32 in TF32
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    warnings.filterwarnings("ignore", message="You are using 'rollout_func'")
    if machine.dtype == AUTO:
        machine = dataclasses.replace(machine, dtype="bfloat16" if fast_in_bf16(machine.device) else "float32")
    # Where the base is in fp32, it is because bf16 is slow.
    mixed = machine.mixed_precision and machine.dtype != "float32"
    return dataclasses.replace(config, machine=dataclasses.replace(machine, mixed_precision=mixed))


def fast_in_bf16(device: str) -> bool:
    """Whether a product of matrices takes no longer in bf16 than in fp32: without instructions for it, many times."""
    if device != "cpu":
        return True
    taken = {}
    for dtype in (torch.float32, torch.bfloat16):
        rows, columns = torch.ones(256, 512, dtype=dtype), torch.ones(512, 512, dtype=dtype)
        taken[dtype] = min(timeit.repeat(lambda rows=rows, columns=columns: rows @ columns, number=1, repeat=5))
    return taken[torch.bfloat16] <= 1.5 * taken[torch.float32]


def base_of(name: str, machine: Machine) -> Base:
    """The base model as the machine is to run it. Raises as `train.policy.load_base`."""
    return load_base(name, machine.dtype, machine.device, machine.attention)


def writer_of(config: Config, base: Base, model: PeftModel) -> Writer:
    """A writer of answers with the machine's sizes."""
    machine = config.machine
    return Writer(model, base, machine.batch, machine.max_answer, machine.mixed_precision, config.lora.reads)
