"""`python -m train.hybridize --config configs/hybridize.yaml`: a Llama-family model becomes an attention/SSM hybrid.

In turn: a corpus, stage 1 (each mixer learns its attention's output), the choice of the layers that keep attention,
stage 2 (the whole hybrid learns the base's predictions), the files, and, where they are asked for, hybrids with more
attention out of the same mixers. An interrupted run goes on where it was.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import tyro
from rich.console import Console
from torch import nn
from transformers import BambaForCausalLM

from memkv import HybridModel
from memkv.errors import MemkvError
from memkv.hybrids.mapping import check_maps, to_bamba
from train.hybrid import corpus
from train.hybrid.choose import Swapped, chosen, sensitivities
from train.hybrid.config import Config, Distil, load_config
from train.hybrid.corpus import Tokens, need
from train.hybrid.distil import distil_step, go_on_from, groups, prepare
from train.hybrid.export import export
from train.hybrid.judge import perplexity
from train.hybrid.loop import Loop
from train.hybrid.match import match_step, mixer_groups, new_mixers, put_in
from train.hybrid.rows import Rows
from train.hybrid.speech import chats, episodes
from train.machine import fast_in_bf16
from train.run_folder import RunFolder, open_run

RUNS = Path("build/hybrid")
SENSITIVITIES = "sensitivities.json"
RESULT = "result"
Stage = Literal["corpus", "match", "choose", "distil", "ladder"]


@dataclass(frozen=True)
class Options:
    """Make a hybrid.

    Attributes:
        config: YAML file.
        out: folder of the run.
        model: in place of the configuration's: a folder of a Llama-family model.
        until: stop behind this stage.
    """

    config: Path
    out: Path | None = None
    model: str | None = None
    until: Stage = "ladder"


def main(arguments: Sequence[str] | None = None) -> None:
    """All that is left to do."""
    options = tyro.cli(Options, prog="python -m train.hybridize", description=__doc__, args=arguments)
    console = Console(stderr=True, soft_wrap=True)
    try:
        config = load_config(options.config)
        if options.model is not None:
            config = dataclasses.replace(config, model=options.model)
        hybridize(config, options.out or RUNS / options.config.stem, options.until, console)
    except MemkvError as error:
        console.print(f"[red]{type(error).__name__}[/]: {error}", highlight=False)
        sys.exit(1)


def hybridize(config: Config, out: Path, until: Stage, console: Console) -> None:
    """Every stage that is not done yet, up to `until`.

    Raises:
        UnsupportedModel, ModelUnavailable: the base does not map, or is not there.
        CorpusMissing: nothing to read, or too little.
        TrainingDiverged: NaN; the last good checkpoint is kept.
        ConfigError: the folder was begun with another configuration.
    """
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    folder = open_run(out, config)
    precision = precision_of(config)
    base = HybridModel.from_pretrained(config.model, dtype=precision, device=config.device)
    check_maps(base.hf.config)
    base.hf.requires_grad_(False)
    tokens = corpus_of(config, base, folder, console)
    if until == "corpus":
        return
    mixers = matched(config, base, tokens, folder, precision, console)
    if until == "match":
        return
    attention = choice(config, base, mixers, tokens, folder, console)
    if until == "choose":
        return
    hybrid = begun(config, base, attention)
    put_in(hybrid, mixers)
    distilled(config, base, hybrid, config.distil, tokens, folder, precision, console)
    say_written(export(base, hybrid, out / RESULT, str(config)), console)
    if until == "distil":
        return
    for keep, count in zip(config.ladder.keep, config.ladder.tokens, strict=True):
        attention = choice(config, base, mixers, tokens, folder, console, keep)
        higher = begun(config, base, attention, mixers=False)
        go_on_from(higher, hybrid)
        plan = dataclasses.replace(config.distil, tokens=count, lengths=config.ladder.lengths or config.distil.lengths)
        distilled(config, base, higher, plan, tokens, folder, precision, console)
        say_written(export(base, higher, out / f"{RESULT}-{keep}", str(config), out / RESULT), console)
        hybrid = higher


def say_written(written: tuple[Path, Path], console: Console) -> None:
    """The file and the folder."""
    small, whole = written
    console.print(f"Wrote {small} ({small.stat().st_size / 1e6:.1f} MB) and {whole}", highlight=False)


def precision_of(config: Config) -> torch.dtype:
    """In which products of matrices are computed."""
    if config.dtype == "auto":
        return torch.bfloat16 if fast_in_bf16(config.device) else torch.float32
    found: torch.dtype = getattr(torch, config.dtype)
    return found


def corpus_of(config: Config, base: HybridModel, folder: RunFolder, console: Console) -> Tokens:
    """The corpus, made now if it is not there."""
    place = folder.part("corpus")
    found = corpus.read(place)
    if found is None:
        console.print("Fetching texts, and writing conversations", highlight=False)
        said = chats(config.corpus, base, lambda text: console.print(text, highlight=False))
        made, sources = corpus.build(config.corpus, base, place, said, episodes(config.corpus, base))
        corpus.keep(made, sources, place, config.corpus)
        found = made
    train, apart = (int(sum(map(len, found.documents(held_out)))) for held_out in (False, True))
    console.print(f"Corpus: {train:,} tokens, {apart:,} held out", highlight=False)
    longest = max(config.match.length, *config.distil.lengths)
    need(found.stream(False, config.seed), longest, "The corpus")
    need(found.stream(True, config.seed), 2, "Its held-out part")
    return found


def matched(
    config: Config, base: HybridModel, tokens: Tokens, folder: RunFolder, precision: torch.dtype, console: Console
) -> nn.ModuleList:
    """Stage 1."""
    plan = config.match
    rows = Rows(tokens.stream(False, config.seed))
    mixers = new_mixers(base.hf, Rows(rows.stream).next(2, plan.length).to(config.device))
    steps = -(-plan.tokens // (plan.rows * plan.length))
    loop = Loop(
        "match", folder, mixers, mixer_groups(mixers, plan.learning_rate), rows, steps, plan.warmup, plan.save_steps,
        console,
    )  # fmt: skip

    def step(done: int) -> dict[str, float]:
        errors = match_step(base.hf, mixers, rows.next(plan.rows, plan.length).to(config.device), precision)
        return {"loss": sum(errors) / len(errors), "worst": max(errors)}

    loop.run(step)
    return mixers


def choice(
    config: Config,
    base: HybridModel,
    mixers: nn.ModuleList,
    tokens: Tokens,
    folder: RunFolder,
    console: Console,
    keep: int | None = None,
) -> tuple[int, ...]:
    """The layers that keep their attention; what is known of each layer is written down as it comes."""
    plan = config.choose if keep is None else dataclasses.replace(config.choose, keep=keep)
    if plan.layers:
        return chosen([], plan)
    path = folder.path / SENSITIVITIES
    known = [Swapped(**each) for each in json.loads(path.read_text(encoding="utf-8"))] if path.exists() else []
    stream = tokens.stream(True, config.seed)
    for each in sensitivities(base, mixers, stream, plan, known):
        known.append(each)
        path.write_text(json.dumps([dataclasses.asdict(one) for one in known], indent=1), encoding="utf-8")
        console.print(
            f"layer {each.layer} swapped: perplexity {each.perplexity:.2f}, right answer {each.confidence:.3f}",
            highlight=False,
        )
    found = chosen(known, plan)
    console.print(f"Attention stays in layers {list(found)}", highlight=False)
    return found


def begun(config: Config, base: HybridModel, attention: Sequence[int], mixers: bool = True) -> BambaForCausalLM:
    """A hybrid before stage 2, its mixers still without anything learned; they are trained or not."""
    hybrid = to_bamba(base.hf, attention)
    torch.manual_seed(config.seed)  # the same low-rank beginnings, whatever was drawn before
    prepare(hybrid, config.distil.lora, mixers)
    return hybrid


def distilled(
    config: Config,
    base: HybridModel,
    hybrid: BambaForCausalLM,
    plan: Distil,
    tokens: Tokens,
    folder: RunFolder,
    precision: torch.dtype,
    console: Console,
) -> None:
    """Stage 2 of a hybrid, which is changed in place."""
    part = f"distil-{len(hybrid.config.attn_layer_indices)}"
    held_out = tokens.stream(True, config.seed)
    count = min(len(held_out), config.choose.tokens)
    rows = Rows(tokens.stream(False, config.seed + 1))
    steps = plan.steps
    loop = Loop(
        part, folder, hybrid, groups(hybrid, plan.learning_rate, plan.lora_rate), rows, steps,
        plan.warmup, plan.save_steps, console,
    )  # fmt: skip

    def step(done: int) -> dict[str, float]:
        length = plan.lengths[done % len(plan.lengths)]
        in_all = plan.rows(length)
        at_once = max(1, plan.at_once // length)
        found: defaultdict[str, float] = defaultdict(float)
        for done_rows in range(0, in_all, at_once):
            some = rows.next(min(at_once, in_all - done_rows), length).to(config.device)
            share = len(some) / in_all
            said = distil_step(base.hf, hybrid, some, plan.hidden, share, precision)
            for name, value in said.items():
                found[name] += share * value
        return dict(found)

    hybrid.train()
    loop.run(step)
    hybrid.eval()
    first, last = (perplexity(model, held_out, count) for model in (base.hf, hybrid))
    console.print(f"Held-out perplexity {last:.2f}, of the base {first:.2f}", highlight=False)
    folder.log(part, {"kind": "held_out", "step": steps, "base": first, "hybrid": last})


if __name__ == "__main__":
    main()
