"""A progress bar with a time estimate, in place of the lines that transformers prints."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from transformers import (
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

SHOWN = ("loss", "reward", "kl")


class Bar(TrainerCallback):
    """Shows steps, the newest numbers and the time left.

    Args:
        title: of the part that is trained.
    """

    def __init__(self, title: str) -> None:
        self.progress = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[numbers]}"),
            console=Console(stderr=True),
        )  # fmt: skip
        self.task = self.progress.add_task(title, total=None, numbers="")

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start where a checkpoint left off."""
        self.progress.update(self.task, total=state.max_steps, completed=state.global_step)
        self.progress.start()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """One step further."""
        self.progress.update(self.task, completed=state.global_step)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """The newest numbers."""
        numbers = "  ".join(f"{name} {float(logs[name]):.3f}" for name in SHOWN if logs and name in logs)
        self.progress.update(self.task, numbers=numbers)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Leave the finished bar standing."""
        self.progress.stop()


def use_bar(trainer: Trainer, title: str) -> None:
    """Put the bar in place of what the trainer would print."""
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    trainer.add_callback(Bar(title))
