from __future__ import annotations

import pytest
import torch
from architectures import NAMED, OTHERS
from tiny_chat import random_tokens, tiny_chat
from tiny_models import tiny

from memkv.errors import FingerprintMismatch, InvalidInput, ModelUnavailable, UnsupportedModel
from memkv.model import HybridModel
from memkv.sampling import Sampling
from memkv.snapshot import same_tensors

ROUNDING = 2e-5  # of the largest logit, fp32


def relative(one: torch.Tensor, other: torch.Tensor) -> float:
    return ((one - other).abs().max() / other.abs().max()).item()


@pytest.fixture(params=[*NAMED, *OTHERS])
def model(request: pytest.FixtureRequest) -> HybridModel:
    return HybridModel(tiny(request.param), name=request.param)


def test_a_continued_cache_agrees_with_a_cache_free_pass(model: HybridModel) -> None:
    tokens = random_tokens(60)
    live = model.new_cache()
    for start, stop in ((0, 19), (19, 20), (20, 33), (33, 60)):
        logits_V = model.extend(live, tokens[start:stop])
        assert relative(logits_V, model.one_pass_logits(tokens[:stop])[-1]) < ROUNDING


def test_a_restored_cache_goes_on_bit_for_bit_while_another_conversation_runs(model: HybridModel) -> None:
    live = model.new_cache()
    model.extend(live, random_tokens(41))
    snapshot = model.capture(live)
    other = model.new_cache()
    model.extend(other, random_tokens(30, seed=1))
    expected_V = model.extend(live, random_tokens(5, seed=2))
    expected = list(model.generate(live, 32))
    restored = model.restore(snapshot)
    model.extend(other, random_tokens(3, seed=3))
    assert torch.equal(model.extend(restored, random_tokens(5, seed=2)), expected_V)
    assert list(model.generate(restored, 32)) == expected
    assert same_tensors(model.capture(restored), model.capture(live))


def test_a_snapshot_does_not_change_when_its_conversation_goes_on(model: HybridModel) -> None:
    live = model.new_cache()
    model.extend(live, random_tokens(20))
    snapshot = model.capture(live)
    before = {name: tensor.clone() for name, tensor in snapshot.named_tensors()}
    restored = model.restore(snapshot)
    model.extend(live, random_tokens(9, seed=1))
    model.extend(restored, random_tokens(9, seed=2))
    assert all(torch.equal(tensor, before[name]) for name, tensor in snapshot.named_tensors())


def test_forks_do_not_notice_each_other(model: HybridModel) -> None:
    live = model.new_cache()
    model.extend(live, random_tokens(25))
    fork, twin = live.fork(), live.fork()
    model.extend(fork, random_tokens(12, seed=1))
    undisturbed_V = model.extend(twin, random_tokens(4, seed=2))
    assert torch.equal(model.extend(live, random_tokens(4, seed=2)), undisturbed_V)


def test_log_probs_are_those_of_one_pass_and_leave_the_conversation_alone(model: HybridModel) -> None:
    tokens, options = random_tokens(20), [random_tokens(1, seed=5), random_tokens(6, seed=6)]
    live = model.new_cache()
    model.extend(live, tokens)
    found = model.log_probs(live, options)
    for option, total in zip(options, found, strict=True):
        logp_TV = model.one_pass_logits(tokens + option).log_softmax(-1)
        expected = sum(logp_TV[len(tokens) - 1 + i, token].item() for i, token in enumerate(option))
        assert total == pytest.approx(expected, abs=1e-3)
    assert live.token_ids == tokens


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("bamba", "pieces"),
        ("llama", "pieces"),
        ("jamba", "token by token"),
        ("mamba", "token by token"),
        ("recurrent_gemma", "token by token"),
    ],
)
def test_the_self_check_finds_the_exact_way_and_says_so(name: str, mode: str) -> None:
    found = HybridModel(tiny(name)).continuation
    assert (found.mode, found.exact) == (mode, True)
    assert mode.split()[-1] in found.describe()


def test_the_self_check_is_remembered_by_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    first = HybridModel(tiny("jamba")).continuation
    monkeypatch.setattr(HybridModel, "_check", lambda self: pytest.fail("checked again"))
    assert HybridModel(tiny("jamba")).continuation == first


def test_a_model_that_no_way_continues_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tiny("llama")
    attention = broken.model.layers[1].self_attn
    forward = attention.forward

    def without_its_cache(*args, past_key_values=None, **kwargs):
        """A model with a cache bug: one layer attends to the newest tokens alone."""
        return forward(*args, past_key_values=None, **(kwargs | {"attention_mask": None}))

    monkeypatch.setattr(attention, "forward", without_its_cache)
    with pytest.raises(UnsupportedModel, match="not usable"):
        HybridModel(broken)


def test_rwkv_is_refused_with_what_still_works() -> None:
    with pytest.raises(UnsupportedModel, match="memkv measure"):
        HybridModel(tiny("rwkv"))


def test_a_long_prompt_is_read_in_pieces_and_progress_is_told() -> None:
    model, told = tiny_chat("llama"), []
    tokens = random_tokens(2500)
    live = model.new_cache()
    logits_V = model.extend(live, tokens, lambda done, total: told.append((done, total)))
    assert told == [(1024, 2500), (2048, 2500), (2500, 2500)]
    assert relative(logits_V, model.one_pass_logits(tokens)[-1]) < ROUNDING


def test_generation_is_greedy_by_default_and_repeatable_with_a_seed() -> None:
    model = tiny_chat("llama")
    live = model.new_cache()
    model.extend(live, random_tokens(10))
    greedy = list(model.generate(live.fork(), 8))
    assert greedy[0] == int(live.next_logits.argmax())
    warm = Sampling(temperature=1.0, top_p=0.9, seed=7)
    assert list(model.generate(live.fork(), 8, warm)) == list(model.generate(live.fork(), 8, warm))
    assert list(model.generate(live.fork(), 8, warm)) != list(model.generate(live.fork(), 8, Sampling(1.0, 0.9, 8)))
    assert list(model.generate(live.fork(), 8, stop_ids=[greedy[3]])) == greedy[:3]


@pytest.mark.parametrize(("tokens", "says"), [([], "no tokens"), ([5, 128], "vocabulary"), ([5] * 5000, "positions")])
def test_tokens_that_cannot_be_read_are_refused_and_nothing_is_lost(tokens: list[int], says: str) -> None:
    model = tiny_chat("llama")
    live = model.new_cache()
    model.extend(live, random_tokens(10))
    with pytest.raises(InvalidInput, match=says):
        model.extend(live, tokens)
    assert len(live) == 10
    model.extend(live, [7])


def test_a_pass_that_was_interrupted_leaves_a_cache_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_chat("llama")
    live = model.new_cache()
    model.extend(live, random_tokens(10))

    def stop(*args: object) -> None:
        raise KeyboardInterrupt

    handle = model.hf.model.layers[2].register_forward_pre_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        model.extend(live, [7])
    handle.remove()
    with pytest.raises(InvalidInput, match="interrupted"):
        model.extend(live, [7])
    with pytest.raises(InvalidInput, match="interrupted"):
        model.capture(live)


def test_a_snapshot_of_another_model_names_every_differing_field() -> None:
    one, other = tiny_chat("llama"), tiny_chat("llama", rope_parameters={"rope_type": "default", "rope_theta": 5e5})
    live = one.new_cache()
    one.extend(live, random_tokens(10))
    with pytest.raises(FingerprintMismatch) as caught:
        other.restore(one.capture(live))
    assert set(caught.value.fields) == {"rope"}
    with pytest.raises(FingerprintMismatch) as caught:
        tiny_chat("bamba", template="thinking").restore(one.capture(live))
    assert {"weights", "chat_template", "cache_layout"} <= set(caught.value.fields)


def test_adapters_that_do_not_fit_leave_the_model_as_it_was(tmp_path) -> None:
    from peft import LoraConfig, get_peft_model

    lora = LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=False)
    get_peft_model(tiny("llama", hidden_size=64), lora).save_pretrained(tmp_path / "wider")
    get_peft_model(tiny("llama"), lora).save_pretrained(tmp_path / "damaged")
    weights = tmp_path / "damaged" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    model = tiny_chat("llama")
    tokens = random_tokens(20)
    plain_V = model.one_pass_logits(tokens)[-1]
    for name in ("wider", "damaged"):
        with pytest.raises(ModelUnavailable, match="No usable adapter"):
            model.load_adapter(tmp_path / name, name)
        assert torch.equal(model.one_pass_logits(tokens)[-1], plain_V)
    live = model.new_cache()
    model.extend(live, tokens)
    assert model.restore(model.capture(live)).token_ids == tokens


def test_a_snapshot_names_the_adapter_that_read_it(tmp_path) -> None:
    from peft import LoraConfig, get_peft_model

    lora = LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=False)
    get_peft_model(tiny("llama"), lora).save_pretrained(tmp_path / "policy")
    model = tiny_chat("llama")
    model.load_adapter(tmp_path / "policy", "policy")
    with model.with_adapter("policy"):
        live = model.new_cache()
        model.extend(live, random_tokens(20))
    with pytest.raises(FingerprintMismatch, match="adapter"):
        model.restore(model.capture(live))
    with pytest.raises(FingerprintMismatch, match="adapter"):
        model.log_probs(live, [[7]])


@pytest.mark.parametrize("sampling", [(float("nan"), 0.9), (-1.0, 0.9), (1.0, 0.0), (1.0, 1.1)])
def test_sampling_that_makes_no_sense_is_refused(sampling: tuple[float, float]) -> None:
    with pytest.raises(InvalidInput, match="top-p"):
        Sampling(*sampling)


def test_adapters_switch_on_and_off_and_a_conversation_stays_with_one(tmp_path) -> None:
    from peft import LoraConfig, get_peft_model

    lora = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    trained = get_peft_model(tiny("llama"), lora)
    trained.save_pretrained(tmp_path / "adapter")
    model = tiny_chat("llama")
    tokens = random_tokens(20)
    plain_V = model.one_pass_logits(tokens)[-1]
    before = model.fingerprint
    model.load_adapter(tmp_path / "adapter", "policy")
    assert torch.equal(model.one_pass_logits(tokens)[-1], plain_V)
    live = model.new_cache()
    model.extend(live, tokens)
    with model.with_adapter("policy"):
        assert not torch.allclose(model.one_pass_logits(tokens)[-1], plain_V)
        assert set(before.differences(model.fingerprint)) == {"adapter"}
        with pytest.raises(FingerprintMismatch, match="adapter"):
            model.extend(live, [7])
    assert model.fingerprint == before
    model.extend(live, [7])
    with pytest.raises(ModelUnavailable, match="not loaded"):
        model.use_adapter("nobody")
    with pytest.raises(ModelUnavailable, match="No usable adapter"):
        model.load_adapter(tmp_path / "nowhere", "other")


def test_a_second_adapter_leaves_the_first_as_it_was(tmp_path) -> None:
    from peft import LoraConfig, get_peft_model

    for name, seed in (("first", 1), ("second", 2)):
        torch.manual_seed(seed)
        peft = get_peft_model(tiny("llama"), LoraConfig(init_lora_weights=False, target_modules="all-linear"))
        peft.save_pretrained(tmp_path / name)
    model = tiny_chat("llama")
    prompt = model.chat.encode("What is said?")
    model.load_adapter(tmp_path / "first", "first")

    def logits(name: str) -> torch.Tensor:
        with model.with_adapter(name):
            return model.extend(model.new_cache(), prompt)

    before = logits("first")
    model.load_adapter(tmp_path / "second", "second")
    assert torch.equal(logits("first"), before)
    assert not torch.equal(logits("second"), before)
