"""Stage 2: the hybrid as a whole learns to say what the base says (KL divergence), and to think alike on the way.

Trained are the mixers, the norms, and low-rank changes (LoRA, arXiv 2106.09685) of all other matrices, so that what is
stored stays small. Embeddings stay as they are.
"""

from __future__ import annotations

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.helpers import disable_input_dtype_casting
from torch import Tensor, nn
from torch.nn import functional
from transformers import BambaForCausalLM, PreTrainedModel

from memkv.hybrids.mixers import MIXER
from train.hybrid.match import computed_in, mixer_groups

ADAPTER = "distilled"
ADAPTED = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
AT_ONCE = 512  # tokens whose distributions over the vocabulary are compared at once


def prepare(hybrid: BambaForCausalLM, rank: int, mixers: bool = True) -> None:
    """Freeze what is not trained, and add what is; without `mixers` they stay as they are."""
    hybrid.float()
    if rank:
        config = LoraConfig(r=rank, lora_alpha=rank, target_modules=list(ADAPTED), bias="none")
        inject_adapter_in_model(config, hybrid, ADAPTER)
    for name, parameter in hybrid.named_parameters():
        parameter.requires_grad_(is_changed(name) and (mixers or MIXER not in name))


def is_changed(name: str) -> bool:
    """Whether a parameter of the hybrid is another than the base's."""
    return MIXER in name or "lora_" in name or "norm" in name


@torch.no_grad()
def go_on_from(hybrid: BambaForCausalLM, other: BambaForCausalLM) -> None:
    """Take over all that another hybrid learned and that has a place in this one; both prepared alike."""
    learned = dict(other.named_parameters())
    for name, parameter in hybrid.named_parameters():
        if is_changed(name) and name in learned:
            parameter.copy_(learned[name])


def groups(hybrid: nn.Module, rate: float, lora_rate: float) -> list[tuple[list[nn.Parameter], float]]:
    """Mixers at one learning rate, all else at another."""
    mixers = nn.ModuleList(module for name, module in hybrid.named_modules() if name.endswith(".mamba"))
    rest = [each for name, each in hybrid.named_parameters() if each.requires_grad and MIXER not in name]
    return [group for group in (*mixer_groups(mixers, rate), (rest, lora_rate)) if group[0]]


def distil_step(
    base: PreTrainedModel,
    hybrid: BambaForCausalLM,
    rows_BT: Tensor,
    hidden: float,
    share: float,
    precision: torch.dtype = torch.float32,
) -> dict[str, float]:
    """Add the gradients of one batch, times `share`; KL divergence a token in nats, relative error of hidden states."""
    with torch.no_grad(), computed_in(precision, rows_BT.device):
        wanted = base.model(rows_BT, output_hidden_states=True, use_cache=False)
    # PEFT would take every input of the low-rank changes to fp32, which autocast takes back.
    with computed_in(precision, rows_BT.device), disable_input_dtype_casting(hybrid, precision != torch.float32):
        got = hybrid.model(rows_BT, output_hidden_states=True, use_cache=False)
    # The last is behind the final norm, which the divergence sees to.
    errors = [
        token_error(one, other) for one, other in zip(got.hidden_states[1:-1], wanted.hidden_states[1:-1], strict=True)
    ]
    apart = torch.stack(errors).mean() if errors else torch.zeros(())
    last_BTE = got.last_hidden_state.detach().requires_grad_()
    total = divergence_backward(base, hybrid, wanted.last_hidden_state, last_BTE, share, precision)
    assert last_BTE.grad is not None
    torch.autograd.backward([got.last_hidden_state, share * hidden * apart], [last_BTE.grad, None])
    return {"loss": total + hidden * float(apart.detach()), "kl": total, "hidden": float(apart.detach())}


def token_error(got_BTE: Tensor, wanted_BTE: Tensor) -> Tensor:
    """Square of the difference as a share of the squares of both, of each token alone, and the mean; at most 2.

    A few tokens' states are a hundred times as large as all others (arXiv 2402.17762): in one sum over all tokens, or
    as a share of what was wanted alone, they would be all that counts.
    """
    got, wanted = got_BTE.float(), wanted_BTE.float()
    both = got.pow(2).sum(-1) + wanted.pow(2).sum(-1)
    return ((got - wanted).pow(2).sum(-1) / both.clamp_min(1e-12)).mean()


def divergence_backward(
    base: PreTrainedModel,
    hybrid: BambaForCausalLM,
    wanted_BTE: Tensor,
    last_BTE: Tensor,
    share: float,
    precision: torch.dtype,
) -> float:
    """KL divergence a token from the base's distribution; its gradient goes to `last_BTE`, a few tokens at a time.

    Distributions of all tokens at once would take gigabytes.
    """
    wanted, last = wanted_BTE.flatten(0, 1), last_BTE.flatten(0, 1)
    total = 0.0
    for start in range(0, len(last), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        with computed_in(precision, last.device):
            with torch.no_grad():
                right = base.lm_head(wanted[part])
            ours = hybrid.lm_head(last[part])
        found = functional.kl_div(
            ours.float().log_softmax(-1), right.float().log_softmax(-1), log_target=True, reduction="sum"
        ) / len(last)
        (share * found).backward()
        total += float(found.detach())
    return total


def changed(hybrid: BambaForCausalLM) -> dict[str, Tensor]:
    """What differs from the base: mixers and norms as they are, and of matrices the low-rank change."""
    found: dict[str, Tensor] = {}
    for name, tensor in hybrid.state_dict().items():
        if "lora_" in name:
            found[name.replace(f".{ADAPTER}.weight", "").replace("base_layer.", "")] = tensor
        elif is_changed(name):
            found[name] = tensor
    return found
