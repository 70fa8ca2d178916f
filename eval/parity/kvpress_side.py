"""Run by kvpress's own interpreter: which entries each press keeps. Imports nothing of memkv.

python eval/parity/kvpress_side.py MODEL_FOLDER TASK.json RESULT.json
"""

import json
import sys
from importlib.metadata import version

import torch
from kvpress import ExpectedAttentionPress, KVzipPress, ObservedAttentionPress, SnapKVPress, StreamingLLMPress
from transformers import AutoModelForCausalLM, DynamicCache


class ListedKVzip(KVzipPress):
    """KVzip whose scores stay readable: kvpress shares the budget among heads and only masks what it evicts."""

    def compress_post(self, model):
        """Go on as kvpress does (which raises the sinks' scores), then keep a copy of the scores."""
        super().compress_post(model)
        self.listed = self.score_val.clone()


def press_for(name, ratio, chunk):
    """The press with kvpress's own defaults, but for KVzip's chunk."""
    presses = {
        "streaming": StreamingLLMPress,
        "snapkv": SnapKVPress,
        "h2o": ObservedAttentionPress,
        "expected": ExpectedAttentionPress,
    }
    return ListedKVzip(ratio, chunk_size=chunk) if name == "kvzip" else presses[name](ratio)


@torch.no_grad()
def keys_after(model, ids, press=None):
    """Keys of each layer (BHTD) after a prefill, under `press` if given."""
    cache = DynamicCache()
    if press is None:
        model(ids, past_key_values=cache)
    else:
        with press(model):
            model(ids, past_key_values=cache)
    return [layer.keys for layer in cache.layers]


def positions(full, pruned):
    """Which rows of `full` (BHTD) the rows of `pruned` are, by head; each must be found there bit for bit."""
    kept = []
    for rows, all_rows in zip(pruned[0], full[0], strict=True):
        places = {row.numpy().tobytes(): place for place, row in enumerate(all_rows)}
        kept.append(sorted(places[row.numpy().tobytes()] for row in rows))
    return kept


def main(folder, task_file, result_file):
    """Run every press at every ratio and write the kept positions."""
    with open(task_file) as file:
        task = json.load(file)
    ids = torch.tensor([task["token_ids"]])
    kept = {}
    for attention, names in (("sdpa", ["streaming", "snapkv", "expected", "kvzip"]), ("eager", ["h2o"])):
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation=attention)
        full = keys_after(model, ids)
        for name in names:
            for ratio in task["evicted"]:
                press = press_for(name, ratio, task["chunk"])
                pruned = keys_after(model, ids, press)
                if name == "kvzip":
                    entries = max(1, int(ids.shape[1] * (1 - ratio)))
                    layers = [scores[0].topk(entries, dim=-1).indices.sort().values.tolist() for scores in press.listed]
                else:
                    layers = [positions(*pair) for pair in zip(full, pruned, strict=True)]
                kept[f"{name} {ratio}"] = layers
    versions = {package: version(package) for package in ("kvpress", "transformers", "torch")}
    with open(result_file, "w") as file:
        json.dump({"versions": versions, "kept": kept}, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
