"""PEFT adapters on a model: put in whole or not at all, switched on and off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peft import PeftConfig, inject_adapter_in_model, load_peft_weights, set_peft_model_state_dict
from safetensors import SafetensorError
from transformers import PreTrainedModel

from memkv.errors import ModelUnavailable


def load_adapter(model: PreTrainedModel, path: str | Path, name: str) -> None:
    """Add the adapter in a local folder under `name`, active afterwards.

    By PEFT's own functions: transformers 5.23's `load_adapter` takes the weights of adapters that are loaded already
    for missing ones of the new adapter, and initializes them anew.

    Raises:
        ModelUnavailable: no adapter there, a damaged one, or one for another model; the model is as it was.
    """
    folder = Path(path)
    try:
        if not (folder / "adapter_config.json").is_file():
            raise ValueError("it holds no adapter_config.json")
        config = PeftConfig.from_pretrained(str(folder))
        config.inference_mode = True
        weights = load_peft_weights(str(folder), device="cpu")
        inject_adapter_in_model(config, model, name)
        model._hf_peft_config_loaded = True  # what `enable_adapters` and its like ask for
        given = {key.removeprefix("base_model.model."): tensor for key, tensor in weights.items()}
        found: Any = set_peft_model_state_dict(model, given, adapter_name=name)
        missing = [key for key in found.missing_keys if f".{name}." in key]
        if wrong := [*missing, *found.unexpected_keys]:
            raise ValueError(f"{len(wrong)} of its tensors do not fit this model, the first is {wrong[0]}")
        model.set_adapter(name)
        model.eval()
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
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
