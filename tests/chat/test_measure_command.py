from __future__ import annotations

import json
from pathlib import Path

import pytest

from memkv.chat.measure_command import Measure
from memkv.errors import InvalidInput, MemkvError, ModelUnavailable
from memkv.reference.measured import CONFIGS, reference_config


def test_measure_command_needs_one_thing_to_measure() -> None:
    for wrong in (Measure(), Measure("gpt2", reference=True), Measure("gpt2", tokens=(0,))):
        with pytest.raises(InvalidInput):
            wrong.run()


def test_measure_command_on_a_name_a_file_and_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, _ = reference_config("gpt2")
    config.save_pretrained(tmp_path / "folder")
    (tmp_path / "alone.json").write_text((CONFIGS / "gpt2.json").read_text())
    for name in ("gpt2", str(tmp_path / "folder"), str(tmp_path / "alone.json")):
        assert Measure(name, tokens=(100,), json=True, dtype="float32").run() == 0
        row = json.loads(capsys.readouterr().out)
        assert row["name"] == {"gpt2": "gpt2"}.get(name, Path(name).stem)
        assert row["bytes_at"] == {"100": 100 * 2 * 36_864}


def test_measure_command_draws_and_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "cache.png"
    assert Measure("lfm2-1.2b", plot=picture).run() == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "lfm2-1.2b" in printed and "12.0 KiB" in printed


def test_measure_command_lists_offline_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelUnavailable, match="smollm2-135m.*zamba2-7b"):
        Measure("./no-such-folder").run()


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "{}",
        '{"model_type": "no-such-type"}',
        '{"model_type": "llama", "hidden_size": 100, "num_attention_heads": 7}',
        '{"model_type": "llama", "num_hidden_layers": "many"}',
        '{"model_type": "vit"}',
    ],
)
def test_bad_configuration_is_a_named_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(MemkvError) as error:
        Measure(str(path)).run()
    assert error.value.next_step
