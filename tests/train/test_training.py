"""Warm start and reinforcement, from end to end, on a tiny model that was taught to write edits of a kind."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from tiny_chat import tiny_chat

import train.run_folder as run_folder
from memkv.compaction.origin import read_origin
from memkv.errors import ConfigError, ModelUnavailable
from train import grpo, look, sft
from train.agreement import COPIED, END, agreement
from train.agreement import Options as Compared
from train.config import Config, Grpo, Machine, Sft, Stage, load_config
from train.curves import draw
from train.data import Config as Data
from train.data import episodes, oracle_rows
from train.machine import prepared
from train.policy import WEIGHTS, Lora, load_base
from train.run_folder import RunFolder, TrainingDiverged

pytestmark = pytest.mark.slow
QUIET = Console(quiet=True)
DATA = Data(episodes=4, tokens=(300, 400), rules=(3, 4), window=(40, 60))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model that has read some right answers: it writes lines that begin like edits, and letters."""
    folder = tmp_path_factory.mktemp("base") / "tiny"
    torch.manual_seed(0)
    model = tiny_chat("llama")
    chat, hf = model.chat, model.hf
    rows = list(oracle_rows(episodes(DATA), lambda text: len(chat.encode(text))))
    texts = [
        chat.render(state.prompt(lambda text: len(chat.encode(text))), open_reply=True)[-400:] + f"{answer}<|im_end|>"
        for state, answer in rows
        if "+ " in answer
    ]
    optimizer = torch.optim.Adam(hf.parameters(), lr=1e-2)
    for step in range(300):
        ids = torch.tensor([chat.encode(texts[step % len(texts)])])
        hf(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    hf.save_pretrained(str(folder))
    model.tokenizer.save_pretrained(str(folder))
    return folder


def config(base: Path, **changes) -> Config:
    small = Config(
        model=str(base),
        data=DATA,
        lora=Lora(rank=4, alpha=8),
        sft=Sft(rows_a_step=4, learning_rate=1e-3, warmup=1, rejection_rounds=1, rejection_episodes=2, best_of=2),
        grpo=Grpo(
            stages=(Stage("one", 10, 1), Stage("all", 10)),
            refresh=10,
            episodes=4,
            watched=2,
            groups=1,
            answers=4,
            temperature=1.3,
            learning_rate=1e-3,
            warmup=1,
            patience=0,
            save_steps=5,
        ),
        machine=Machine(dtype="float32", threads=1, processes=1, batch=4, max_answer=48, sft_batch=4, grpo_batch=4),
    )
    return dataclasses.replace(small, **changes)


def weights(adapter: Path) -> dict[str, torch.Tensor]:
    return load_file(adapter / WEIGHTS)


@pytest.fixture(scope="module")
def trained(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A run's folder, its warm start, and what came of reinforcement."""
    out = tmp_path_factory.mktemp("run")
    warm = sft.run(config(base), out, QUIET)
    return out, warm, grpo.run(config(base), out, None, QUIET)


def test_reinforcement_changes_the_adapter(trained):
    _, warm, after = trained
    before, now = weights(warm), weights(after)
    assert before.keys() == now.keys()
    assert any(not torch.equal(before[name], now[name]) for name in before)
    assert all(tensor.dtype == torch.bfloat16 for tensor in now.values())


def test_what_a_policy_writes_can_be_looked_at(base, trained, capsys):
    look.look(config(base), look.Options(trained[1], episodes=2, worst=1))
    said = capsys.readouterr().out
    assert "rules in force" in said and "Behind the oracle" in said
    assert ">>> it wrote" in said and "Notes (" in said, "a tiny model is behind somewhere, and it is shown where"


def test_it_is_told_where_a_policy_goes_another_way_than_the_oracle(base, trained):
    found = agreement(config(base), Compared(trained[1], episodes=2))
    assert found[END].all > 2 and found[COPIED].all > found[END].all
    assert all(0 <= tally.same <= tally.all for tally in found.values())
    assert found["a letter"].same > 0.5 * found["a letter"].all, "letters are what a tiny model has learned"


def test_a_base_in_fp32_is_not_trained_in_mixed_precision(base):
    settled = prepared(config(base, machine=Machine(dtype="float32", mixed_precision=True)))
    assert not settled.machine.mixed_precision
    auto = prepared(config(base, machine=Machine(dtype="auto", mixed_precision=True))).machine
    assert (auto.dtype, auto.mixed_precision) in {("float32", False), ("bfloat16", True)}


def test_every_step_and_term_is_logged_and_drawn(trained, tmp_path):
    records = RunFolder(trained[0]).curves()
    steps = [each["step"] for each in records if (each["part"], each["kind"]) == ("grpo", "train")]
    assert steps == list(range(1, 21))
    last = next(each for each in reversed(records) if each["kind"] == "train")
    assert {f"rewards/{term}/mean" for term in grpo.TERMS} <= last.keys() and "kl" in last
    assert [each["step"] for each in records if each["kind"] == "held_out"] == [0, 10, 20]
    assert any(each.get("reward_std", 0) > 0 for each in records), "the groups carry signal"
    draw(records, tmp_path / "curves.svg")
    assert (tmp_path / "curves.svg").read_text().startswith("<?xml")


def test_a_run_that_was_interrupted_comes_to_the_same_end(base, trained, tmp_path, monkeypatch):
    out, warm, after = trained

    def fail(self, args, state, control, logs=None, **kwargs):
        if state.global_step == 8:
            raise KeyboardInterrupt
        return real(self, args, state, control, logs, **kwargs)

    real = run_folder.Curves.on_log
    monkeypatch.setattr(run_folder.Curves, "on_log", fail)
    again = tmp_path / "again"
    with pytest.raises(KeyboardInterrupt):
        grpo.run(config(base), again, warm, QUIET)
    monkeypatch.setattr(run_folder.Curves, "on_log", real)
    assert RunFolder(again).checkpoint("grpo").endswith("checkpoint-5")
    resumed = weights(grpo.run(config(base), again, warm, QUIET))
    assert all(torch.equal(resumed[name], tensor) for name, tensor in weights(after).items())


def test_what_is_done_is_not_done_again(base, trained):
    out, warm, after = trained
    lines = len((out / run_folder.CURVES).read_text().splitlines())
    assert grpo.run(config(base), out, None, QUIET) == after
    assert sft.run(config(base), out, QUIET) == warm
    assert len((out / run_folder.CURVES).read_text().splitlines()) == lines


def test_a_folder_of_another_configuration_is_refused(base, trained):
    with pytest.raises(ConfigError, match="another configuration: seed is 0 there and 1 now"):
        grpo.run(config(base, seed=1), trained[0], None, QUIET)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("sft: {rows_a_step: 10}", "rows_a_step is no multiple"),
        ("sft: {best_of: 1}", "the best of 1 answers"),
        ("grpo: {groups: 1, answers: 3}", "groups times answers"),
        ("grpo: {groups: 8, answers: 1}", "no differences"),
        ("seed: 0", "stages is empty"),
        ("grpo: {stages: [{name: none, steps: 0}]}", "'none' has no steps"),
        ("sft: {best: 4}", "best"),
    ],
)
def test_sizes_that_do_not_go_together_are_named(tmp_path, text, says):
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(ConfigError, match=says):
        load_config(tmp_path / "own.yaml")


def test_without_a_warm_start_it_says_how_to_get_one(base, tmp_path):
    with pytest.raises(ConfigError, match=r"python -m train\.sft --out"):
        grpo.run(config(base), tmp_path / "new", None, QUIET)


def test_an_adapter_of_another_model_is_named(base, trained, tmp_path):
    torch.manual_seed(1)
    other = tiny_chat("llama", hidden_size=48)
    other.hf.save_pretrained(str(tmp_path / "other"))
    other.tokenizer.save_pretrained(str(tmp_path / "other"))
    with pytest.raises(ModelUnavailable, match="No usable adapter"):
        grpo.run(config(tmp_path / "other"), tmp_path / "run", trained[1], QUIET)


def test_an_adapter_that_reads_is_not_trained_as_one_that_does_not(base, trained, tmp_path):
    other = config(base, lora=Lora(rank=4, alpha=8, reads=False))
    with pytest.raises(ConfigError, match="trained with lora.reads: true"):
        grpo.run(other, tmp_path / "run", trained[1], QUIET)


def test_an_adapter_that_does_not_read_is_trained_and_says_so(base, tmp_path):
    small = config(base, lora=Lora(rank=4, alpha=8, reads=False))
    small = dataclasses.replace(small, grpo=dataclasses.replace(small.grpo, stages=(Stage("one", 8, 1),), refresh=8))
    warm = sft.run(small, tmp_path / "run", QUIET)
    after = grpo.run(small, tmp_path / "run", None, QUIET)
    assert read_origin(after) is not None and not read_origin(after).reads
    before, now = weights(warm), weights(after)
    assert any(not torch.equal(before[name], now[name]) for name in before)


def test_a_run_without_signal_is_stopped_with_its_checkpoint_kept(base, trained, tmp_path):
    silent = config(base)
    silent = dataclasses.replace(
        silent, grpo=dataclasses.replace(silent.grpo, learning_rate=0.0, patience=1, temperature=1e-3)
    )
    with pytest.raises(TrainingDiverged, match="checkpoint"):
        grpo.run(silent, tmp_path / "silent", trained[1], QUIET)


def test_numbers_that_are_none_stop_the_run_before_they_are_kept(tmp_path):
    folder = RunFolder(tmp_path)
    guard = run_folder.Curves(folder, "grpo")
    state = type("State", (), {"global_step": 3})()
    with pytest.raises(TrainingDiverged, match="grad_norm is nan at step 3"):
        guard.on_log(None, state, None, {"loss": 0.1, "grad_norm": float("nan")})
    assert folder.curves() == []


def test_a_checkpoint_that_was_not_finished_is_not_taken(tmp_path):
    for step, whole in ((5, True), (10, False)):
        place = tmp_path / "grpo" / f"checkpoint-{step}"
        place.mkdir(parents=True)
        if whole:
            (place / "trainer_state.json").write_text(json.dumps({}))
    assert RunFolder(tmp_path).checkpoint("grpo").endswith("checkpoint-5")


@pytest.mark.parametrize("name", ["policy", "policy_accelerator"])
def test_the_shipped_recipes_are_sound(name):
    found = load_config(Path("configs") / f"{name}.yaml")
    assert sum(stage.steps for stage in found.grpo.stages) >= 40
    watched = dataclasses.replace(found.data, episodes=2)
    from train.data import held_out

    assert len(held_out(watched, 2)) == 2


def test_a_tokenizer_that_adds_tokens_is_told_not_to(base):
    assert load_base(str(base), "float32", "cpu").tokenizer("")["input_ids"] == []
