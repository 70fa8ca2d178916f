from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys

import pytest
import torch

from memkv.cache_size import profile
from memkv.errors import ModelUnavailable, UnsupportedModel
from memkv.reference.claims import Check
from memkv.reference.measured import (
    CODECS,
    CONFIGS,
    Measured,
    _codec_bytes,
    measure_config,
    names,
    quantized_law,
    reference_config,
)
from memkv.reference.table import Table, as_data

K128 = 131_072


# In a process of its own: what other tests' processes took is not this table's.
BUILD = """
import pickle, resource, sys
from memkv.reference.table import build
if __name__ == "__main__":
    table = build(workers=2)
    workers = resource.getrusage(resource.RUSAGE_CHILDREN)
    with open(sys.argv[1], "wb") as file:
        pickle.dump((table, workers.ru_maxrss), file)
"""


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    folder = tmp_path_factory.mktemp("table")
    script, result = folder / "build_table.py", folder / "table.pickle"
    script.write_text(BUILD)
    subprocess.run([sys.executable, script, result], check=True, env={**os.environ, "MEMKV_HOME": str(folder / "home")})
    with result.open("rb") as file:
        built, largest_worker_kib = pickle.load(file)
    assert largest_worker_kib < 700_000  # with the other and the parent less than 2 GB
    assert isinstance(built, Table)
    return built


def model(table: Table, name: str) -> Measured:
    return next(model for model in table.models if model.name == name)


def verdict(table: Table, system: str, claim: str) -> str:
    return next(check.verdict for check in table.checks if check.system == system and claim in check.claim)


# Each row of FIELD.md, section 1, by words of its claims.
FIELD_ROWS = {
    "GPT-2 XL": ["300 KiB a token", "1.2 GB"],
    "Llama 3 8B": ["128 KiB a token"],
    "Llama 3 70B": ["320 KB", "40 GB at 128K", "FP8 about 150 KB", "INT4 about 80 KB"],
    "DeepSeek-V2": ["1/16", "18 KB"],
    "DeepSeek-V3": ["68.6 KiB"],
    "Gemma 3 27B": ["5 local layers to 1 global", "window 1,024"],
    "Mamba, Mamba-2": ["no KV, a fixed state"],
    "Mamba": ["16 x hidden"],
    "Mamba-2": ["64 KB in total"],
    "RWKV": ["one state vector a layer", "fixed"],
    "Jamba 52B": ["37% Mamba", "60% less KV", "256K contexts"],
    "Griffin (RecurrentGemma)": ["2x less memory"],
    "headline": ["300 KB", "69 KB a token", "69 KB x 128K = 9 GB", "24 GB card"],
    "H2O": ["2-5x"],
    "SnapKV": ["2-5x"],
    "FP8 cache": ["half"],
    "INT4 cache": ["a quarter"],
    "FP8 and INT4 caches": ["drift"],
}


@pytest.mark.slow
def test_every_row_of_the_field_has_a_verdict(table: Table) -> None:
    for system, claims in FIELD_ROWS.items():
        for claim in claims:
            text = verdict(table, system, claim)
            assert text.startswith(("holds", "off by", "not reproducible because")), (system, claim, text)
    assert {check.system for check in table.checks} == set(FIELD_ROWS)
    assert all(check.why.endswith(".") for check in table.checks)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "per_token", "fixed"),
    [
        ("gpt2-xl", 307_200, 0),
        ("gpt2", 36_864, 0),
        ("llama-3-8b", 131_072, 0),
        ("llama-3-70b", 327_680, 0),
        ("deepseek-v3", 70_272, 0),
        ("jamba-52b", 16_384, 16_515_072),
        ("qwen3-next-80b-a3b", 24_576, 77_856_768),
    ],
)
def test_anchors(table: Table, name: str, per_token: int, fixed: int) -> None:
    law = model(table, name).profile
    assert (law.per_token, law.fixed) == (per_token, fixed)


@pytest.mark.slow
def test_every_law_is_exact(table: Table) -> None:
    assert [(one.name, one.profile.note) for one in table.models if not one.profile.exact] == []


@pytest.mark.slow
def test_configurations_have_the_published_number_of_parameters(table: Table) -> None:
    for one in table.models:
        published = json.loads((CONFIGS / f"{one.name}.json").read_text())["_billion_parameters"] * 1e9
        assert one.weights / 2 == pytest.approx(published, rel=0.01), one.name


@pytest.mark.slow
def test_verdicts_that_surprise(table: Table) -> None:
    assert verdict(table, "Jamba 52B", "37% Mamba") == "off by 2.36x"
    assert verdict(table, "DeepSeek-V2", "18 KB") == "off by 3.75x"
    assert verdict(table, "RWKV", "one state vector") == "off by 5x"
    assert verdict(table, "Mamba-2", "64 KB in total") == "off by 4,176x"
    assert verdict(table, "INT4 cache", "a quarter").startswith("off by 1.1")
    assert verdict(table, "FP8 cache", "half") == "holds"
    assert verdict(table, "headline", "with the model").startswith("off by")
    assert verdict(table, "headline", "the cache").startswith("holds")


@pytest.mark.slow
def test_windows_and_held_state(table: Table) -> None:
    assert model(table, "gemma-3-27b").profile.windows == {1023: 52 * 2 * 16 * 128 * 2}
    griffin = model(table, "recurrentgemma-2b").profile
    assert griffin.per_token == 0
    assert griffin.fixed == 18 * (2560 * 4 + 2560 * 3 * 2)  # fp32 state and three bf16 inputs, in the modules
    assert griffin.windows == {2047: 8 * 2 * 256 * 2}


@pytest.mark.slow
def test_quantized_columns_count_scales_and_leave_state_whole(table: Table) -> None:
    llama = model(table, "llama-3-8b")
    assert 0.25 < llama.quantized_at("int4", K128) / llama.profile.at(K128) < 0.30
    mamba = model(table, "mamba-2.8b")
    assert mamba.quantized_at("int4", K128) == mamba.profile.fixed
    gemma = model(table, "gemma-3-27b")
    assert gemma.quantized_at("fp8", K128) > gemma.profile.by_kind_at(K128)["window"] + 0.5 * 81_920 * K128


@pytest.mark.parametrize("codec", list(CODECS))
@pytest.mark.parametrize("shape", [("attention", 2, 64, 64), ("latent", 1, 512, 64), ("attention", 1, 224, 224)])
def test_codec_law_meets_the_codec_at_a_length_it_was_not_fitted_to(
    codec: str, shape: tuple[str, int, int, int]
) -> None:
    law = quantized_law(CODECS[codec], {shape: 3}, torch.bfloat16)
    assert law.at(4096) == 3 * _codec_bytes(CODECS[codec], shape, 4096, torch.bfloat16)


@pytest.mark.slow
def test_as_data_is_json_with_bytes(table: Table) -> None:
    data = json.loads(json.dumps(as_data(table, (4096,))))
    assert len(data["models"]) == len(names()) == 21
    llama = next(row for row in data["models"] if row["name"] == "llama-3-8b")
    assert llama["bytes_at"] == {"4096": 4096 * 131_072}
    assert llama["source"]


def test_claim_off_by_more_than_its_tolerance_does_not_hold() -> None:
    def check(claimed: float, measured: float | None, unit: str = "things", at_most: bool = False) -> str:
        return Check("s", "c", claimed, unit, measured, "It was not run.", at_most=at_most).verdict

    assert check(100, 105) == check(105, 100) == "holds"
    assert check(100, 106) == "off by 1.06x"
    assert check(106, 100) == "off by 1.06x"
    assert check(100, 10_000) == "off by 100x"
    assert check(0, 0) == "holds"
    assert check(0, 5) == "wrong"
    assert check(24, 20 * 10**9, "GB", at_most=True) == "holds"
    assert check(24, 48 * 10**9, "GB", at_most=True).startswith("off by 1.8")
    assert check(1, None) == "not reproducible because it was not run."
    assert check(100, 100 * 1024, "KB") == check(100, 100 * 1000, "KB") == "holds"


def test_a_wrong_configuration_is_caught_by_its_claim() -> None:
    config, _ = reference_config("llama-3-8b", num_key_value_heads=32)
    assert profile(config).per_token == 4 * 131_072


def test_every_configuration_names_its_source() -> None:
    for name in names():
        fields = json.loads((CONFIGS / f"{name}.json").read_text())
        assert len(fields["_source"]) > 20 and fields["_confirmed"], name


def test_unknown_reference_name_lists_the_known_ones() -> None:
    with pytest.raises(ModelUnavailable, match="llama-3-8b"):
        reference_config("llama-9")


def test_configuration_that_is_no_causal_lm_is_refused() -> None:
    from transformers import AutoConfig

    with pytest.raises(UnsupportedModel, match="t5"):
        measure_config("t5", AutoConfig.for_model("t5"))
