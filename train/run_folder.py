"""A training run's folder: its configuration, its curves, its checkpoints, and the guards that stop it in time."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from memkv.errors import ConfigError, MemkvError

CONFIG, CURVES, ADAPTER = "config.json", "curves.jsonl", "adapter"


class TrainingDiverged(MemkvError):
    """A run that cannot get better: no numbers, or rewards without any difference for long."""


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """Where a run keeps what it needs to go on."""

    path: Path

    def part(self, name: str) -> Path:
        """A folder for one part of the run."""
        return self.path / name

    def done(self, name: str) -> bool:
        """Whether that part ended with an adapter."""
        return (self.part(name) / ADAPTER / "adapter_model.safetensors").exists()

    def checkpoint(self, name: str) -> str | None:
        """The last whole checkpoint of a part; the trainer writes its state last."""
        found = [path.parent for path in self.part(name).glob("checkpoint-*/trainer_state.json")]
        return str(max(found, key=step_of)) if found else None

    def log(self, part: str, record: dict[str, Any]) -> None:
        """Add one line to the curves."""
        with open(self.path / CURVES, "a", encoding="utf-8") as file:
            file.write(json.dumps({"part": part, **record}) + "\n")

    def curves(self) -> list[dict[str, Any]]:
        """All lines; of those logged twice, by a run that was resumed, the later."""
        path = self.path / CURVES
        if not path.exists():
            return []
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return list({(each["part"], each["kind"], each["step"]): each for each in records}.values())


def open_run(path: Path, config: Any) -> RunFolder:
    """The folder of a run with this configuration, new or to be gone on with.

    Raises:
        ConfigError: it was begun with another configuration.
    """
    path.mkdir(parents=True, exist_ok=True)
    wanted = json.loads(json.dumps(dataclasses.asdict(config)))
    kept = path / CONFIG
    if kept.exists():
        begun = json.loads(kept.read_text(encoding="utf-8"))
        different = sorted(key for key in wanted.keys() | begun.keys() if wanted.get(key) != begun.get(key))
        if different:
            name = different[0]
            raise ConfigError(
                f"{path} was begun with another configuration: {name} is {begun.get(name)!r} there and "
                f"{wanted.get(name)!r} now",
                "Give another --out, or the configuration that it was begun with.",
            )
    kept.write_text(json.dumps(wanted, indent=1), encoding="utf-8")
    return RunFolder(path)


def step_of(checkpoint: Path) -> int:
    """Optimizer steps behind a checkpoint."""
    return int(checkpoint.name.rpartition("-")[2])


class Curves(TrainerCallback):
    """Writes what the trainer logs, and stops a run that has come off the rails.

    Args:
        folder: of the run.
        part: name of this part of it.
        patience: logged steps in a row without any difference in reward that are one too many; 0 for no limit.
    """

    def __init__(self, folder: RunFolder, part: str, patience: int = 0) -> None:
        self.folder, self.part, self.patience = folder, part, patience
        self.without_signal = 0

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Keep the numbers; raise before a checkpoint is written.

        Raises:
            TrainingDiverged: see the class.
        """
        numbers = {key: value for key, value in (logs or {}).items() if isinstance(value, (int, float))}
        if "loss" not in numbers:
            return  # the account of the whole run at its end
        for name in ("loss", "grad_norm", "kl"):
            if not math.isfinite(numbers.get(name, 0.0)):
                raise TrainingDiverged(
                    f"{name} is {numbers[name]} at step {state.global_step}",
                    f"{self._kept()} Go on from it with a lower learning_rate and another --out.",
                )
        self.folder.log(self.part, {"kind": "train", "step": state.global_step, **numbers})
        silent = numbers.get("frac_reward_zero_std", 0.0) >= 1.0
        self.without_signal = self.without_signal + 1 if silent else 0
        if self.patience and self.without_signal >= self.patience:
            raise TrainingDiverged(
                f"all answers of every group got the same reward for {self.without_signal} steps",
                f"{self._kept()} Look at what it writes; go on with a higher temperature and another --out.",
            )

    def _kept(self) -> str:
        """Where the last good checkpoint is."""
        return f"The last good checkpoint is {self.folder.checkpoint(self.part)}."
