"""A training loop that can be interrupted anywhere: gradients from a function, AdamW, checkpoints, a stop at NaN."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn

from train.hybrid.rows import Rows, rate
from train.run_folder import RunFolder, TrainingDiverged

CHECKPOINT = "checkpoint.pt"
CLIP = 1.0
BETAS, DECAY = (0.9, 0.95), 0.01
SAID_EVERY = 10  # steps

Step = Callable[[int], Mapping[str, float]]  # adds gradients; what is to be logged, `loss` among it


@dataclass
class Loop:
    """One stage.

    Attributes:
        part: its name.
        folder: of the run.
        modules: that are trained, by name.
        groups: of the optimizer: parameters and their highest learning rates.
        rows: where its rows come from.
        steps: in all.
        warmup: steps.
        save_steps: between checkpoints.
        console: where it says how far it is.
    """

    part: str
    folder: RunFolder
    modules: nn.Module
    groups: Sequence[tuple[list[nn.Parameter], float]]
    rows: Rows
    steps: int
    warmup: int
    save_steps: int
    console: Console

    @property
    def file(self) -> Path:
        """The last good checkpoint."""
        return self.folder.part(self.part) / CHECKPOINT

    def run(self, step: Step) -> None:
        """All steps that are left.

        Raises:
            TrainingDiverged: a loss or a gradient that is no number; the last good checkpoint is kept.
        """
        optimizer = torch.optim.AdamW(
            [{"params": each, "lr": highest} for each, highest in self.groups], betas=BETAS, weight_decay=DECAY
        )
        done = self.resume(optimizer)
        parameters = [parameter for each, _ in self.groups for parameter in each]
        began, first = time.monotonic(), done
        while done < self.steps:
            share = rate(done, self.steps, self.warmup)
            for group, (_, highest) in zip(optimizer.param_groups, self.groups, strict=True):
                group["lr"] = highest * share
            numbers = dict(step(done))
            norm = float(nn.utils.clip_grad_norm_(parameters, CLIP))
            if not (math.isfinite(numbers["loss"]) and math.isfinite(norm)):
                kept = f"The last good checkpoint is {self.file}." if self.file.exists() else "There is no checkpoint."
                raise TrainingDiverged(
                    f"{self.part}: loss {numbers['loss']}, gradient {norm} at step {done + 1}",
                    f"{kept} Go on with a lower learning_rate and another --out.",
                )
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            done += 1
            self.folder.log(self.part, {"kind": "train", "step": done, "tokens": self.rows.taken, **numbers})
            if done % SAID_EVERY == 0 or done == self.steps:
                left = (time.monotonic() - began) / (done - first) * (self.steps - done)
                shown = "  ".join(f"{name} {value:.3f}" for name, value in numbers.items())
                self.console.print(
                    f"{self.part} {done}/{self.steps}  {shown}  {left / 60:.0f} min left", highlight=False
                )
            if done % self.save_steps == 0 or done == self.steps:
                self.save(optimizer, done)

    def resume(self, optimizer: torch.optim.Optimizer) -> int:
        """Steps behind the last checkpoint, which is taken over; 0 without one."""
        if not self.file.exists():
            return 0
        found: dict[str, Any] = torch.load(self.file, map_location="cpu", weights_only=True)
        trained = self.trained()
        with torch.no_grad():
            for name, tensor in found["trained"].items():
                trained[name].copy_(tensor)
        optimizer.load_state_dict(found["optimizer"])
        self.rows.taken = found["taken"]
        return int(found["done"])

    def save(self, optimizer: torch.optim.Optimizer, done: int) -> None:
        """Write a checkpoint; the one before stays until this one is whole."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        partial = self.file.with_suffix(".partial")
        trained = {name: each.detach().clone() for name, each in self.trained().items()}
        torch.save(
            {"trained": trained, "optimizer": optimizer.state_dict(), "taken": self.rows.taken, "done": done}, partial
        )
        os.replace(partial, self.file)

    def trained(self) -> dict[str, Tensor]:
        """Parameters that are trained, by name."""
        return {name: each for name, each in self.modules.named_parameters() if each.requires_grad}
