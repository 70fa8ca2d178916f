"""What the tests of the runner share: a model on disk, scenarios of a few words, memory functions that misbehave."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import torch
from tiny_chat import tiny_chat

from eval.scenarios import EXISTENCE_OPTIONS, Check, Meeting, Probe, Rule, Scenario, Statement, Turn, write_scenarios
from memkv.turns import Message

# A file with this name in the working directory of a worker makes `die_once` kill it.
TRIGGER = "MEMKV_TEST_TRIGGER"


def save_tiny_model(folder: Path) -> Path:
    """A random llama with its tokenizer, as a folder that a worker loads by its path."""
    torch.manual_seed(0)
    model = tiny_chat("llama")
    model.hf.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    return folder


def tiny_scenario(number: int) -> Scenario:
    """One rule that binds, one that was never said, two rounds, a probe of most kinds."""
    colour = ("red", "blue", "green", "black")[number % 4]
    binding = Rule(
        id="r0",
        family="test/ink",
        topic="the ink of drafts",
        type="obligation",
        status="active",
        phrasing="passing",
        text=f"Drafts must be printed in {colour} ink.",
        statement=Statement((("ink",), ("draft", "drafts")), colour, ("white",)),
        planted_at=(0, 0),
    )
    never = Rule(
        id="r1",
        family="test/paper",
        topic="the paper of letters",
        type="obligation",
        status="never",
        phrasing="none",
        text="Letters must be on thick paper.",
        statement=Statement((("paper",), ("letter", "letters")), "thick", ("thin",)),
    )
    meetings = (
        Meeting("2026-03-02", (Turn("user", f"Hello. {binding.text}"), Turn("assistant", "Noted."))),
        Meeting("2026-03-09", (Turn("user", f"Tell me of town {number}."), Turn("assistant", "It has a tower."))),
    )
    options = tuple(f"{value}." for value in ("red", "blue", "green", "black"))
    probes = (
        Probe("p0", "r0", "value", "Which ink?", options, number % 4),
        Probe("p1", "r0", "existence", "A rule about ink?", EXISTENCE_OPTIONS, 0),
        Probe("p2", "r1", "existence", "A rule about paper?", EXISTENCE_OPTIONS, 1),
        Probe("p3", "r0", "generate", "Say it.", (), -1, check=Check("starts_with", "Ink"), max_tokens=3),
    )
    name = f"own-{number:02}"
    return Scenario(name, name, "own", "own", "0", meetings, (2, 4), "2026-03-20", (binding, never), probes)


def write_tiny_run(folder: Path, scenarios: int, systems: str) -> tuple[Path, Path]:
    """A model, a scenario file and a configuration in `folder`; the last two are returned."""
    model = save_tiny_model(folder / "model")
    file = folder / "scenarios.jsonl"
    write_scenarios(file, map(tiny_scenario, range(scenarios)))
    config = folder / "tiny.yaml"
    config.write_text(f"model: {model}\ndtype: float32\nsystems:\n{systems}", encoding="utf-8")
    return config, file


def newest(messages: list[Message], budget_bytes: int) -> list[Message]:
    """A memory that keeps the last message alone."""
    return messages[-1:]


def slowly(messages: list[Message], budget_bytes: int) -> list[Message]:
    """As `newest`, taking its time."""
    time.sleep(0.3)
    return messages[-1:]


def die(messages: list[Message], budget_bytes: int) -> list[Message]:
    """As `newest`; kills its own process in the conversation about town 1, while the trigger is there."""
    if any("town 1." in message["content"] for message in messages) and Path(os.environ[TRIGGER]).exists():
        os.kill(os.getpid(), signal.SIGKILL)
    return messages[-1:]


def crash(messages: list[Message], budget_bytes: int) -> list[Message]:
    """Fails as unfinished code does, in the conversation about town 1."""
    if any("town 1." in message["content"] for message in messages):
        raise ZeroDivisionError("an average of nothing")
    return messages[-1:]


def keep_all(messages: list[Message], budget_bytes: int) -> list[Message]:
    """Returns more than it may."""
    return messages
