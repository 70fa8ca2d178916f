"""PEFT adapters on a model: put in whole or not at all, switched on and off."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from transformers import PreTrainedModel

from memkv.errors import ModelUnavailable


def load_adapter(model: PreTrainedModel, path: str | Path, name: str) -> None:
    """Add the adapter in a local folder under `name`, active afterwards.

    Raises:
        ModelUnavailable: no adapter there, a damaged one, or one for another model; the model is as it was.
    """
    try:
        found = model.load_adapter(str(path), adapter_name=name)
        if wrong := [*found.missing_keys, *found.unexpected_keys, *found.mismatched_keys]:
            raise ValueError(f"{len(wrong)} of its tensors do not fit this model, the first is {wrong[0]}")
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        # What was put in so far must not stay active: it would change the base model's answers.
        if name in adapters(model):
            model.delete_adapter(name)
        raise ModelUnavailable(
            f"No usable adapter in {path}: {error}", "Give a folder that PEFT wrote for this model."
        ) from error


def switch_adapter(model: PreTrainedModel, name: str | None) -> None:
    """Make adapter `name` the active one, or none.

    Raises:
        ModelUnavailable: it is not loaded.
    """
    if name is None:
        if adapters(model):
            model.disable_adapters()
    elif name in adapters(model):
        model.enable_adapters()
        model.set_adapter(name)
    else:
        raise ModelUnavailable(f"Adapter {name!r} is not loaded", "Call load_adapter() first.")


def adapters(model: PreTrainedModel) -> dict[str, object]:
    """Loaded adapters by name; PEFT puts the attribute there with the first one."""
    return getattr(model, "peft_config", {})
