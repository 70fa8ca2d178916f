"""The whole recipe on a tiny model: what comes out is a hybrid that anything can load; interruptions cost nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from rich.console import Console
from tiny_chat import tiny_chat
from transformers import AutoModelForCausalLM

from memkv import HybridModel
from memkv.errors import ConfigError, ModelUnavailable
from memkv.hybrids.mixers import MIXER, read_mixers
from memkv.hybrids.whole import assembled
from train.hybrid.corpus import CorpusMissing
from train.hybridize import hybridize, load_config, main
from train.run_folder import TrainingDiverged

QUICK = Path("configs/hybridize-quick.yaml")
QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    model = tiny_chat("llama")
    model.hf.save_pretrained(str(folder))
    model.tokenizer.save_pretrained(str(folder))
    return folder


def config_file(folder: Path, base: Path, **changes: object) -> Path:
    """The quick configuration for the tiny base, in fp32, changed: `match.tokens` is written match__tokens."""
    data = {**yaml.safe_load(QUICK.read_text(encoding="utf-8")), "model": str(base), "dtype": "float32", "threads": 1}
    for name, value in changes.items():
        part, _, key = name.partition("__")
        if key:
            data[part][key] = value
        else:
            data[part] = value
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def made(base, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    main(["--config", str(config_file(folder, base)), "--out", str(folder / "out")])
    return folder / "out"


def test_what_comes_out_is_a_hybrid_that_transformers_loads_and_memkv_measures(made, base):
    whole = made / "result" / "hybrid"
    hybrid = HybridModel.from_pretrained(whole, dtype=torch.float32)
    assert type(AutoModelForCausalLM.from_pretrained(whole)).__name__ == "BambaForCausalLM"
    kinds = hybrid.hf.config.layers_block_type
    assert kinds.count("full_attention") == 1 and len(kinds) == 3
    full = HybridModel.from_pretrained(base, dtype=torch.float32).profile
    assert (hybrid.profile.at(400) - hybrid.profile.at(200)) * 3 == full.at(400) - full.at(200)


def test_each_stage_learns_and_says_what_it_read(made):
    curves = [json.loads(line) for line in (made / "curves.jsonl").read_text(encoding="utf-8").splitlines()]
    match = [each["loss"] for each in curves if each["part"] == "match"]
    assert len(match) == 8 and match[-1] < match[0]
    kl = [each["kl"] for each in curves if each["part"] == "distil-1" and each["kind"] == "train"]
    assert len(kl) == 4 and all(value >= 0 for value in kl)
    manifest = json.loads((made / "corpus" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["tokens"]["episode"] > 0 and manifest["tokens"]["chat"] > 0 and manifest["held_out"] > 0
    assert all(each["digest"] for each in manifest["sources"])
    assert len(json.loads((made / "sensitivities.json").read_text(encoding="utf-8"))) == 4


def test_a_run_that_was_stopped_ends_where_one_in_a_piece_does(made, base, tmp_path):
    path = config_file(tmp_path, base)
    for until in ("corpus", "match", "choose", "distil"):
        main(["--config", str(path), "--out", str(tmp_path / "out"), "--until", until])
    one, other = (folder / "result" / "mixers.safetensors" for folder in (made, tmp_path / "out"))
    assert one.read_bytes() == other.read_bytes()


def test_mixers_go_onto_their_own_base_alone(made, base):
    hf = HybridModel.from_pretrained(base, dtype=torch.float32).hf
    stored = AutoModelForCausalLM.from_pretrained(made / "result" / "hybrid", dtype=torch.float32)
    pairs = zip(assembled(hf, made / "result").parameters(), stored.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    with torch.no_grad():
        hf.model.norm.weight.mul_(1.5)
    with pytest.raises(ModelUnavailable, match="belong to .* with weights"):
        assembled(hf, made / "result")
    with pytest.raises(ModelUnavailable, match="No mixers to read"):
        assembled(hf, made)


def test_a_rung_has_more_attention_and_the_mixers_of_the_one_below(base, tmp_path):
    path = config_file(tmp_path, base, ladder={"keep": [2], "tokens": [512]})
    out = tmp_path / "out"
    main(["--config", str(path), "--out", str(out)])
    low, high = read_mixers(out / "result")[1].attention, read_mixers(out / "result-2")[1].attention
    assert len(high) == 2 and set(low) < set(high)
    assert not [name for name in read_mixers(out / "result-2")[0] if MIXER in name]
    hf = HybridModel.from_pretrained(base, dtype=torch.float32).hf
    below, above = assembled(hf, out / "result"), assembled(hf, out / "result-2", out / "result")
    mixed = next(layer for layer in range(3) if layer not in high)
    ones, others = below.model.layers[mixed], above.model.layers[mixed]
    assert all(torch.equal(a, b) for a, b in zip(ones.mamba.parameters(), others.mamba.parameters(), strict=True))
    assert not torch.equal(ones.feed_forward.up_proj.weight, others.feed_forward.up_proj.weight)
    for wrong in (None, out / "result-2"):
        with pytest.raises(ModelUnavailable, match="onto the mixers of another file"):
            assembled(hf, out / "result-2", wrong)


def test_no_numbers_stop_a_run_and_the_last_good_checkpoint_stays(base, tmp_path):
    path = config_file(tmp_path, base, match__learning_rate=1e30, match__save_steps=1)
    with pytest.raises(TrainingDiverged, match="match: loss .* at step"):
        hybridize(load_config(path), tmp_path / "out", "match", QUIET)
    kept = torch.load(tmp_path / "out" / "match" / "checkpoint.pt", weights_only=True)
    assert kept["done"] >= 1


def test_a_corpus_that_is_missing_or_too_small_is_named(base, tmp_path):
    for changes, words in (
        ({"corpus__files": ["no/such.txt"]}, "No file no/such.txt"),
        ({"corpus__packages": ["no-such-package-at-all"]}, "no-such-package-at-all cannot be fetched"),
        ({"corpus__text_tokens": 50, "corpus__chats": 0, "corpus__episodes": 0}, "are needed at once"),
    ):
        with pytest.raises(CorpusMissing, match=words):
            hybridize(load_config(config_file(tmp_path, base, **changes)), tmp_path / words[:7], "corpus", QUIET)


def test_sizes_that_do_not_go_together_are_named(base, tmp_path):
    with pytest.raises(ConfigError, match=r"names 2 layers and choose.keep is 1"):
        load_config(config_file(tmp_path, base, choose__layers=[0, 1]))
    with pytest.raises(ConfigError, match=r"held_out is 1.5"):
        load_config(config_file(tmp_path, base, corpus__held_out=1.5))
    with pytest.raises(ConfigError, match=r"ladder.keep is \[1\] above choose.keep, 1"):
        load_config(config_file(tmp_path, base, ladder={"keep": [1], "tokens": [512]}))
    with pytest.raises(ConfigError, match=r"ladder.tokens is \[512\] for ladder.keep \[2, 3\]"):
        load_config(config_file(tmp_path, base, ladder={"keep": [2, 3], "tokens": [512]}))
    with pytest.raises(ConfigError, match="choose.layers fixes the layers"):
        load_config(config_file(tmp_path, base, choose__layers=[1], ladder={"keep": [2], "tokens": [512]}))
    path = config_file(tmp_path, base, choose__layers=[7])
    with pytest.raises(ConfigError, match="from 0 to 2"):
        hybridize(load_config(path), tmp_path / "out", "distil", QUIET)


def test_a_step_in_pieces_learns_what_one_at_once_does(made, base, tmp_path):
    path = config_file(tmp_path, base, distil__at_once=32)
    main(["--config", str(path), "--out", str(tmp_path / "out")])
    one, other = (
        [each["kl"] for each in map(json.loads, (folder / "curves.jsonl").read_text().splitlines()) if "kl" in each]
        for folder in (made, tmp_path / "out")
    )
    assert other == pytest.approx(one, rel=1e-3)
