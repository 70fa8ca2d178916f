"""Names to weights: folders, configuration files, hub ids without a network, and every kind of damage."""

import json
import time
from pathlib import Path

import pytest
import torch
from tiny_models import VOCAB, tiny
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from memkv import pretrained
from memkv.errors import ModelUnavailable


@pytest.fixture
def folder(tmp_path):
    """A tiny random Llama saved with a tokenizer, as any user's local model."""
    backend = Tokenizer(models.WordLevel({f"w{i}": i for i in range(VOCAB)}, unk_token="w0"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="w0").save_pretrained(tmp_path / "model")
    tiny("llama").save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_a_local_folder_loads_with_the_dtype_asked_for(folder):
    ids = torch.tensor([[5, 6, 7]])
    for name in (str(folder), folder):
        model, tokenizer = pretrained.load(name, dtype=torch.float32)
        assert tokenizer("w5 w6 w7")["input_ids"] == [5, 6, 7]
        assert torch.equal(model(ids).logits, tiny("llama").eval()(ids).logits)
    assert pretrained.load(folder)[0].dtype == torch.bfloat16


def test_a_configuration_is_read_from_a_folder_and_from_a_file(folder):
    assert pretrained.load_config(folder).num_hidden_layers == 3
    assert pretrained.load_config(folder / "config.json").num_hidden_layers == 3


def truncate_weights(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def empty_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"")


def no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def one_weight_missing(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def change_config(folder: Path, **fields: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def wrong_width(folder: Path) -> None:
    change_config(folder, hidden_size=64)


def unknown_architecture(folder: Path) -> None:
    change_config(folder, model_type="nobody_knows_it")


def config_is_not_json(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def no_tokenizer(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()


def tokenizer_is_not_json(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{")


@pytest.mark.parametrize(
    "damage",
    [
        truncate_weights,
        empty_weights,
        no_weights,
        one_weight_missing,
        wrong_width,
        unknown_architecture,
        config_is_not_json,
        no_config,
        no_tokenizer,
        tokenizer_is_not_json,
    ],
    ids=lambda damage: damage.__name__,
)
def test_damage_is_an_error_and_never_random_weights(folder, damage):
    damage(folder)
    with pytest.raises(ModelUnavailable) as caught:
        pretrained.load(folder)
    assert str(folder) in str(caught.value) and caught.value.next_step


@pytest.mark.parametrize("name", ["/nowhere/model", "./nowhere", "~/nowhere", "a/b/c", "", " ", Path("nowhere")])
def test_a_path_to_nothing_is_not_taken_for_a_hub_id(name):
    with pytest.raises(ModelUnavailable, match="No folder"):
        pretrained.load(name)


@pytest.mark.parametrize("load", [pretrained.load, pretrained.load_config])
def test_a_hub_that_cannot_be_reached_fails_in_seconds_and_names_what_works(load, monkeypatch, capfd):
    monkeypatch.setattr(pretrained.hub, "ENDPOINT", "http://127.0.0.1:9")  # nobody listens on the discard port
    start = time.monotonic()
    with pytest.raises(ModelUnavailable) as caught:
        load("nobody/has-this-model")
    assert time.monotonic() - start < 10
    message = str(caught.value)
    assert "cannot be reached" in message and "'smollm2-135m'" in message and "local folder" in message
    assert "Retrying" not in capfd.readouterr().err


@pytest.fixture
def cached(folder, tmp_path, monkeypatch):
    """The folder as the Hugging Face cache keeps it, under the id `someone/tiny`, and a hub that is not there."""
    monkeypatch.setattr(pretrained.hub, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(pretrained.hub, "ENDPOINT", "http://127.0.0.1:9")
    repository = tmp_path / "hub/models--someone--tiny"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs/main").write_text("f00d")
    (repository / "snapshots").mkdir()
    return folder.rename(repository / "snapshots/f00d")


def test_a_hub_id_in_the_cache_loads_without_a_network(cached, capfd):
    start = time.monotonic()
    model, tokenizer = pretrained.load("someone/tiny")
    assert time.monotonic() - start < 5 and "Retrying" not in capfd.readouterr().err
    assert model.config.num_hidden_layers == 3 and tokenizer("w5")["input_ids"] == [5]


def test_a_cached_hub_id_without_its_weights_is_named(cached):
    no_weights(cached)
    assert pretrained.load_config("someone/tiny").num_hidden_layers == 3
    with pytest.raises(ModelUnavailable, match="not complete in the local cache"):
        pretrained.load("someone/tiny")


def test_an_impossible_hub_id_is_named():
    with pytest.raises(ModelUnavailable, match="what is this"):
        pretrained.load("what is this")


def test_offline_mode_is_named(monkeypatch):
    monkeypatch.setattr(pretrained.hub, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelUnavailable, match="HF_HUB_OFFLINE is set"):
        pretrained.load("nobody/has-this-model")
