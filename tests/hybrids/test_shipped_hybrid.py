"""The hybrid that comes with memkv: put together once, offline, from mixers that belong to the embedded model."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from memkv import HybridModel
from memkv.embedded import converted_folder
from memkv.errors import ModelUnavailable
from memkv.hybrids.mixers import FILE, read_mixers
from memkv.hybrids.shipped import HYBRIDS, WEIGHTS, hybrid_folder
from memkv.made_once import find_damage
from memkv.pretrained import EMBEDDED, HYBRID


def test_without_mixers_the_error_says_how_to_get_them(tmp_path):
    with pytest.raises(ModelUnavailable, match="train.hybridize"):
        hybrid_folder(weights=tmp_path)


def test_they_are_as_small_as_promised():
    assert sum(path.stat().st_size for path in WEIGHTS.rglob("*") if path.is_file()) < 60e6
    assert [len(read_mixers(WEIGHTS / name)[1].attention) for name in HYBRIDS] == [7, 15, 22]


@pytest.mark.slow
@pytest.mark.keeps_home
def test_its_cache_grows_by_less_than_a_quarter_of_the_originals():
    original, hybrid = HybridModel.from_pretrained(EMBEDDED), HybridModel.from_pretrained(HYBRID)
    assert hybrid.profile.exact
    assert hybrid.profile.per_token <= 0.234 * original.profile.per_token
    assert hybrid.profile.fixed <= 161 * original.profile.per_token  # 160 was the goal
    assert hybrid.fingerprint.weights != original.fingerprint.weights


@pytest.mark.slow
@pytest.mark.keeps_home
def test_its_folder_is_a_stock_checkpoint_and_is_mended_when_it_is_damaged(tmp_path, monkeypatch):
    base = converted_folder()
    # In a home of its own: others, beside this one, load the hybrid of the home that they share.
    shutil.copytree(base, tmp_path / "models" / base.name)
    monkeypatch.setenv("MEMKV_HOME", str(tmp_path))
    folder = hybrid_folder()
    assert tmp_path in folder.parents
    hf = AutoModelForCausalLM.from_pretrained(folder)
    assert type(hf).__name__ == "BambaForCausalLM"
    weights = next(folder.glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1])
    said: list[str] = []
    assert hybrid_folder(notify=said.append) == folder and find_damage(folder) is None
    assert "is damaged" in said[0]


@pytest.mark.slow
@pytest.mark.keeps_home
def test_it_speaks_english_and_knows_what_it_was_told():
    model = HybridModel.from_pretrained(HYBRID)
    live = model.new_cache()
    model.extend(live, model.chat.encode("The capital of France is the city of"))
    assert "Paris" in model.chat.decode(list(model.generate(live, 8)))


@pytest.mark.slow
@pytest.mark.keeps_home
@pytest.mark.parametrize("damage", ["cut", "other base", "a mixer less"])
def test_mixers_that_are_damaged_or_of_another_base_are_named(tmp_path, damage):
    source, target = WEIGHTS / HYBRID / FILE, tmp_path / HYBRID / FILE
    target.parent.mkdir()
    if damage == "cut":
        target.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    else:
        with safe_open(source, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}
            record = json.loads(file.metadata()["record"])
        if damage == "other base":
            record["weights"] = "0" * 16
        else:
            del tensors[next(name for name in tensors if name.endswith("mamba.D"))]
        save_file(tensors, target, metadata={"record": json.dumps(record)})
    words = {"cut": "No mixers to read", "other base": "belong to smollm2-135m", "a mixer less": "lack 1 weights"}
    with pytest.raises(ModelUnavailable, match=words[damage]):
        hybrid_folder(weights=tmp_path)


@pytest.mark.slow
@pytest.mark.keeps_home
def test_a_restored_conversation_goes_on_as_it_would_have():
    model = HybridModel.from_pretrained(HYBRID, dtype=torch.float32)
    ids = model.chat.encode("Headlines have at most nine words. " * 12)
    live = model.new_cache()
    model.extend(live, ids)
    back = model.restore(model.capture(live))
    more = model.chat.encode("And page titles?")
    assert torch.equal(model.extend(live, more), model.extend(back, more))
    one, other = (list(model.generate(each, 12)) for each in (live, back))
    assert one == other
