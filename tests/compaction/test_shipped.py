"""The policy that comes with memkv: found offline by name, used by default, and the rules stay."""

import pytest
from safetensors import safe_open

from memkv.compaction import default_strategy, strategy
from memkv.compaction.declare import FILE, load_calibration
from memkv.compaction.shipped import SHIPPED
from memkv.model import HybridModel
from memkv.pretrained import EMBEDDED, HYBRID
from memkv.session import Session
from memkv.store import MemoryStore

RULES = ("Headlines must have at most nine words.", "Never name a minor in a crime report.")
CHANGED = "Headlines must have at most seven words."
TALK = (
    "By the way, the ferry was late again and we ate two rye pancakes at the lighthouse.",
    "My sister has found a flat near the harbour, with a view of the cranes.",
)


@pytest.mark.parametrize("name", [EMBEDDED, HYBRID])
def test_it_is_small_in_bf16_and_has_its_curve_and_its_card(name):
    weights = SHIPPED / name / "adapter_model.safetensors"
    assert weights.stat().st_size < 20_000_000
    with safe_open(weights, "pt") as file:
        assert {file.get_slice(each).get_dtype() for each in file.keys()} == {"BF16"}  # noqa: SIM118
    assert (SHIPPED / name / FILE).is_file() and load_calibration(SHIPPED / name).slope > 0
    card = (SHIPPED / name / "README.md").read_text()
    for part in ("base_model", "license", "Data", "Recipe", "Seed", "Results", "Limits"):
        assert part in card


@pytest.mark.slow
@pytest.mark.keeps_home
@pytest.mark.parametrize("name", [EMBEDDED, HYBRID])
def test_with_it_a_model_keeps_rules_and_drops_the_talk(name, tmp_path):
    model = HybridModel.from_pretrained(name)
    assert default_strategy(model) == strategy("pinned+trained").name == "pinned+trained"
    with MemoryStore.open(tmp_path / "store") as store:
        session = Session(model, store.tenant("ada"), "desk", memories=False)
        for text in (f"Two rules for the desk. {RULES[0]} {RULES[1]}", *TALK):
            session.turn(text, max_new_tokens=8)
        before = model.fingerprint
        session.compact(budget=model.profile.at(110))
        said = " ".join(item.text for item in session.context)
        assert all(rule in said for rule in RULES) and "pancakes" not in said
        assert model.fingerprint == before, "the adapter is off again"
        session.turn(f"A change to our rules: {CHANGED}", max_new_tokens=8)
        session.turn(TALK[1], max_new_tokens=8)
        session.compact(budget=model.profile.at(110))
        said = " ".join(item.text for item in session.context)
        assert CHANGED in said and RULES[1] in said
