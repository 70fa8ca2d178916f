"""Stage 1: every mixer learns, layer by layer, to give what its layer's attention gives.

The base reads a row once; each attention's input and output are noted, and each mixer is trained on its own pair. So a
mixer sees the base's own activations, never the errors of other mixers, and one pass of the base serves all layers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BambaForCausalLM, PreTrainedModel
from transformers.models.bamba.modeling_bamba import BambaMixer

from memkv.hybrids.mapping import bamba_config
from train.hybrid.initialise import from_attention

FASTER = 5.0  # decays, convolutions and biases, than matrices


def new_mixers(base: PreTrainedModel, rows_BT: Tensor) -> nn.ModuleList:
    """A mixer for every layer, begun as its attention, in fp32.

    Args:
        base: the model.
        rows_BT: some text, by which the size of what each attention gives is measured.
    """
    config = bamba_config(base.config, [])
    sizes, distances = head_sizes(base, rows_BT), head_distances(base, rows_BT)
    mixers = nn.ModuleList(BambaMixer(config, layer_idx=index) for index in range(config.num_hidden_layers))
    for mixer, layer, size, back in zip(mixers, base.model.layers, sizes, distances, strict=True):
        from_attention(mixer, layer.self_attn, size, back)
    return mixers.to(next(base.parameters()).device)


def mixer_groups(mixers: nn.Module, rate: float) -> list[tuple[list[nn.Parameter], float]]:
    """Parameters and their learning rates: one number a head or a channel has further to go than a matrix."""
    each = [parameter for parameter in mixers.parameters() if parameter.requires_grad]
    matrices, rest = [one for one in each if one.dim() == 2], [one for one in each if one.dim() != 2]
    return [(matrices, rate), (rest, FASTER * rate)]


@torch.no_grad()
def head_sizes(base: PreTrainedModel, rows_BT: Tensor) -> list[Tensor]:
    """Root mean square of the input of each attention's output projection, for every number of it."""
    found: list[Tensor] = []

    def note(module: nn.Module, args: tuple[Any, ...]) -> None:
        found.append(args[0].float().pow(2).mean((0, 1)).sqrt())

    hooks = [layer.self_attn.o_proj.register_forward_pre_hook(note) for layer in base.model.layers]
    try:
        base.model(rows_BT, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return found


@torch.no_grad()
def head_distances(base: PreTrainedModel, rows_BT: Tensor) -> list[Tensor]:
    """How many tokens each head looks back: the geometric mean of 1 + distance, less what it looks at the first token.

    The first token is where heads look that have nothing to look for (arXiv 2309.17453).
    """
    places = torch.arange(rows_BT.shape[1], device=rows_BT.device)
    far_TS = torch.log1p((places[:, None] - places).clamp_min(0).float())
    before = base.config._attn_implementation
    base.set_attn_implementation("eager")  # the only one that gives its probabilities
    try:
        found = base.model(rows_BT, output_attentions=True, use_cache=False).attentions
    finally:
        base.set_attn_implementation(before)
    looked = [each[..., 1:].float() for each in found]  # BHTS, without the first token
    return [torch.exp((each * far_TS[:, 1:]).sum((0, 2, 3)) / each.sum((0, 2, 3)).clamp_min(1e-6)) for each in looked]


@contextmanager
def noted(base: PreTrainedModel) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Input and output of every attention, while the base reads something."""
    pairs: list[tuple[Tensor, Tensor]] = []

    def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        pairs.append((kwargs.get("hidden_states", args[0] if args else None), output[0]))

    hooks = [layer.self_attn.register_forward_hook(note, with_kwargs=True) for layer in base.model.layers]
    try:
        yield pairs
    finally:
        for hook in hooks:
            hook.remove()


def match_step(
    base: PreTrainedModel, mixers: nn.ModuleList, rows_BT: Tensor, precision: torch.dtype = torch.float32
) -> list[float]:
    """Add the gradients of one batch to the mixers; each layer's relative error (of the mean square).

    The graph of one layer is freed before the next one's is made.
    """
    with torch.no_grad(), noted(base) as pairs, computed_in(precision, rows_BT.device):
        base.model(rows_BT, use_cache=False)
    errors = []
    for mixer, (given, wanted) in zip(mixers, pairs, strict=True):
        with computed_in(precision, rows_BT.device):
            got = mixer(given.float())
        error = relative_error(got, wanted)
        error.backward()
        errors.append(float(error.detach()))
    return errors


def relative_error(got: Tensor, wanted: Tensor) -> Tensor:
    """Mean square of the difference, as a share of the mean square of what was wanted."""
    return (got.float() - wanted.float()).pow(2).mean() / wanted.float().pow(2).mean().clamp_min(1e-12)


def computed_in(precision: torch.dtype, device: torch.device) -> AbstractContextManager[Any]:
    """Products of matrices in a lower precision, if one is asked for."""
    return nullcontext() if precision == torch.float32 else torch.autocast(device.type, precision)


def put_in(hybrid: BambaForCausalLM, mixers: Sequence[nn.Module]) -> None:
    """Give every layer without attention the mixer of its number."""
    with torch.no_grad():
        for index, layer in enumerate(hybrid.model.layers):
            if layer.block_type == "linear_attention":
                layer.mamba.load_state_dict(mixers[index].state_dict())
