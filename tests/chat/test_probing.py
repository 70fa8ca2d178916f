from __future__ import annotations

import pytest
import torch
from tiny_chat import tiny_chat

from memkv.chat.policies import POLICIES, Probe
from memkv.chat.probing import EXCHANGE, knows, rank, read_question


def test_probes_have_four_different_options_and_every_rule_has_one() -> None:
    for policy in POLICIES:
        assert len(policy.probes) == 6
        for number, probe in enumerate(policy.probes, start=1):
            assert f"{number}. " in policy.text
            assert len(set(probe.options)) == 4
            assert 0 <= probe.answer < 4


@pytest.mark.parametrize("template", ["chatml", "strict", "thinking"])
def test_a_probe_is_a_question_like_any_other_and_leaves_no_trace(template: str) -> None:
    model = tiny_chat("bamba", template)
    chat = model.chat
    live = model.new_cache()
    model.extend(live, chat.encode(chat.stable(EXCHANGE)))
    asked = live.fork()
    logits_V = read_question(model, asked, "How many?")
    whole = chat.render([*EXCHANGE, {"role": "user", "content": "How many?"}], open_reply=True)
    assert asked.token_ids == chat.encode(whole)
    assert torch.allclose(logits_V, model.one_pass_logits(asked.token_ids)[-1], atol=1e-4)
    before = list(live.token_ids)
    ranks = rank(model, live, Probe("How many?", ("one", "two", "six", "ten"), 2))
    assert live.token_ids == before
    assert knows(model, live, Probe("How many?", ("one", "two", "six", "ten"), ranks.index(max(ranks))))
