"""`python -m eval.splice_table --models smollm2-135m smollm2-hybrid`: what splicing loses against reading, by the way.

Three stretches of 256 tokens, each of another page of Python's documentation and read alone, are put behind a lead.
Then the 64 tokens that follow the last stretch are read, and the distribution after each is compared with the one after
lead and stretches were read in one piece: KL divergence in nats, and the perplexity of those tokens. Recurrent states
are composed, left as the lead left them, or (with all entries of attention behind the lead taken out) all that is
there. Writes eval/SPLICE.md; needs no network.
"""

from __future__ import annotations

import math
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Literal

import torch
import transformers
import tyro
from rich.console import Console
from torch import Tensor
from torch.nn import functional

from eval.hybrid_table import documents
from memkv import HybridModel
from memkv.errors import MemkvError
from memkv.live import LiveCache
from memkv.pretrained import EMBEDDED, HYBRID
from memkv.snapshot import LayerState
from memkv.splice import Splicer
from memkv.splice.rotation import SLOTS

LEAD = "What follows are pages of a manual.\n\n"
STRETCH, STRETCHES, THEN = 256, 3, 64  # tokens
REPAIRED = 8  # tokens of each stretch
READ, ALONE = "read in one piece", "states alone, "
OUT = Path(__file__).parent / "SPLICE.md"


@dataclass(frozen=True)
class Options:
    """What is measured.

    Attributes:
        models: names or folders.
        texts: groups of stretches; 16 pages are long enough.
        dtype: precision.
        out: the table, as Markdown.
    """

    models: tuple[str, ...] = (EMBEDDED, HYBRID)
    texts: int = 12
    dtype: Literal["float32", "bfloat16"] = "float32"
    out: Path = OUT


@dataclass(frozen=True)
class Row:
    """One way to put the stretches there.

    Attributes:
        kl: nats a token, against reading in one piece; the mean over texts, and its standard error.
        perplexity: of what follows.
    """

    model: str
    way: str
    kl: float
    error: float
    perplexity: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and write the table."""
    options = tyro.cli(Options, prog="python -m eval.splice_table", description=__doc__, args=arguments)
    err = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        found = [row for name in options.models for row in rows(name, options, err)]
    except MemkvError as error:
        err.print(f"{type(error).__name__}: {error}", markup=False)
        return 1
    options.out.write_text(report(found, options), encoding="utf-8")
    print(options.out.read_text(encoding="utf-8"))
    return 0


def rows(name: str, options: Options, err: Console) -> Iterator[Row]:
    """Every way of one model."""
    precision = getattr(torch, options.dtype)
    model = HybridModel.from_pretrained(name, dtype=precision, notify=lambda said: err.print(said, markup=False))
    splicer = Splicer(model)
    lead = model.chat.encode(LEAD)
    texts = documents(model, options.texts)
    divergences: defaultdict[str, list[float]] = defaultdict(list)
    losses: defaultdict[str, list[float]] = defaultdict(list)
    for number in range(len(texts)):
        pages = [texts[(number + n) % len(texts)] for n in range(STRETCHES)]
        stretches = [page[:STRETCH] for page in pages]
        then = pages[-1][STRETCH : STRETCH + THEN]
        wanted_TV: Tensor | None = None
        for way, live in caches(splicer, lead, stretches):
            logits_TV = model.logits_after(live, then).float()
            wanted_TV = logits_TV if wanted_TV is None else wanted_TV
            divergences[way].append(divergence(wanted_TV, logits_TV))
            losses[way].append(float(functional.cross_entropy(logits_TV[:-1], torch.tensor(then[1:]))))
        err.print(f"{name}: {number + 1} of {len(texts)}", markup=False)
    for way, found in divergences.items():
        yield Row(name, way, fmean(found), standard_error(found), math.exp(fmean(losses[way])))


def caches(splicer: Splicer, lead: Sequence[int], stretches: Sequence[list[int]]) -> Iterator[tuple[str, LiveCache]]:
    """Ways to have the stretches behind the lead; the first is to read them."""
    model = splicer.model
    before, whole = model.new_cache(), model.new_cache()
    model.extend(before, lead)
    model.extend(whole, [*lead, *(token for each in stretches for token in each)])
    spliced = splicer.splice(before, [splicer.encode(lead, each) for each in stretches])
    yield READ, whole
    yield "spliced", spliced
    repaired = splicer.splice(before, [splicer.encode(lead, each, REPAIRED) for each in stretches])
    yield f"spliced, {REPAIRED} tokens of each read again", repaired
    if any(name not in SLOTS for layer in model.capture(before).layers for name in layer.tensors):
        yield "spliced, states as the lead left them", mixed(model, spliced, before, states=False, entries=True)
        yield f"{ALONE}as reading left them", mixed(model, whole, before, states=True, entries=False)
        yield f"{ALONE}composed", mixed(model, spliced, before, states=True, entries=False)
    yield "the lead alone", before


def mixed(model: HybridModel, live: LiveCache, before: LiveCache, *, states: bool, entries: bool) -> LiveCache:
    """A cache with its states, its entries, or both; the rest is as it was before."""
    ours, theirs = model.capture(live), model.capture(before)

    def layer(mine: LayerState, old: LayerState) -> LayerState:
        taken = {
            name: tensor if (entries if name in SLOTS else states) else old.tensors[name]
            for name, tensor in mine.tensors.items()
        }
        return replace(mine, tensors=taken)

    layers = tuple(map(layer, ours.layers, theirs.layers))
    return model.restore(replace(ours, layers=layers))


def divergence(wanted_TV: Tensor, got_TV: Tensor) -> float:
    """KL divergence a token from what was wanted, in nats."""
    pair = got_TV.log_softmax(-1), wanted_TV.log_softmax(-1)
    return float(functional.kl_div(*pair, log_target=True, reduction="sum")) / len(wanted_TV)


def standard_error(found: Sequence[float]) -> float:
    """Of the mean."""
    return float(torch.tensor(found).std() / math.sqrt(len(found))) if len(found) > 1 else 0.0


def report(found: Sequence[Row], options: Options) -> str:
    """The Markdown."""
    lines = [
        "# Splicing against reading",
        "",
        f"Made by `python -m eval.splice_table --models {' '.join(map(str, options.models))}`: {options.texts} texts, "
        f"{STRETCHES} stretches of {STRETCH} tokens, {THEN} tokens behind them; {options.dtype}, torch "
        f"{torch.__version__}, transformers {transformers.__version__}.",
        "",
        "KL: nats a token against reading all in one piece, with its standard error over texts. *States alone*: "
        "attention sees the lead only, so that what is known of the stretches is what the recurrent states hold.",
        "",
        "| model | what stands behind the lead | KL | perplexity |",
        "| --- | --- | ---: | ---: |",
        *(
            f"| {row.model} | {row.way} | "
            f"{'' if row.way == READ else f'{row.kl:.3f} ± {row.error:.3f}'} | {row.perplexity:.2f} |"
            for row in found
        ),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
