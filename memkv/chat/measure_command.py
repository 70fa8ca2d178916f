"""`memkv measure`: what a model's cache costs, measured on its architecture; and the table of published claims."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from memkv.chat.terminal import emit, err, progress
from memkv.errors import InvalidInput, ModelUnavailable

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


@dataclass(frozen=True)
class Measure:
    """Measure the bytes of a model's cache: its architecture is run without weights, and the tensors are read."""

    model: Annotated[str | None, tyro.conf.Positional] = None
    """A reference name (llama-3-8b), smollm2-135m, a local folder, a config.json, or a hub id."""
    reference: bool = False
    """All published configurations, and a verdict on every published claim (half a minute)."""
    tokens: tuple[int, ...] = (4096, 131_072, 1_048_576)
    """Lengths to show."""
    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"
    """Precision of the model."""
    json: bool = False
    """One JSON document, sizes in bytes."""
    plot: Path | None = None
    """Also draw bytes over tokens into this PNG file (needs matplotlib: pip install 'memkv[plot]')."""

    def run(self) -> int:
        """Measure and print; 0.

        Raises:
            InvalidInput: neither a model nor --reference, both, or a length below one token.
            ModelUnavailable: no model or configuration of that name.
            UnsupportedModel: the model keeps no cache that can be measured.
        """
        if (self.model is None) != self.reference:
            raise InvalidInput("Name one model, or --reference alone", "For example: memkv measure llama-3-8b")
        if not self.tokens or min(self.tokens) < 1:
            raise InvalidInput("A length is below one token", "For example: --tokens 4096 131072")
        if self.reference and self.dtype != "bfloat16":
            raise InvalidInput("The reference table is made at bfloat16", "Leave --dtype out, or name one model.")
        import transformers

        transformers.logging.set_verbosity_error()  # which kernels are missing says nothing about sizes
        if self.plot is not None:
            _require_matplotlib()
        if self.reference:
            self._reference()
        else:
            self._model(str(self.model))
        return 0

    def _reference(self) -> None:
        from memkv.chat.measure_view import claims_table, models_table, wide
        from memkv.reference.table import as_data, build

        with progress("Measuring") as advance:
            table = build(lambda name, done, total: advance(done, total))
        if self.json:
            emit(as_data(table, self.tokens))
        else:
            console = wide()
            console.print(models_table(table.models, self.tokens))
            console.print()
            console.print(claims_table(table.checks))
        self._plot(table.models)

    def _model(self, name: str) -> None:
        import torch

        from memkv.chat.measure_view import model_details, models_table, wide
        from memkv.reference.measured import measure_config
        from memkv.reference.table import model_row

        config, source = find_config(name)
        measured = measure_config(label(name), config, source, getattr(torch, self.dtype))
        if self.json:
            emit(model_row(measured, self.tokens))
        else:
            console = wide()
            console.print(models_table([measured], self.tokens))
            console.print(model_details(measured, self.tokens))
        self._plot([measured])

    def _plot(self, models: object) -> None:
        if self.plot is not None:
            from memkv.reference.plot import draw

            draw(models, self.plot)  # type: ignore[arg-type]
            err().print(f"Plot: {self.plot}", markup=False)


def find_config(name: str) -> tuple[PreTrainedConfig, str]:
    """(configuration, where it comes from) of a reference name, or of anything that `memkv.pretrained` reads.

    Raises:
        ModelUnavailable: nothing of that name; the message lists the names that work offline.
    """
    from huggingface_hub.errors import StrictDataclassError

    from memkv.pretrained import EMBEDDED, load_config
    from memkv.reference.measured import names, reference_config

    if name in names():
        return reference_config(name)
    try:
        return load_config(name, notify=lambda text: err().print(text, markup=False)), name
    except StrictDataclassError as error:
        raise ModelUnavailable(f"{name} contradicts itself: {error}", "Correct the configuration.") from error
    except ModelUnavailable as error:
        offline = f"Measured without a network: {', '.join([EMBEDDED, *names()])}; or a folder; or a config.json."
        raise ModelUnavailable(error.message, offline) from error


def label(name: str) -> str:
    """What a table calls it: a path's last telling part, any other name as it is."""
    path = Path(name).resolve()
    if not path.exists():
        return name
    return path.parent.name if path.name == "config.json" else path.stem if path.is_file() else path.name


def _require_matplotlib() -> None:
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise InvalidInput("--plot needs matplotlib", "pip install 'memkv[plot]'") from error


if __name__ == "__main__":
    sys.exit(tyro.cli(Measure, config=(tyro.conf.FlagConversionOff,)).run())
