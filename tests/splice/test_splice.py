"""Segments that were read apart, joined into one cache, on every architecture that memkv names."""

from __future__ import annotations

import pytest
from architectures import NAMED, OTHERS
from tiny_models import tiny

from memkv.errors import DamagedBlob, FingerprintMismatch, InvalidInput, UnsupportedModel
from memkv.model import HybridModel
from memkv.snapshot import same_tensors
from memkv.snapshot_file import from_buffer, to_buffers
from memkv.splice import Splicer
from memkv.splice.segment import unpacked

AS_TEXT = {"gpt2": "cannot be moved", "recurrent_gemma": "keeps in its modules"}
SPLICED = [name for name in (*NAMED, *OTHERS) if name not in AS_TEXT]
LEAD = [1, 7, 9, 4]
PARTS = [[11 + 3 * i % 97 for i in range(14)], [90 - 7 * i % 83 for i in range(11)]]
CLOSE = 2e-5


def model_of(name: str) -> HybridModel:
    return HybridModel(tiny(name), name=name)


def plain(model: HybridModel, tokens):
    live = model.new_cache()
    model.extend(live, tokens)
    return live


def closeness(one, other) -> float:
    return float((one - other).abs().max() / other.abs().max())


@pytest.mark.parametrize("name", SPLICED)
def test_with_all_tokens_read_again_splicing_is_reading(name):
    model = model_of(name)
    splicer = Splicer(model)
    segments = [splicer.encode(LEAD, part, repair=len(part)) for part in PARTS]
    joined = splicer.splice(plain(model, LEAD), segments)
    read = plain(model, [*LEAD, *PARTS[0], *PARTS[1]])
    assert closeness(model.extend(joined, [5]), model.extend(read, [5])) < CLOSE


@pytest.mark.parametrize("name", SPLICED)
def test_the_first_layer_is_as_if_it_had_been_read(name):
    """Its inputs do not depend on what came before, but for a convolution's width, which is read again."""
    model = model_of(name)
    splicer = Splicer(model)
    segments = [splicer.encode(LEAD, part, repair=4) for part in PARTS]
    joined = model.capture(splicer.splice(plain(model, LEAD), segments)).layers[0]
    read = model.capture(plain(model, [*LEAD, *PARTS[0], *PARTS[1]])).layers[0]
    assert joined.tensors.keys() == read.tensors.keys()
    for slot, tensor in read.tensors.items():
        assert joined.tensors[slot].shape == tensor.shape, slot
        assert closeness(joined.tensors[slot].float(), tensor.float()) < 1e-3, slot


@pytest.mark.parametrize("name", AS_TEXT)
def test_what_cannot_be_spliced_says_why(name):
    with pytest.raises(UnsupportedModel, match=f"{AS_TEXT[name]}.*as text"):
        Splicer(model_of(name))


@pytest.mark.parametrize("name", ["llama", "bamba", "qwen3_next"])
def test_segments_may_come_in_any_order_and_leave_the_cache_before_as_it_was(name):
    model = model_of(name)
    splicer = Splicer(model)
    one, other = (splicer.encode(LEAD, part, repair=4) for part in PARTS)
    lead = plain(model, LEAD)
    before = model.capture(lead)
    for order in ([one, other], [other, one]):
        joined = splicer.splice(lead, order)
        assert joined.token_ids == [*LEAD, *(token for each in order for token in each.snapshot.token_ids)]
        read = plain(model, joined.token_ids)
        same = model.capture(joined).layers[0].tensors
        assert all(closeness(same[k], t) < 1e-3 for k, t in model.capture(read).layers[0].tensors.items())
    assert same_tensors(before, model.capture(lead))


def test_scalar_decay_is_stored_as_one_number_a_head():
    segment = Splicer(model_of("mamba2")).encode(LEAD, PARTS[0])
    assert {tuple(each.shape) for each in segment.transitions.values()} == {(1, 4, 1, 1)}
    assert segment.payload > segment.snapshot.payload


def test_a_stretch_shorter_than_a_convolution_keeps_what_the_one_before_left_in_it():
    model = model_of("lfm2")
    splicer = Splicer(model)
    joined = splicer.splice(plain(model, LEAD), [splicer.encode(LEAD, PARTS[0]), splicer.encode(LEAD, [33])])
    read = plain(model, [*LEAD, *PARTS[0], 33])
    assert closeness(
        model.capture(joined).layers[0].tensors["conv.0"], model.capture(read).layers[0].tensors["conv.0"]
    ) < CLOSE  # fmt: skip


def test_what_cannot_be_put_together_is_named():
    model = model_of("llama")
    splicer = Splicer(model)
    segment = splicer.encode(LEAD, PARTS[0])
    with pytest.raises(InvalidInput, match="Give a lead"):
        splicer.encode([], PARTS[0])
    with pytest.raises(InvalidInput, match="no more repair"):
        splicer.encode(LEAD, PARTS[0], repair=99)
    with pytest.raises(InvalidInput, match="nothing to put the segments behind"):
        splicer.splice(model.new_cache(), [segment])
    with pytest.raises(InvalidInput, match=r"more than the 512 positions.*fewer segments"):
        splicer.splice(plain(model, LEAD), [segment] * 40)
    other = HybridModel(tiny("llama", head_dim=16), name="other")
    with pytest.raises(FingerprintMismatch, match="from its text"):
        Splicer(other).splice(plain(other, LEAD), [segment])


@pytest.mark.parametrize("name", ["llama", "falcon_h1", "gemma3"])
def test_a_segment_comes_back_from_a_file_as_it_was(name):
    model = model_of(name)
    splicer = Splicer(model)
    segment = splicer.encode(LEAD, PARTS[0], repair=3)
    file = b"".join(to_buffers(segment.packed()))
    again = unpacked(from_buffer(memoryview(file)))
    assert (again.first, again.repair, len(again), again.payload) == (4, 3, len(PARTS[0]), segment.payload)
    one, other = (model.capture(splicer.splice(plain(model, LEAD), [each])) for each in (segment, again))
    assert same_tensors(one, other)


def test_a_snapshot_that_is_no_segment_is_refused():
    model = model_of("llama")
    with pytest.raises(DamagedBlob, match="no segment"):
        unpacked(model.capture(plain(model, LEAD)))
