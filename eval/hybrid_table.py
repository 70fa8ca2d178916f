"""`python -m eval.hybrid_table`: what a hybrid's cache takes and what it has lost, beside the model it was made from.

Bytes are measured on real caches; perplexity is of the second half of 2,048 tokens of Python's own documentation, which
comes with every Python; rule probes are asked with the whole conversation in context, at several lengths, of families
that no training has seen. With `--codecs`, each is asked behind a cache that went through a codec. Writes
eval/HYBRID.md; needs no network. Rows of other models that were measured before stay in the table.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from pydoc_data.topics import topics
from statistics import fmean

import torch
import transformers
import tyro
from rich.console import Console

from eval.codec_table import log_loss
from eval.generate import Config as Like
from eval.generate import scenarios
from eval.reading import read_probes
from eval.scenarios import Scenario
from eval.systems.base import Case, Limits
from eval.systems.full import FullContext
from memkv import HybridModel
from memkv.compress import codec, decompress
from memkv.errors import ConfigError, InvalidInput, MemkvError
from memkv.live import LiveCache
from memkv.pretrained import EMBEDDED, HYBRID
from memkv.snapshot import CacheSnapshot

TABLE = Path(__file__).parent / "HYBRID.json"
HALF = 1024  # tokens: as many are read as are scored
FEWEST = 4  # conversations of a length: two pairs of twins
SEED = "hybrid table"


@dataclass(frozen=True)
class Options:
    """What is measured.

    Attributes:
        models: names or folders; the first is the one that the others are compared with.
        codecs: beside the cache as it is.
        lengths: tokens of the conversations with rules, about.
        scenarios: conversations of the first length; of longer ones as many fewer, so that as much is read, but 4.
        texts: of the perplexity.
        out: the table, as JSON; the same as Markdown beside it.
    """

    models: tuple[str, ...] = (EMBEDDED, HYBRID)
    codecs: tuple[str, ...] = ("int4",)
    lengths: tuple[int, ...] = (1000, 2000, 4000, 7500)
    scenarios: int = 24
    texts: int = 12
    out: Path = TABLE


@dataclass(frozen=True)
class Probed:
    """Rule probes at one length.

    Attributes:
        tokens: in context, the mean.
        right: of `probes`; by guessing `chance` would be.
    """

    tokens: float
    right: int
    probes: int
    chance: float

    @property
    def above(self) -> float:
        """Share right, above guessing."""
        return (self.right - self.chance) / self.probes


@dataclass(frozen=True)
class Row:
    """A model with its cache as it is, or through a codec.

    Attributes:
        attention: layers with attention, of `layers`.
        per_token: bytes by which what is kept grows with a token.
        fixed: bytes that are kept at any length.
        perplexity: see the module.
        probed: length asked for -> result.
    """

    model: str
    codec: str
    attention: int
    layers: int
    per_token: float
    fixed: int
    perplexity: float
    probed: dict[str, Probed] = field(default_factory=dict)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and write the table."""
    options = tyro.cli(Options, prog="python -m eval.hybrid_table", description=__doc__, args=arguments)
    err = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        for row in rows(options, err):
            write(row, options.out)
    except MemkvError as error:
        err.print(f"{type(error).__name__}: {error}", markup=False)
        return 1
    print(options.out.with_suffix(".md").read_text(encoding="utf-8"))
    return 0


def rows(options: Options, err: Console) -> Iterator[Row]:
    """Each model, with its cache as it is and through each codec; what is in the cache is read once for all of them."""
    first = options.lengths[0]
    asked = {length: conversations(length, options.scenarios * first // length) for length in options.lengths}
    methods = ("", *options.codecs)
    for name in options.models:
        model = HybridModel.from_pretrained(name, notify=lambda said: err.print(said, markup=False))
        texts = documents(model, options.texts)
        losses = [lost(model, methods, text) for text in texts]
        probed: dict[str, dict[str, Probed]] = {method: {} for method in methods}
        for length, found in asked.items():
            for method, result in probe(model, methods, found).items():
                probed[method][str(length)] = result
                err.print(
                    f"{name} {method}: {result.right} of {result.probes} right behind {result.tokens:,.0f} tokens"
                )
        layers = model.profile.layers
        attention = sum("attention" in kinds for kinds in layers)
        for method in methods:
            per_token, fixed = sizes(model, method, texts[0])
            perplexity = math.exp(fmean(each[method] for each in losses))
            err.print(f"{name} {method}: {per_token:,.0f} bytes a token, {fixed:,} fixed, perplexity {perplexity:.2f}")
            yield Row(str(name), method, attention, len(layers), per_token, fixed, perplexity, probed[method])


def documents(model: HybridModel, count: int) -> list[list[int]]:
    """The first tokens of Python's longest help topics that have enough."""
    longest = sorted(topics.items(), key=lambda item: (-len(item[1]), item[0]))[:count]
    found = [model.chat.encode(text)[: 2 * HALF] for _, text in longest]
    short = next((name for (name, _), ids in zip(longest, found, strict=True) if len(ids) < 2 * HALF), None)
    if short is not None:
        raise InvalidInput(f"The help topic {short!r} has fewer than {2 * HALF} tokens", "Ask for fewer --texts.")
    return found


def conversations(length: int, count: int) -> list[Scenario]:
    """Conversations of test families with rules, questions behind them; an even number, 4 or more."""
    return list(scenarios("test", max(FEWEST, count // 2 * 2), SEED, Like(tokens=length, rounds=1, meetings=1)))


def packed(model: HybridModel, live: LiveCache, method: str) -> CacheSnapshot:
    """What is kept of a cache."""
    return codec(method or "identity", model).compress(model.capture(live), None)


def kept(model: HybridModel, live: LiveCache, method: str) -> LiveCache:
    """The cache as it comes back out of the codec; itself without one."""
    return model.restore(decompress(packed(model, live, method))) if method else live


def sizes(model: HybridModel, method: str, token_ids: Sequence[int]) -> tuple[float, int]:
    """Bytes that a token adds to what is kept, and bytes that are kept at any length; measured on two snapshots."""
    live = model.new_cache()
    payloads = []
    for half in (token_ids[:HALF], token_ids[HALF : 2 * HALF]):
        model.extend(live, half)
        payloads.append(packed(model, live, method).payload)
    small, large = payloads
    per_token = (large - small) / HALF
    return per_token, round(small - per_token * HALF)


def lost(model: HybridModel, methods: Sequence[str], token_ids: Sequence[int]) -> dict[str, float]:
    """Mean negative log-likelihood (nats) of the second half of a text behind its first half, through each codec."""
    live = model.new_cache()
    model.extend(live, token_ids[:HALF])
    return {method: log_loss(model, kept(model, live, method), token_ids[HALF:]) for method in methods}


def probe(model: HybridModel, methods: Sequence[str], found: Sequence[Scenario]) -> dict[str, Probed]:
    """Every question with options, behind the whole conversation, through each codec."""
    right = dict.fromkeys(methods, 0)
    probes, chance, tokens = 0, 0.0, []
    for scenario in found:
        case = Case(model, scenario)
        memory = FullContext().remember(case, Limits())
        whole = memory.live
        assert whole is not None
        ranked = [each for each in scenario.probes if each.options]
        for method in methods:
            memory.live = kept(model, whole, method)
            right[method] += sum(answer.right for answer in read_probes(model, memory, scenario, ranked).answers)
        probes += len(ranked)
        chance += sum(1 / len(each.options) for each in ranked)
        tokens.append(len(case.full))
    return {method: Probed(fmean(tokens), right[method], probes, chance) for method in methods}


def write(row: Row, path: Path) -> None:
    """Put a row into the table, in the place of an older one of the same model and codec."""
    old = read(path) if path.exists() else []
    new = {(each.model, each.codec): each for each in (*old, row)}
    path.write_text(json.dumps([asdict(each) for each in new.values()], indent=1) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(report(list(new.values())), encoding="utf-8")


def read(path: Path) -> list[Row]:
    """The rows of a table.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        return [
            Row(**{**each, "probed": {length: Probed(**found) for length, found in each["probed"].items()}})
            for each in json.loads(path.read_text(encoding="utf-8"))
        ]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigError(f"{path} is no such table: {error}", "Delete it; every row is measured again.") from error


def report(found: Sequence[Row]) -> str:
    """The Markdown."""
    first = found[0]
    lengths = list(first.probed)
    lines = [
        "# Hybrids",
        "",
        f"Made by `python -m eval.hybrid_table --models {' '.join(dict.fromkeys(row.model for row in found))}`.",
        "",
        f"bf16; torch {torch.__version__}, transformers {transformers.__version__}.",
        "",
        "- **a token**: bytes that each further token adds to what is kept, measured; **fixed**: what is kept at any "
        "length, and how many of the first model's tokens take as much.",
        f"- **perplexity** of {HALF:,} tokens of Python's documentation behind the {HALF:,} before them.",
        "- **probes**: rule questions of test families answered rightly, by likelihood, with the whole conversation in "
        "context, about that many tokens; in parentheses percentage points above guessing.",
        "",
        "| model | codec | attention | a token | fixed | perplexity | "
        + " | ".join(f"probes at {int(length):,}" for length in lengths) + " |",
        "| --- | --- | ---: | ---: | ---: | ---: |" + " ---: |" * len(lengths),
    ]  # fmt: skip
    for row in found:
        probed = [cell(row.probed.get(length)) for length in lengths]
        lines.append(
            f"| {row.model} | {row.codec} | {row.attention} of {row.layers} "
            f"| {row.per_token:,.0f} ({row.per_token / first.per_token:.3f} x) "
            f"| {row.fixed:,} ({row.fixed / first.per_token:.0f}) "
            f"| {row.perplexity:.2f} ({row.perplexity / first.perplexity:.3f} x) | {' | '.join(probed)} |"
        )
    return "\n".join(lines) + "\n"


def cell(found: Probed | None) -> str:
    """What was right at one length."""
    return "" if found is None else f"{found.right} of {found.probes} ({100 * found.above:+.0f})"


if __name__ == "__main__":
    sys.exit(main())
