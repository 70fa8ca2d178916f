"""Eviction and attention matching on tiny random models: bytes freed, positions right, what is kept is what matters."""

import pytest
import torch
from snapshots import snapshot
from tiny_models import tiny

from memkv.compress import (
    H2O,
    INT4,
    AttentionMatching,
    Chain,
    ExpectedAttention,
    Identity,
    KVzip,
    SnapKV,
    StreamingLLM,
    budget_from_ratio,
    codec,
    decompress,
)
from memkv.compress.evictor import take
from memkv.compress.reading import listen
from memkv.errors import BudgetExceeded, ConfigError, FingerprintMismatch, InvalidInput, UnsupportedModel
from memkv.model import HybridModel
from memkv.snapshot import COMPRESSIBLE

TOKENS = 72
READERS = {"snapkv": SnapKV, "h2o": H2O, "expected": ExpectedAttention, "kvzip": KVzip, "matching": AttentionMatching}
# One of each kind of cache: full, GQA, sliding beside full, MLA, SSM beside attention, SSM with attention in one layer.
MODELS = [
    "gpt2",
    "llama",
    "gemma3",
    "deepseek_v3",
    "bamba",
    "jamba",
    "qwen3_next",
    "lfm2",
    "falcon_h1",
    "zamba2",
    "mamba2",
]


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEMKV_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(scope="module")
def read():
    """name -> (model, snapshot after TOKENS tokens)."""
    known = {}

    def load(name):
        if name not in known:
            model = HybridModel(tiny(name))
            live = model.new_cache()
            tokens = torch.randint(3, 128, (TOKENS,), generator=torch.Generator().manual_seed(1)).tolist()
            model.extend(live, tokens)
            known[name] = (model, model.capture(live))
        return known[name]

    return load


def evictor(name, model):
    return StreamingLLM(recent=8) if name == "streaming" else READERS[name](model, recent=8)


def compressible(state):
    return [layer for layer in state.layers if layer.kind in COMPRESSIBLE]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("method", ["streaming", *READERS])
def test_budgets_hold_and_the_conversation_goes_on(read, name, method):
    model, full = read(name)
    for compressor in (evictor(method, model), Chain([evictor(method, model), INT4(group=16, residual=8)])):
        budget = budget_from_ratio(full, 0.4)
        if method == "matching" and name == "deepseek_v3":
            with pytest.raises(UnsupportedModel, match="latents"):
                compressor.compress(full, budget_from_ratio(full, 0.2))
            continue
        small = compressor.compress(full, budget)
        assert small.payload <= budget and small.token_ids == full.token_ids
        if compressible(full):
            assert small.payload > 0.8 * budget or isinstance(compressor, Chain), "most of the budget is used"
        back = decompress(small)
        lengths = {layer.tensors["keys"].shape[2] for layer in compressible(back)}
        assert len(lengths) <= 1 and all(length < TOKENS or isinstance(compressor, Chain) for length in lengths)
        assert all(layer.seen == TOKENS for layer in back.layers)
        live = model.restore(back)
        assert len(live) == TOKENS
        assert torch.isfinite(model.extend(live, [5, 6, 7])).all()
        assert len(list(model.generate(live, 3))) == 3


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("text", ["fp8", "int8", "int4"])
def test_quantized_logits_are_near_the_full_ones(read, name, text):
    model, full = read(name)
    more = [7, 8, 9]
    expected = model.extend(model.restore(full), more)
    bound = {"fp8": 0.05, "int8": 0.01, "int4": 0.15}[text] * expected.abs().max()
    small = codec(text).compress(full)
    assert not compressible(full) or small.payload < full.payload
    got = model.extend(model.restore(decompress(small)), more)
    assert (got - expected).abs().max() <= bound


@pytest.mark.parametrize("name", MODELS)
def test_identity_is_bit_equal(read, name):
    model, full = read(name)
    expected = model.extend(model.restore(full), [7, 8, 9])
    assert torch.equal(model.extend(model.restore(decompress(Identity().compress(full))), [7, 8, 9]), expected)


@pytest.mark.parametrize("method", ["streaming", *READERS])
@pytest.mark.parametrize("quantized", [False, True])
def test_the_smallest_budget_works_and_one_byte_less_does_not(read, method, quantized):
    model, full = read("llama")
    compressor = evictor(method, model)
    if quantized:
        compressor = Chain([compressor, INT4(group=16, residual=8)])
    with pytest.raises(BudgetExceeded) as refused:
        compressor.compress(full, 1)
    smallest = refused.value.smallest
    assert compressor.compress(full, smallest).payload <= smallest < full.payload / 2
    with pytest.raises(BudgetExceeded):
        compressor.compress(full, smallest - 1)


def test_every_budget_between_is_met(read):
    model, full = read("llama")
    chain = Chain([StreamingLLM(recent=4), INT4(group=16, residual=8)])
    with pytest.raises(BudgetExceeded) as refused:
        chain.compress(full, 1)
    last = 0
    for budget in range(refused.value.smallest, full.payload + 200, 397):
        small = decompress(chain.compress(full, budget))
        assert small.payload >= last, "more budget never keeps less"
        last = small.payload
    assert last == full.payload


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma3", "deepseek_v3"])
def test_positions_stay_right_after_eviction(read, name):
    """Restored and continued, an evicted cache gives the logits of a full pass whose later queries skip the gap."""
    model, full = read(name)
    more = [9, 8, 7, 6, 5]
    kept = StreamingLLM(sinks=4, recent=8).evict(full, 30)
    got = model.extend(model.restore(kept), more)
    gap = range(4, TOKENS - 26)  # 30 kept: 4 sinks, 26 newest
    total = TOKENS + len(more)
    visible = torch.ones(total, total, dtype=torch.bool).tril()
    visible[TOKENS:, gap.start : gap.stop] = False
    masks = torch.where(visible, 0.0, torch.finfo(torch.float32).min)[None, None]
    if name == "gemma3":
        near = torch.arange(total)[:, None] - torch.arange(total)[None] < 8
        sliding = torch.where(
            torch.ones(total, total, dtype=torch.bool).tril() & near, 0.0, torch.finfo(torch.float32).min
        )
        masks = {"full_attention": masks, "sliding_attention": sliding[None, None]}
    ids = torch.tensor([[*full.token_ids, *more]])
    with torch.no_grad():
        expected = model.hf(input_ids=ids, attention_mask=masks, use_cache=False).logits[0, -1]
    assert torch.allclose(got, expected, atol=2e-5)
    whole = model.extend(model.restore(full), more)
    assert (whole - expected).abs().max() > 1e-4, "the gap matters, so that the comparison can fail"


def test_dropping_what_is_not_looked_at_changes_nothing(read):
    """Other entries in every head and layer: what the next tokens do not look at can go, the rest cannot."""
    _, full = read("llama")
    more = [9, 8, 7]
    model = tiny("llama")
    with torch.no_grad():  # a random model looks at everything alike: sharpen its queries
        for layer in model.model.layers:
            layer.self_attn.q_proj.weight *= 3e4
    model = HybridModel(model)
    live = model.new_cache()
    model.extend(live, full.token_ids)
    state = model.capture(live)
    whole = model.extend(model.restore(state), more)
    looks = {}
    for index, heard in listen(model, model.restore(state), more).items():
        looks[index] = torch.cat([weights.amax((2, 3)) for weights in heard.weights()])[..., :TOKENS]
    entries = max(int((look > 1e-6).sum(-1).max()) for look in looks.values())
    assert entries < 0.8 * TOKENS, "there is something to drop"

    def after_dropping(largest):
        kept = {i: look.topk(entries, dim=-1, largest=largest).indices.sort(-1).values for i, look in looks.items()}
        layers = {index: take(state.layers[index], positions) for index, positions in kept.items()}
        return model.extend(model.restore(state.replace_layers(layers, "test")), more)

    assert (after_dropping(True) - whole).abs().max() < 1e-3 * whole.abs().max()
    assert (after_dropping(False) - whole).abs().max() > 1e-2 * whole.abs().max()


@pytest.mark.parametrize("name", ["llama", "bamba", "qwen3_next"])
def test_matching_beats_plain_eviction_in_attention_output_at_the_same_bytes(read, name):
    model, full = read(name)
    budget = budget_from_ratio(full, 0.4)
    more = torch.randint(3, 128, (16,), generator=torch.Generator().manual_seed(2)).tolist()
    heard = listen(model, model.restore(full), more)
    errors = {}
    for method in ("streaming", "snapkv", "h2o", "matching"):
        small = evictor(method, model).compress(full, budget)
        total = 0.0
        for index, layer in enumerate(small.layers):
            if layer.kind in COMPRESSIBLE:
                reference = attention_output(heard[index], full.layers[index].tensors)
                total += (attention_output(heard[index], layer.tensors) - reference).norm().item()
        errors[method] = total
    assert errors["matching"] < 0.7 * min(error for method, error in errors.items() if method != "matching"), errors


def attention_output(heard, tensors):
    """Output (BHQD) of the heard queries over the cached keys, without the queries' own tokens."""
    repeat = heard.queries_BHQD.shape[1] // tensors["keys"].shape[1]
    keys, values = (tensors[name].repeat_interleave(repeat, dim=1) for name in ("keys", "values"))
    logits = heard.queries_BHQD @ keys.transpose(2, 3) * heard.scaling
    if "key_bias" in tensors:
        logits = logits + tensors["key_bias"].repeat_interleave(repeat, dim=1)[:, :, None]
    return logits.softmax(-1) @ values


def test_matching_with_all_keys_needs_no_bias_and_changes_no_value(read):
    model, full = read("llama")
    matching = AttentionMatching(model)
    for index, heard in matching.reference(full).items():
        everything = torch.arange(TOKENS).expand(1, 2, TOKENS)
        layer = matching.match(full.layers[index], heard, everything)
        assert layer.tensors["key_bias"].abs().max() < 1e-3
        assert torch.allclose(layer.tensors["values"], full.layers[index].tensors["values"], atol=1e-3)


@pytest.mark.parametrize("name", ["llama", "falcon_h1", "zamba2", "deepseek_v3", "jamba", "gpt2"])
@pytest.mark.parametrize("method", list(READERS))
def test_sinks_and_newest_are_kept_and_heads_choose_alone(read, name, method):
    model, full = read(name)
    if method == "matching" and name == "deepseek_v3":
        return
    positions = evictor(method, model).positions(full, 30)
    assert sorted(positions) == [i for i, layer in enumerate(full.layers) if layer.kind in COMPRESSIBLE]
    for index, kept in positions.items():
        assert kept.shape == (1, full.layers[index].tensors["keys"].shape[1], 30)
        assert (kept.diff(dim=-1) > 0).all()
        assert (kept[..., :4] == torch.arange(4)).all() and (kept[..., -8:] == torch.arange(TOKENS - 8, TOKENS)).all()


def test_evicted_memory_is_really_freed(read):
    model, full = read("llama")
    for tensor in SnapKV(model, recent=8).evict(full, 20).layers[0].tensors.values():
        assert tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()


def test_a_snapshot_can_be_evicted_again_or_the_reason_is_named(read):
    model, full = read("llama")
    once = SnapKV(model, recent=8).evict(full, 40)
    twice = StreamingLLM(recent=8).evict(once, 20)
    assert torch.equal(twice.layers[0].tensors["keys"][:, :, -16:], once.layers[0].tensors["keys"][:, :, -16:])
    assert twice.codecs == ("snapkv", "streaming")
    for method in READERS:
        with pytest.raises(InvalidInput, match="evicted before"):
            evictor(method, model).evict(once, 20)
    biased = AttentionMatching(model, recent=8).evict(full, 40)
    again = StreamingLLM(recent=8).evict(biased, 20)
    assert again.layers[0].tensors["key_bias"].shape[2] == 20
    assert torch.isfinite(model.extend(model.restore(again), [3])).all()


def test_another_models_snapshot_is_refused(read):
    _, full = read("llama")
    with pytest.raises(FingerprintMismatch):
        SnapKV(HybridModel(tiny("llama", num_hidden_layers=2)), recent=8).evict(full, 20)


def test_quantized_snapshots_are_refused():
    with pytest.raises(InvalidInput, match="quantized already"):
        StreamingLLM().compress(codec("int8").compress(snapshot()), 10_000)


def test_too_few_entries_are_refused(read):
    _, full = read("llama")
    with pytest.raises(InvalidInput, match="Keep at least 36"):
        StreamingLLM().evict(full, 20)


def test_a_model_without_attention_has_nothing_to_evict(read):
    model, full = read("mamba2")
    assert codec("snapkv", model).compress(full, full.payload).payload == full.payload
    with pytest.raises(BudgetExceeded) as refused:
        codec("snapkv", model).compress(full, full.payload - 1)
    assert refused.value.smallest == full.payload


def test_no_budget_evicts_nothing(read):
    model, full = read("llama")
    assert codec("snapkv", model).compress(full).payload == full.payload
    assert codec("snapkv+int8", model).compress(full).payload == codec("int8").compress(full).payload


@pytest.mark.parametrize("ratio", [0.0, -1.0, 1.5])
def test_bad_ratios_are_named(ratio):
    with pytest.raises(InvalidInput, match="ratio"):
        budget_from_ratio(snapshot(), ratio)


@pytest.mark.parametrize(
    "text", ["int4+snapkv", "int4+int8", "snapkv+int4+int8", "identity+int4", "snapkv+nothing", ""]
)
def test_bad_chains_are_named(read, text):
    with pytest.raises(ConfigError):
        codec(text, read("llama")[0])


def test_a_reading_codec_asks_for_its_model():
    with pytest.raises(ConfigError, match="model"):
        codec("kvzip")


@pytest.mark.parametrize("text", ["snapkv:2", "h2o:x", "int4:0.5", "streaming:"])
def test_bad_ratios_in_a_name_are_named(read, text):
    with pytest.raises(ConfigError, match="share|takes no ratio"):
        codec(text, read("llama")[0])


def test_a_ratio_in_the_name_keeps_that_share_without_a_budget(read):
    model, full = read("llama")
    half = codec("streaming:0.75").compress(full)
    assert half.layers[0].tensors["keys"].shape[2] == int(0.75 * TOKENS)
    small = codec("streaming:0.75+int4").compress(full)
    assert decompress(small).payload == half.payload
    assert codec("streaming:0.01").compress(full).layers[0].tensors["keys"].shape[2] == 36, "sinks and recent stay"
    budget = budget_from_ratio(full, 0.6)
    assert codec("streaming:0.75").compress(full, budget).payload <= budget
    assert codec("streaming:0.75").compress(full, full.payload).payload == half.payload
    assert codec("matching:0.75", model).compress(full).layers[0].tensors["key_bias"].shape[2] == int(0.75 * TOKENS)
