"""`python -m eval.parity.kvpress_parity`: the entries that memkv keeps, beside those that kvpress 0.5.5 keeps.

kvpress pins an older transformers, so it gets a virtual environment of its own (made on the first run) and is run
there on the same weights and tokens, both in float32. Writes eval/parity/RESULTS.md; exit status 1 below 99%.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import transformers

from memkv import HybridModel
from memkv.compress import H2O, ExpectedAttention, KVzip, SnapKV, StreamingLLM
from memkv.compress.evictor import Evictor
from memkv.pretrained import EMBEDDED, resolve

ROOT = Path(__file__).parents[2]
ENVIRONMENT = ROOT / ".venv-kvpress"
RESULTS = Path(__file__).parent / "RESULTS.md"
PACKAGES = ("torch==2.13.0", "kvpress==0.5.5")  # torch first: the build that pip is configured for

TOKENS, CHUNK = 768, 384
EVICTED = (0.5, 0.75, 0.9)
GOAL = 0.99

Kept = list[list[list[int]]]  # layer, head, positions


def methods(model: HybridModel) -> dict[str, tuple[str, Evictor, Evictor]]:
    """Name -> (the press, memkv set to what the press does, memkv's defaults)."""
    h2o = H2O(model, sinks=0, recent=0, recent_share=0.0, average=True)
    return {
        "streaming": ("StreamingLLMPress", StreamingLLM(sinks=4, recent=0), StreamingLLM()),
        "snapkv": ("SnapKVPress", SnapKV(model, sinks=0, recent=64), SnapKV(model)),
        "h2o": ("ObservedAttentionPress", h2o, H2O(model)),
        "expected": ("ExpectedAttentionPress", ExpectedAttention(model, recent=0), ExpectedAttention(model)),
        "kvzip": ("KVzipPress", KVzip(model, recent=0, chunk=CHUNK), KVzip(model, chunk=CHUNK)),
    }


def environment() -> Path:
    """Kvpress's interpreter; made once."""
    python = ENVIRONMENT / "bin" / "python"
    ready = ENVIRONMENT / ".ready"
    if not ready.exists():
        print(f"Making {ENVIRONMENT} (once, some minutes)", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(ENVIRONMENT)], check=True)
        for package in PACKAGES:
            command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", package]
            subprocess.run(command, check=True)
        ready.touch()
    return python


def without_chat_template(source: Path, folder: Path) -> Path:
    """The model's files, linked, but for the chat template: KVzipPress would put its prefix and suffix in."""
    folder.mkdir()
    for file in source.iterdir():
        if file.name not in ("chat_template.jinja", "tokenizer_config.json"):
            (folder / file.name).symlink_to(file.resolve())
    config = json.loads((source / "tokenizer_config.json").read_text())
    config.pop("chat_template", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def ask_kvpress(python: Path, model_folder: Path, token_ids: list[int]) -> tuple[dict[str, str], dict[str, Kept]]:
    """(versions, `method ratio` -> what kvpress keeps)."""
    with tempfile.TemporaryDirectory(prefix="parity-") as scratch:
        task, result = Path(scratch) / "task.json", Path(scratch) / "result.json"
        task.write_text(json.dumps({"token_ids": token_ids, "evicted": EVICTED, "chunk": CHUNK}))
        folder = without_chat_template(model_folder, Path(scratch) / "model")
        script = Path(__file__).parent / "kvpress_side.py"
        subprocess.run([str(python), str(script), str(folder), str(task), str(result)], check=True, cwd=scratch)
        answer = json.loads(result.read_text())
    return answer["versions"], answer["kept"]


def agreement(ours: dict[int, torch.Tensor], theirs: Kept) -> float:
    """Share of kept positions that both keep, over all layers and heads."""
    same = total = 0
    for index, kept_BHN in ours.items():
        for mine, other in zip(kept_BHN[0].tolist(), theirs[index], strict=True):
            same += len(set(mine) & set(other))
            total += len(other)
    return same / total


def report(versions: dict[str, str], rows: list[tuple[str, str, float, float, float]]) -> str:
    """The Markdown of RESULTS.md."""
    lines = [
        "# Parity with kvpress",
        "",
        "Made by `make parity` (`python -m eval.parity.kvpress_parity`).",
        "",
        f"kvpress {versions['kvpress']} on transformers {versions['transformers']} and torch {versions['torch']}; "
        f"memkv on transformers {transformers.__version__} and torch {torch.__version__}. Model {EMBEDDED} (30 layers, "
        f"3 key heads), float32, the first {TOKENS} tokens of LICENSE. Agreement is the share of kept positions that "
        "both keep, over all layers and heads; chance is the share kept.",
        "",
        "| codec | press | evicted | memkv set like the press | memkv's defaults |",
        "| --- | --- | ---: | ---: | ---: |",
        *(
            f"| {name} | {press} | {ratio:.0%} | {same:.2%} | {default:.2%} |"
            for name, press, ratio, same, default in rows
        ),
        "",
        "Where the defaults differ, and why:",
        "",
        "- All keep the first 4 and the newest 32 entries whatever their scores (SnapKV: 64, its window). Without the "
        "sink a model falls apart, and the newest tokens are what the next turn is about.",
        "- `h2o` sums the attention that an entry received and gives half of what is kept to the newest entries, as "
        "the paper does; the press averages over the queries that could see it and has no recent half.",
        "- `kvzip`: the press shares one budget among all layers and heads and then *masks* the evicted entries, so "
        "that no memory is freed. memkv frees it, so every head keeps the same number. Compared here is what the "
        "press's own scores would keep at the same number per head. The chat template is left out on both sides.",
        "- kvpress compresses during the prefill; memkv compresses a snapshot and reads its tokens again to hear the "
        "queries. Differences of single positions, if any, come from rounding between two transformers versions.",
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Compare and write the table."""
    parser = argparse.ArgumentParser(prog="python -m eval.parity.kvpress_parity", description=__doc__)
    parser.add_argument("--python", type=Path, help="an interpreter that has kvpress 0.5.5, instead of making one")
    options = parser.parse_args()
    model = HybridModel.from_pretrained(dtype=torch.float32)
    assert model.tokenizer is not None
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    token_ids = model.tokenizer.encode(text, add_special_tokens=False)[:TOKENS]
    versions, theirs = ask_kvpress(options.python or environment(), Path(resolve(EMBEDDED)), token_ids)
    live = model.new_cache()
    model.extend(live, token_ids)
    snapshot = model.capture(live)
    rows = []
    for name, (press, alike, default) in methods(model).items():
        scores = {kind: evictor.scores(snapshot) for kind, evictor in (("alike", alike), ("default", default))}
        for ratio in EVICTED:
            entries = max(1, int(TOKENS * (1 - ratio)))
            kept = {
                kind: {index: evictor.best(scores[kind][index], entries) for index in scores[kind]}
                for kind, evictor in (("alike", alike), ("default", default))
            }
            other = theirs[f"{name} {ratio}"]
            rows.append((name, press, ratio, agreement(kept["alike"], other), agreement(kept["default"], other)))
    text = report(versions, rows)
    RESULTS.write_text(text, encoding="utf-8")
    print(text)
    return 0 if all(row[3] >= GOAL for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
