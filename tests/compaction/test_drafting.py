"""Guessing most of an answer changes how long it takes, not what it is."""

from __future__ import annotations

import pytest
import torch
from tiny_chat import tiny_chat

from memkv import HybridModel
from memkv.compaction.drafting import drafted, guessed

LETTERS = ["A", "B", "C", "D"]
SAID = "Private calls find my phone off on Tuesday."
ANSWERS = [
    "A\nB\nC\nD",
    f"A\nB\n+ {SAID}\nC\n- bills\nD",
    "B\nA\n+ Own words of the model.",
    "- an old note\nA\nB\nC\nD\nLOST: it 90%",
    f"A\n+ {SAID}",  # ends with a sentence that the prompt ends with too
]


@pytest.fixture(scope="module", params=["llama", "granitemoehybrid"])
def model(request) -> HybridModel:
    """A tiny model that has learned a few answers by heart."""
    torch.manual_seed(0)
    model = tiny_chat(request.param)
    optimizer = torch.optim.Adam(model.hf.parameters(), lr=5e-3)
    texts = [model.chat.encode(f"{asked(number)}{answer}<|im_end|>") for number, answer in enumerate(ANSWERS)]
    for step in range(400):
        ids = torch.tensor([texts[step % len(texts)]])
        model.hf(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


def asked(number: int) -> str:
    return f"{SAID}<|im_end|>\n{7 * (str(number))}"


@pytest.mark.parametrize("number", range(len(ANSWERS)))
def test_the_answer_is_the_greedy_one(model, number, monkeypatch):
    live, plain = model.new_cache(), model.new_cache()
    model.extend(live, model.chat.encode(asked(number)))
    model.extend(plain, model.chat.encode(asked(number)))
    wanted = list(model.generate(plain, 90, stop_ids=model.chat.stop_ids))
    assert model.chat.decode(wanted) == ANSWERS[number], "the tiny model knows its answers"
    passes: list[int] = []
    forward = model._forward_live
    monkeypatch.setattr(model, "_forward_live", lambda *a, **k: passes.append(1) or forward(*a, **k))
    found = list(drafted(model, live, LETTERS, 90))
    assert [token for token, _ in found] == wanted
    assert all(0.5 < probability <= 1 for _, probability in found), "it has learned its answers"
    assert live.token_ids == plain.token_ids
    if number < 2 and model.continuation.mode != "token by token":
        assert len(passes) < 0.7 * len(wanted)


@pytest.mark.parametrize("most", [1, 2, 5])
def test_an_answer_is_no_longer_than_it_may_be(model, most):
    live = model.new_cache()
    model.extend(live, model.chat.encode(asked(1)))
    assert len(list(drafted(model, live, LETTERS, most))) == most


def test_letters_are_guessed_at_the_beginning_of_a_line_and_what_was_said_inside_it(model):
    chat = model.chat
    prompt = chat.encode(asked(0))
    assert chat.decode(guessed(chat, [], LETTERS, prompt)).startswith("A\nB")
    assert chat.decode(guessed(chat, chat.encode("A\n- x\n"), LETTERS, prompt)).startswith("B\nC")
    assert guessed(chat, chat.encode("D\n"), LETTERS, prompt) == []
    inside = chat.encode(SAID)
    assert guessed(chat, inside[:6], LETTERS, prompt)[:3] == inside[6:9]
