"""Quantizers: half a step at most, small enough, the same every time, and clear about what they cannot hold."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from snapshots import snapshot

from memkv.compress import FP8, INT4, INT8, codec, decompress
from memkv.errors import BudgetExceeded, ConfigError, DamagedBlob, InvalidInput
from memkv.snapshot import LayerState, same_tensors

DTYPES = [torch.bfloat16, torch.float16, torch.float32]
QUANTIZERS = ["fp8", "int8", "int4"]


@given(
    tokens=st.integers(1, 150),
    channels=st.integers(1, 140),
    scale=st.sampled_from([1e-6, 1e-3, 1.0, 300.0]),
    offset=st.sampled_from([0.0, 5.0, -100.0]),
    dtype=st.sampled_from(DTYPES),
    quantizer=st.sampled_from(
        [INT4(), INT8(), INT4(group=16, sinks=0, residual=0), INT8(group=7, sinks=1, residual=5)]
    ),
    axis=st.sampled_from(["tokens", "channels"]),
)
@settings(max_examples=150, deadline=None)
def test_no_number_moves_by_more_than_half_a_step(tokens, channels, scale, offset, dtype, quantizer, axis):
    generator = torch.Generator().manual_seed(tokens * 1000 + channels)
    tensor = (torch.randn(1, 2, tokens, channels, generator=generator) * scale + offset).to(dtype)
    tensor[..., 0] = offset  # a constant channel
    encoded = quantizer.encode(tensor, axis)
    if encoded is None:
        assert tokens <= quantizer.sinks + quantizer.residual
        return
    parts, meta = encoded
    back = quantizer.decode(parts, meta)
    assert back.dtype == dtype and back.shape == tensor.shape
    start, end = parts["head"].shape[2], tokens - parts["tail"].shape[2]
    assert torch.equal(back[:, :, end:], tensor[:, :, end:]) and torch.equal(back[:, :, :start], tensor[:, :, :start])
    # Half of the largest step of the head, the rounding to the tensor's own dtype, and that of the sum in float32.
    step = parts["steps"].float().flatten(1).amax(1)[:, None, None]
    slack = tensor.float().abs() * torch.finfo(dtype).eps + 1e-6 * (step[None] + tensor.float().abs().amax())
    assert ((back.float() - tensor.float()).abs() <= step[None] / 2 + slack)[:, :, start:end].all()
    assert torch.equal(back[..., 0], tensor[..., 0]) or axis == "channels"


@given(st.integers(1, 50), st.integers(1, 70), st.sampled_from(DTYPES), st.sampled_from([1e-3, 1.0, 900.0]))
@settings(max_examples=50, deadline=None)
def test_fp8_rounds_to_three_bits_of_mantissa(tokens, channels, dtype, scale):
    tensor = (torch.randn(1, 2, tokens, channels, generator=torch.Generator().manual_seed(tokens)) * scale).to(dtype)
    parts, meta = FP8().encode(tensor, "tokens")
    back = FP8.decode(parts, meta)
    error = (back.float() - tensor.float()).abs()
    assert (error <= tensor.float().abs() / 16 + parts["scale"].float() * 2**-10).all()
    again, _ = FP8().encode(back, "tokens")
    assert torch.equal(FP8.decode(again, meta), back)


@pytest.mark.parametrize("name", QUANTIZERS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_quantizing_is_deterministic_and_undone_by_meta(name, dtype):
    original = snapshot(dtype=dtype)
    one, two = codec(name).compress(original), codec(name).compress(original)
    assert same_tensors(one, two) and one.codecs == (name,)
    back = decompress(one)
    for before, after in zip(original.layers, back.layers, strict=True):
        assert {n: (t.shape, t.dtype) for n, t in before.tensors.items()} == {
            n: (t.shape, t.dtype) for n, t in after.tensors.items()
        }
        assert after.meta == before.meta and after.seen == before.seen
    assert same_tensors(decompress(back), back)


def test_int4_is_below_30_percent_of_bf16_at_the_embedded_models_shapes():
    full = snapshot(layers=30, heads=3, tokens=2048, channels=64)
    assert codec("int4").compress(full).payload <= 0.30 * full.payload


@pytest.mark.parametrize("name", QUANTIZERS)
def test_what_is_not_attention_travels_whole(name):
    original = snapshot(kinds=("full", "sliding", "linear", "hybrid"))
    result = codec(name).compress(original)
    assert result.layers[1] == original.layers[1] and result.layers[2] == original.layers[2]
    assert torch.equal(result.layers[3].tensors["recurrent.0"], original.layers[3].tensors["recurrent.0"])


def test_the_tail_does_not_hold_on_to_the_whole_cache():
    result = codec("int4").compress(snapshot(heads=1, tokens=512))
    tail = result.layers[0].tensors["keys.tail"]
    assert tail.untyped_storage().nbytes() == tail.numel() * tail.element_size()


@pytest.mark.parametrize("tokens", [0, 1, 4, 32, 36])
def test_fewer_tokens_than_the_window_stay_in_full_precision(tokens):
    original = snapshot(tokens=tokens)
    assert same_tensors(decompress(codec("int4").compress(original)), original)


@pytest.mark.parametrize("name", QUANTIZERS)
@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
def test_inf_and_nan_are_named(name, bad):
    damaged = snapshot()
    damaged.layers[1].tensors["keys"][0, 0, 3, 1] = bad
    with pytest.raises(InvalidInput, match="Layer 1.*inf or NaN"):
        codec(name).compress(damaged)


def test_other_dtypes_are_refused():
    with pytest.raises(InvalidInput, match="float64"):
        codec("int8").compress(snapshot(dtype=torch.float64))


@pytest.mark.parametrize("name", QUANTIZERS)
def test_quantizing_twice_is_refused(name):
    with pytest.raises(InvalidInput, match="decompress"):
        codec(name).compress(codec("int4").compress(snapshot()))


@pytest.mark.parametrize("name", ["identity", *QUANTIZERS])
def test_the_smallest_budget_works_and_one_byte_less_does_not(name):
    original = snapshot()
    with pytest.raises(BudgetExceeded) as refused:
        codec(name).compress(original, 1)
    smallest = refused.value.smallest
    assert codec(name).compress(original, smallest).payload <= smallest
    with pytest.raises(BudgetExceeded):
        codec(name).compress(original, smallest - 1)


@pytest.mark.parametrize("name", QUANTIZERS)
def test_damaged_parts_are_named(name):
    good = codec(name).compress(snapshot())
    layer = good.layers[0]
    part = "keys.codes"
    for tensors in (
        {k: v for k, v in layer.tensors.items() if k != part},
        {**layer.tensors, part: layer.tensors[part][:, :1]},
        {**layer.tensors, part: layer.tensors[part].view(torch.int8)},
    ):
        bad = good.replace_layers({0: LayerState(layer.kind, layer.seen, tensors, layer.meta)}, "test")
        with pytest.raises(DamagedBlob, match="quantized keys"):
            decompress(bad)
    described = layer.meta["quantized"]["keys"]
    for wrong in ({"shape": [1, 2, 3]}, {"shape": [1, 2, -5, 16]}, {"dtype": "int64"}, {"group": 0}, {"axis": 3}, "x"):
        keys = wrong if wrong == "x" else {**described, **wrong}
        if name == "fp8" and keys != "x" and ("group" in wrong or "axis" in wrong):
            continue
        bad = LayerState(layer.kind, layer.seen, layer.tensors, {"quantized": {"keys": keys}})
        with pytest.raises(DamagedBlob, match="quantized keys"):
            decompress(good.replace_layers({0: bad}, "test"))
    meta = {"quantized": {"keys": {"codec": "int3"}}}
    with pytest.raises(DamagedBlob, match="int3"):
        decompress(good.replace_layers({0: LayerState(layer.kind, layer.seen, layer.tensors, meta)}, "test"))


def test_an_unknown_codec_names_the_known_ones():
    with pytest.raises(ConfigError, match="int3.*identity, fp8, int8, int4"):
        codec("int3")
