from __future__ import annotations

import dataclasses
import json

import pytest
import safetensors.torch
import torch
from architectures import NAMED
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_chat import random_tokens
from tiny_models import tiny

from memkv.errors import DamagedBlob, MemkvError
from memkv.model import HybridModel
from memkv.snapshot import CacheSnapshot, same_tensors
from memkv.snapshot_file import from_buffer, to_buffers


def snapshot_of(name: str) -> tuple[HybridModel, CacheSnapshot]:
    model = HybridModel(tiny(name), name=name)
    live = model.new_cache()
    model.extend(live, random_tokens(20))
    return model, model.capture(live)


def as_bytes(snapshot: CacheSnapshot) -> bytearray:
    return bytearray(b"".join(to_buffers(snapshot)))


@pytest.fixture(scope="module")
def bamba() -> tuple[HybridModel, CacheSnapshot, bytearray]:
    model, snapshot = snapshot_of("bamba")
    return model, snapshot, as_bytes(snapshot)


def edited(data: bytearray, edit) -> memoryview:
    """The file with its JSON header edited as text."""
    length = int.from_bytes(data[:8], "little")
    text = edit(bytes(data[8 : 8 + length]).decode()).encode()
    return memoryview(bytearray(len(text).to_bytes(8, "little") + text + data[8 + length :]))


@pytest.mark.parametrize("name", NAMED)
def test_every_architecture_comes_back_the_same(name: str) -> None:
    _, snapshot = snapshot_of(name)
    back = from_buffer(memoryview(as_bytes(snapshot)))
    assert same_tensors(back, snapshot)
    assert (back.token_ids, back.fingerprint, back.codecs) == (
        snapshot.token_ids, snapshot.fingerprint, snapshot.codecs,
    )  # fmt: skip
    assert [(layer.kind, layer.seen, layer.meta) for layer in back.layers] == [
        (layer.kind, layer.seen, layer.meta) for layer in snapshot.layers
    ]


def test_any_safetensors_reader_opens_the_file(bamba, tmp_path) -> None:
    _, snapshot, data = bamba
    path = tmp_path / "x.safetensors"
    path.write_bytes(data)
    read = safetensors.torch.load_file(path)
    assert torch.equal(read.pop("token_ids"), torch.tensor(snapshot.token_ids, dtype=torch.int32))
    assert {name: tensor.tolist() for name, tensor in read.items()} == {
        name: tensor.tolist() for name, tensor in snapshot.named_tensors()
    }


def test_every_tensor_has_storage_of_its_own(bamba) -> None:
    snapshot = from_buffer(memoryview(bamba[2]))
    held = [tensor.untyped_storage().nbytes() for _, tensor in snapshot.named_tensors()]
    assert sum(held) == snapshot.payload


@settings(max_examples=150, deadline=None)
@given(position=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_is_damage_or_other_numbers_never_a_crash(bamba, position: float, bit: int) -> None:
    model, _, data = bamba
    hurt = bytearray(data)
    hurt[int(position * len(hurt))] ^= 1 << bit
    try:
        live = model.restore(from_buffer(memoryview(hurt)))
    except MemkvError:
        return
    before = len(live)
    assert model.extend(live, [7]).shape == (128,)
    assert len(live) == before + 1


@settings(max_examples=60, deadline=None)
@given(kept=st.floats(0, 1, exclude_max=True))
def test_a_truncated_file_is_damaged(bamba, kept: float) -> None:
    with pytest.raises(DamagedBlob):
        from_buffer(memoryview(bamba[2][: int(kept * len(bamba[2]))]))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_noise_is_damaged(noise: bytes) -> None:
    with pytest.raises(DamagedBlob):
        from_buffer(memoryview(bytearray(noise)))


HOSTILE = {
    "a header longer than the file": lambda data: memoryview(bytearray((2**40).to_bytes(8, "little") + data[8:])),
    "bytes after the end": lambda data: memoryview(data + b"more"),
    "a key twice": lambda data: edited(data, lambda text: text.replace('{"__meta', '{"token_ids":{},"__meta', 1)),
    "a negative shape": lambda data: edited(data, lambda text: text.replace('"shape":[20]', '"shape":[-20]')),
    "a shape that is no number": lambda data: edited(data, lambda text: text.replace('"shape":[20]', '"shape":["x"]')),
    "a shape of nothing times everything": lambda data: edited(
        data, lambda text: text.replace('"shape":[20]', '"shape":[0,4611686018427387904,4611686018427387904]')
    ),
    "a huge shape": lambda data: edited(data, lambda text: text.replace('"shape":[20]', '"shape":[4000000000]')),
    "an unknown dtype": lambda data: edited(data, lambda text: text.replace('"F32"', '"F33"', 1)),
    "no metadata": lambda data: edited(data, lambda text: text.replace('"__metadata__"', '"__metabata__"')),
    "another format": lambda data: edited(data, lambda text: text.replace('\\"format\\": 1', '\\"format\\": 2')),
    "a layer too many": lambda data: edited(data, lambda text: text.replace('\\"layers\\": [', '\\"layers\\": [{}, ')),
    "deep nesting": lambda data: memoryview(bytearray((20_000).to_bytes(8, "little") + b"[" * 20_000)),
    "a tensor of no layer": lambda data: edited(data, lambda text: text.replace("layers.1.keys", "layers.x.keys")),
    "a name of another kind": lambda data: edited(data, lambda text: text.replace("layers.1.keys", "layerz.1.keys")),
}


@pytest.mark.parametrize("attack", HOSTILE)
def test_a_hostile_file_is_damaged(bamba, attack: str) -> None:
    changed = HOSTILE[attack](bamba[2])
    assert bytes(changed) != bytes(bamba[2])
    with pytest.raises(DamagedBlob):
        from_buffer(changed)


def test_a_file_of_another_shape_does_not_get_into_a_model(bamba) -> None:
    model, snapshot, data = bamba
    length = int.from_bytes(data[:8], "little")
    header = json.loads(bytes(data[8 : 8 + length]))
    shape = header["layers.1.keys"]["shape"]
    swapped = json.dumps([shape[0], shape[2], shape[1], shape[3]], separators=(",", ":"))
    plain = json.dumps(shape, separators=(",", ":"))
    with pytest.raises(DamagedBlob, match="layer 1"):
        model.restore(from_buffer(edited(data, lambda text: text.replace(plain, swapped))))


def test_state_that_is_missing_or_of_another_shape_does_not_get_into_a_model(bamba) -> None:
    model, snapshot, data = bamba
    with pytest.raises(DamagedBlob, match="which of its states"):
        model.restore(from_buffer(edited(data, lambda text: text.replace("has_previous_state", "had_previous_state"))))
    keeps_in_modules, held = snapshot_of("recurrent_gemma")
    for wrong in ({}, {name: tensor[:, :1] for name, tensor in held.held.items()}):
        with pytest.raises(DamagedBlob, match="in its modules"):
            keeps_in_modules.restore(dataclasses.replace(held, held=wrong))


def test_layers_of_different_lengths_do_not_get_into_a_model(bamba) -> None:
    model, snapshot, _ = bamba
    shorter = snapshot.layers[1]
    cut = {name: tensor[:, :, :10] for name, tensor in shorter.tensors.items()}
    odd = snapshot.replace_layers({1: type(shorter)(shorter.kind, shorter.seen, cut, shorter.meta)}, "test")
    with pytest.raises(DamagedBlob, match="different numbers"):
        model.restore(odd)
