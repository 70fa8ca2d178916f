"""The policies that come with memkv: a folder for each model that one was trained on."""

from __future__ import annotations

from pathlib import Path

from memkv.compaction.origin import made_for, read_origin
from memkv.errors import ModelUnavailable
from memkv.model import HybridModel

SHIPPED = Path(__file__).parent / "adapters"


def find_shipped(model: HybridModel) -> Path | None:
    """The folder of the policy that was trained on these weights, if one comes with memkv."""
    origins = {folder: read_origin(folder) for folder in sorted(SHIPPED.glob("*")) if folder.is_dir()}
    fitting = [folder for folder, origin in origins.items() if origin is not None and made_for(origin, model)]
    # Weights in a precision that no record is of fit any: then the name decides.
    named = [folder for folder in fitting if folder.name == model.name]
    return (*named, *fitting, None)[0]


def shipped_for(model: HybridModel) -> Path:
    """As `find_shipped`.

    Raises:
        ModelUnavailable: none comes for this model.
    """
    folder = find_shipped(model)
    if folder is None:
        known = ", ".join(sorted(each.name for each in SHIPPED.glob("*") if each.is_dir()))
        raise ModelUnavailable(
            f"No trained policy comes with memkv for {model.name} (weights {model.fingerprint.weights}); there is one "
            f"for {known or 'no model'}",
            "Use another compaction strategy, or train one for this model (train/README.md) and name its folder: "
            "trained:FOLDER.",
        )
    return folder
