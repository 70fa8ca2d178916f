"""`python -m eval.codec_table`: what every codec costs and what it loses, on the embedded model. Writes eval/CODECS.md.

Perplexity of the text that follows a compressed prefix, and probes of rules read before filler, both against the full
cache and against none. The texts come with Python (`pydoc_data`) and with memkv, so that anyone can run it.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from platform import python_version
from pydoc_data.topics import topics

import torch
import transformers

from eval.rule_probes import POLICIES, Score, ask_all, conversation
from memkv import HybridModel
from memkv.chat.demo_text import FILLER
from memkv.compress import budget_from_ratio, codec, decompress
from memkv.errors import BudgetExceeded
from memkv.live import LiveCache
from memkv.pretrained import EMBEDDED
from memkv.snapshot import CacheSnapshot

TABLE = Path(__file__).parent / "CODECS.json"
PREFIX, SCORED = 1024, 256
DOCUMENTS = ("compound", "typesseq", "specialnames", "formatstrings")
FILLERS = 3

QUANTIZERS = ("identity", "fp8", "int8", "int4")
EVICTORS = ("streaming", "snapkv", "h2o", "expected", "kvzip", "matching")
EVICTOR_BUDGETS = (0.5, 0.25, 0.1)
CHAINS = ("streaming+int4", "snapkv+int4", "kvzip+int4", "matching+int4", "kvzip+fp8")
CHAIN_BUDGETS = (0.25, 0.1)


@dataclass(frozen=True)
class Row:
    """One codec at one budget. Sizes are shares of the full bf16 snapshot's payload; `budget` None is its own size."""

    codec: str
    budget: float | None
    size: float
    inside: bool
    perplexity: float
    right: int
    probes: int
    confidence: float
    seconds: float


@dataclass(frozen=True)
class Read:
    """A conversation that was read once, and its full snapshot."""

    snapshot: CacheSnapshot
    then: tuple[int, ...] = ()


def read(model: HybridModel, token_ids: Sequence[int], then: Sequence[int] = ()) -> Read:
    """Read `token_ids`; `then` is kept for scoring."""
    live = model.new_cache()
    model.extend(live, token_ids)
    return Read(model.capture(live), tuple(then))


def documents(model: HybridModel) -> list[Read]:
    """Prefixes of the documents, read, with the tokens that follow."""
    assert model.tokenizer is not None
    found = []
    for name in DOCUMENTS:
        ids = model.tokenizer.encode(topics[name], add_special_tokens=False)[: PREFIX + SCORED]
        found.append(read(model, ids[:PREFIX], ids[PREFIX:]))
    return found


def log_loss(model: HybridModel, live: LiveCache, token_ids: Sequence[int]) -> float:
    """Mean negative log-likelihood (nats) of all of `token_ids` but the first, after `live`."""
    fork = live.fork()
    model.extend(fork, token_ids[:1])
    return -model.log_probs(fork, [list(token_ids[1:])])[0] / (len(token_ids) - 1)


def evaluate(model: HybridModel, name: str, budget: float | None, texts: list[Read], chats: list[Read]) -> Row:
    """Compress, measure, restore and score every text and every chat."""
    method = codec(name, model)
    sizes, inside, losses, scores, seconds = [], True, [], [], 0.0

    def squeezed(full: CacheSnapshot) -> LiveCache:
        nonlocal inside, seconds
        limit = None if budget is None else budget_from_ratio(full, budget)
        began = time.perf_counter()
        small = method.compress(full, limit)
        seconds += time.perf_counter() - began
        inside = inside and (limit is None or small.payload <= limit)
        sizes.append(small.payload / full.payload)
        return model.restore(decompress(small))

    for text in texts:
        losses.append(log_loss(model, squeezed(text.snapshot), text.then))
    for chat, policy in zip(chats, POLICIES, strict=True):
        scores.append(ask_all(model, squeezed(chat.snapshot), policy.probes))
    score = Score.join(scores)
    return Row(
        name,
        budget,
        sum(sizes[: len(texts)]) / len(texts),
        inside,
        math.exp(sum(losses) / len(losses)),
        sum(score.right),
        len(score.right),
        score.confidence,
        seconds / (len(texts) + len(chats)),
    )


def nothing(model: HybridModel, texts: list[Read]) -> Row:
    """The floor: the text without its prefix, the probes without their policy."""
    losses = [log_loss(model, model.new_cache(), text.then) for text in texts]
    filler = "\n\n".join(FILLER[:FILLERS])
    live = model.new_cache()
    model.extend(live, conversation(model, None, filler))
    score = Score.join(ask_all(model, live, policy.probes) for policy in POLICIES)
    perplexity = math.exp(sum(losses) / len(losses))
    return Row("nothing", None, 0.0, True, perplexity, sum(score.right), len(score.right), score.confidence, 0.0)


def plan() -> Iterator[tuple[str, float | None]]:
    """(codec, budget) of every row."""
    yield from ((name, None) for name in QUANTIZERS)
    yield from ((name, budget) for name in EVICTORS for budget in EVICTOR_BUDGETS)
    yield from ((name, budget) for name in CHAINS for budget in CHAIN_BUDGETS)


def report(rows: Sequence[Row], tokens: Sequence[int]) -> str:
    """The Markdown of CODECS.md."""
    lines = [
        "# Codecs on the embedded model",
        "",
        "Made by `make codecs` (`python -m eval.codec_table`).",
        "",
        f"{EMBEDDED}, bf16; torch {torch.__version__}, transformers {transformers.__version__}, "
        f"Python {python_version()}.",
        "",
        "- **budget**: share of the attention bytes that the codec was given; **size**: what it took, measured, "
        f"scales, biases and windows counted, for {PREFIX:,} tokens.",
        f"- **perplexity** of the {SCORED} tokens that follow the compressed prefix, over {len(DOCUMENTS)} texts from "
        "Python's own documentation.",
        f"- **probes**: six rules, then filler, {min(tokens)} to {max(tokens)} tokens in all, compressed; four near "
        "misses ranked by likelihood. **p(right)**: mean probability of the right one among the four; it moves where "
        "the count does not. The codecs do not know the questions.",
        "- **seconds** to compress, reading included, one sample on whatever else ran: an order of magnitude.",
        "",
        "| codec | budget | size | inside | perplexity | probes | p(right) | seconds |",
        "| --- | ---: | ---: | --- | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        budget = "" if row.budget is None else f"{row.budget:g}"
        inside = "" if row.budget is None else ("yes" if row.inside else "NO")
        lines.append(
            f"| {row.codec} | {budget} | {row.size:.3f} | {inside} | {row.perplexity:.2f} | {row.right}/{row.probes} "
            f"| {row.confidence:.2f} | {row.seconds:.2f} |"
        )
    return "\n".join(lines) + "\n"


def merged(new: Sequence[Row]) -> list[Row]:
    """The rows of the last table, those measured anew in their places."""
    fresh = {(row.codec, row.budget): row for row in new}
    old = [Row(**row) for row in json.loads(TABLE.read_text(encoding="utf-8"))]
    kept = [fresh.pop((row.codec, row.budget), row) for row in old]
    return [*kept, *fresh.values()]


def main() -> int:
    """Run the plan and write CODECS.md and CODECS.json; exit status 1 if a budget was not met."""
    parser = argparse.ArgumentParser(prog="python -m eval.codec_table", description=__doc__)
    parser.add_argument("--only", action="append", help="measure this codec alone (may be repeated)")
    options = parser.parse_args()
    model = HybridModel.from_pretrained()
    texts = documents(model)
    filler = "\n\n".join(FILLER[:FILLERS])
    chats = [read(model, conversation(model, policy, filler)) for policy in POLICIES]
    rows = [nothing(model, texts)]
    chosen = [(name, budget) for name, budget in plan() if not options.only or name in options.only]
    for number, (name, budget) in enumerate(chosen, 1):
        try:
            rows.append(evaluate(model, name, budget, texts, chats))
        except BudgetExceeded as error:
            print(f"{name} at {budget}: {error}", file=sys.stderr)
            return 1
        row = rows[-1]
        print(
            f"{number}/{len(chosen)} {name} {budget or ''}: {row.size:.3f}, perplexity {row.perplexity:.2f}, "
            f"{row.right}/{row.probes}, p {row.confidence:.3f}, {row.seconds:.2f} s",
            file=sys.stderr,
        )
    if options.only and TABLE.exists():
        rows = merged(rows)
    text = report(rows, [len(chat.snapshot.token_ids) for chat in chats])
    TABLE.with_suffix(".md").write_text(text, encoding="utf-8")
    TABLE.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n", encoding="utf-8")
    print(text)
    return 0 if all(row.inside for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
