"""`python -m train.carry ADAPTER --onto smollm2-hybrid --out FOLDER`: a base's adapter for a hybrid made out of it.

The feed-forward parts have another name there, and layers that kept their attention have the same. A mixer began as its
attention (`train/hybrid/initialise.py`): what the adapter adds to values, keys and queries is added to the rows of the
mixer's input projection that came from them, and what it adds to the output projection stays there. A beginning for
training, not the same policy.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from rich.console import Console
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import BambaConfig

from memkv.compaction.origin import Origin, read_origin, write_origin
from memkv.errors import ConfigError, MemkvError
from memkv.hybrids.mapping import renamed
from memkv.pretrained import HYBRID
from train.policy import ORIGIN, WEIGHTS, load_base

SETTINGS = "adapter_config.json"
LAYER = re.compile(r"(.*\.layers\.(\d+)\.)self_attn\.q_proj\.lora_A\.weight")
FROM_ATTENTION = ("v_proj", "k_proj", "q_proj")  # the order of x, B, C in the rows of a mixer's input projection
TARGETS = ("gate_proj", "up_proj", "down_proj", "q_proj", "k_proj", "v_proj", "o_proj", "in_proj", "out_proj")


@dataclass(frozen=True)
class Options:
    """Carry an adapter over.

    Attributes:
        adapter: its folder.
        onto: the hybrid: a name or a folder.
        out: new folder.
    """

    adapter: tyro.conf.Positional[Path]
    out: Path
    onto: str = HYBRID


def main(arguments: Sequence[str] | None = None) -> None:
    """Read, rename, write."""
    options = tyro.cli(Options, prog="python -m train.carry", description=__doc__, args=arguments)
    try:
        carry(options.adapter, options.onto, options.out)
    except MemkvError as error:
        Console(stderr=True, soft_wrap=True).print(f"[red]{type(error).__name__}[/]: {error}", highlight=False)
        sys.exit(1)
    print(f"Wrote {options.out}")


def carry(adapter: Path, onto: str, out: Path) -> None:
    """Write the adapter for the hybrid, with a record of it.

    Raises:
        ConfigError: no adapter to read, or one that does not fit; or the model is no such hybrid.
        ModelUnavailable: no such hybrid.
    """
    try:
        settings = json.loads((adapter / SETTINGS).read_text(encoding="utf-8"))
        stored = load_file(adapter / WEIGHTS)
    except (OSError, ValueError, SafetensorError) as error:
        raise ConfigError(f"No adapter to read in {adapter}: {error}", "Name the folder of one.") from error
    hybrid = load_base(onto, "bfloat16", "cpu")
    config = hybrid.model.config
    if not isinstance(config, BambaConfig):
        raise ConfigError(f"{onto} is a {config.model_type}", "Name a hybrid that train.hybridize made.")
    rank, alpha = settings["r"], settings["lora_alpha"]
    settings |= {
        "base_model_name_or_path": onto,
        "target_modules": sorted(TARGETS),
        "rank_pattern": {"in_proj": len(FROM_ATTENTION) * rank},
        "alpha_pattern": {"in_proj": len(FROM_ATTENTION) * alpha},
    }
    try:
        made = carried(stored, config)
    except (KeyError, RuntimeError) as error:
        raise ConfigError(
            f"The adapter in {adapter} does not fit {onto}: {error}", "Name one of the base that it was made of."
        ) from error
    out.mkdir(parents=True, exist_ok=True)
    save_file(made, out / WEIGHTS, metadata={"format": "pt"})
    (out / SETTINGS).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    origin = read_origin(adapter)
    write_origin(out, Origin(onto, hybrid.weights, str(ORIGIN).removeprefix("torch."), origin is None or origin.reads))


def carried(stored: Mapping[str, Tensor], config: BambaConfig) -> dict[str, Tensor]:
    """The adapter's weights under the hybrid's names."""
    found = {name: each for name, each in renamed(stored).items() if ".self_attn." not in name}
    for name in stored:
        match = LAYER.fullmatch(name)
        if match is None:
            continue
        layer, number = match.group(1), int(match.group(2))
        attention = f"{layer}self_attn."
        theirs = {key.removeprefix(attention): each for key, each in stored.items() if key.startswith(attention)}
        if number in config.attn_layer_indices:
            found |= {f"{attention}{key}": each for key, each in theirs.items()}
        else:
            found |= {f"{layer}mamba.{key}": each for key, each in of_mixer(theirs, config).items()}
    return found


def of_mixer(attention: Mapping[str, Tensor], config: BambaConfig) -> dict[str, Tensor]:
    """What an adapter adds to an attention, as what it adds to the mixer that began as that attention."""
    heads, width = config.mamba_n_heads, config.mamba_d_head
    down = torch.cat([attention[f"{part}.lora_A.weight"] for part in FROM_ATTENTION])
    rank = len(down) // len(FROM_ATTENTION)
    up = torch.zeros(2 * heads * width + 2 * heads * config.mamba_d_state + heads, len(down), dtype=down.dtype)
    for number, part in enumerate(FROM_ATTENTION):
        rows = attention[f"{part}.lora_B.weight"].view(-1, width, rank)
        rows = rows.repeat_interleave(heads // len(rows), 0).reshape(heads * width, rank)
        first = (1 + number) * heads * width  # behind the gate
        up[first : first + heads * width, number * rank : (number + 1) * rank] = rows
    return {
        "in_proj.lora_A.weight": down.contiguous(),
        "in_proj.lora_B.weight": up,
        **{f"out_proj.{name}.weight": attention[f"o_proj.{name}.weight"] for name in ("lora_A", "lora_B")},
    }


if __name__ == "__main__":
    main()
