"""The trained policy in use: what it writes becomes notes, items, a ledger and bytes. Its words come from a script."""

from __future__ import annotations

import copy
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny_chat import tiny_chat
from tiny_models import tiny

import memkv.compaction.trained as trained
from memkv import HybridModel, MemoryStore, Session
from memkv.compaction import Context, Item, default_strategy
from memkv.compaction.declare import Calibration, Evidence, load_calibration
from memkv.compaction.origin import Origin, made_for, write_origin
from memkv.compaction.shipped import SHIPPED, find_shipped, shipped_for
from memkv.compaction.trained import TrainedSummary
from memkv.errors import ConfigError, ModelUnavailable
from memkv.fingerprint import weights_hash
from memkv.live import LiveCache

RULE = "Notes are kept in the red folder."
CHANGED = "Notes are kept in the blue folder."
OTHER = "Headlines have at most nine words."


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained adapter for the tiny model."""
    folder = tmp_path_factory.mktemp("policy") / "tiny-policy"
    get_peft_model(tiny("llama"), LoraConfig(target_modules="all-linear")).save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="module")
def model() -> HybridModel:
    return tiny_chat("llama")


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, str]], None]:
    """Lets the policy answer by what it finds in the new messages."""

    def use(answers: dict[str, str]) -> None:
        def write(model: HybridModel, policy: trained.Policy, notes, said, room) -> tuple[str, dict[str, float]]:
            assert policy.name.startswith("tiny-policy") and model.has_adapter(policy.name)
            new = " ".join(said)
            answer = next((answer for said, answer in answers.items() if said in new), "No change.")
            return answer, {}

        monkeypatch.setattr(trained, "write", write)

    return use


@pytest.mark.parametrize("reads", [True, False])
def test_the_adapter_is_on_where_it_was_in_training(model, adapter, tmp_path, monkeypatch, reads):
    folder = tmp_path / f"tiny-policy-{reads}"
    shutil.copytree(adapter, folder)
    write_origin(folder, Origin(model.name, model.fingerprint.weights, model.fingerprint.dtype, reads))
    policy, extend = trained.loaded(model, folder), model.extend
    read: list[tuple[int, str | None]] = []

    def spy(live: LiveCache, tokens: Sequence[int]) -> torch.Tensor:
        read.append((len(tokens), model.adapter))
        return extend(live, tokens)

    monkeypatch.setattr(model, "extend", spy)
    trained.write(model, policy, (), [RULE], 99)
    assert read[0][0] > 30 and read[0][1] == (policy.name if reads else None), "the prompt, but for its last token"
    assert read[1] == (1, policy.name) and {name for _, name in read[1:]} == {policy.name}, "then the answer"
    assert model.adapter is None, "and off again"


def messages(*texts: str, first: int = 1) -> tuple[Item, ...]:
    return tuple(
        Item(first + i, "message", "user" if i % 2 == 0 else "assistant", text) for i, text in enumerate(texts)
    )


def compact(model: HybridModel, adapter: Path, items: tuple[Item, ...], tokens: int, **options: bool):
    aim = model.profile.at(tokens)
    context = Context(model, items, model.new_cache(), max(item.n for item in items) + 1)
    return TrainedSummary(adapter, **options).compact(context, aim, model.profile.at(4000))


def notes_of(items) -> list[str]:
    return [item.text for item in items if item.kind in ("summary", "rule")]


def test_notes_are_items_that_know_what_they_were_made_from(model, adapter, script):
    script({"red folder": f"+ {RULE}"})
    done = compact(model, adapter, messages(f"By the way: {RULE}", "Noted.", "x" * 900, "y" * 900), 400)
    note = next(item for item in done.items if item.kind == "summary")
    assert (note.n, note.text, note.role) == (5, f"- {RULE}", "")
    assert 1 in note.sources
    assert model.adapter is None, "and off again"


def test_a_second_compaction_keeps_a_note_as_the_same_item(model, adapter, script):
    script({"red folder": f"+ {RULE}", "nine words": f"+ {OTHER}"})
    first = compact(model, adapter, messages(RULE, "Noted.", "x" * 900, "y" * 900), 400)
    more = messages(OTHER, "Noted.", "z" * 900, "w" * 900, first=10)
    second = compact(model, adapter, (*first.items, *more), 400)
    assert notes_of(second.items) == [f"- {RULE}", f"- {OTHER}"]
    assert second.items[0] == first.items[0]
    entry = next(e for e in second.ledger.entries if e.memory == first.items[0].n)
    assert (entry.status, entry.probability) == ("verbatim", 1.0)


def test_a_changed_note_is_a_new_item_made_from_the_message_that_changed_it(model, adapter, script):
    script({"red folder": f"+ {RULE}", "blue folder": f"A\n~ {CHANGED}"})
    first = compact(model, adapter, messages(RULE, "Noted.", "x" * 900, "y" * 900), 400)
    second = compact(model, adapter, (*first.items, *messages(CHANGED, "Noted.", first=10)), 400)
    note = next(item for item in second.items if item.kind == "summary")
    assert (note.text, note.sources) == (f"- {CHANGED}", (10,))
    assert [e.status for e in second.ledger.entries if e.memory == first.items[0].n] == ["dropped"]


def test_a_note_is_made_from_the_message_under_whose_letter_it_stands(model, adapter, script):
    script({"red folder": f"A\nB\n+ {RULE}\nC"})
    done = compact(model, adapter, messages("Hello.", "Good day.", RULE, "Noted.", "More.", "Yes."), 4000)
    assert [item.sources for item in done.items if item.kind == "summary"] == [(3,)]


def test_what_no_longer_holds_is_dropped_and_said_so(model, adapter, script):
    script({"red folder": f"+ {RULE}", "forget": f"- {RULE}"})
    first = compact(model, adapter, messages(RULE, "Noted.", "x" * 900, "y" * 900), 400)
    second = compact(model, adapter, (*first.items, *messages("Please forget that.", "Done.", first=10)), 400)
    assert notes_of(second.items) == []
    assert [e.status for e in second.ledger.entries if e.memory == first.items[0].n] == ["dropped"]


def test_messages_are_read_once(model, adapter, monkeypatch):
    read: list[str] = []

    def write(model: HybridModel, policy: trained.Policy, notes, said, room) -> tuple[str, dict[str, float]]:
        read.append(" ".join(said))
        return (f"+ {RULE}" if "red folder" in read[-1] else "No change."), {}

    monkeypatch.setattr(trained, "write", write)
    first = compact(model, adapter, messages("Hello.", "Good day.", RULE, "Noted."), 2000)
    compact(model, adapter, (*first.items, *messages("More.", "Yes.", first=10)), 2000)
    assert sum("red folder" in text for text in read) == 1


def test_notes_that_do_not_fit_are_left_to_the_store_and_declared(model, adapter, script):
    script({"red folder": f"+ {RULE}\n+ {OTHER} {'And so on. ' * 20}"})
    items = messages(f"{RULE} {OTHER} {'And so on. ' * 20}", "Noted.")
    chat = model.chat
    standing = chat.encode(chat.stable(chat.with_instructions("Summary of the earlier conversation:\n- ", [])))
    done = compact(model, adapter, items, len(standing) + len(RULE) + 12)
    assert notes_of(done.items) == [f"- {RULE}"]
    left = next(e for e in done.ledger.entries if e.memory == 1)
    whole = compact(model, adapter, items, 4000)
    assert left.probability < next(e for e in whole.ledger.entries if e.memory == 1).probability


def test_a_message_with_a_note_is_more_likely_kept_than_one_without(model, adapter, script):
    script({"red folder": f"+ {RULE}"})
    items = messages(f"{RULE} {'So much for folders. ' * 60}", "Noted.", f"{OTHER} {'Words. ' * 300}", "Good.")
    done = compact(model, adapter, items, 200)
    said = {entry.memory: entry.probability for entry in done.ledger.entries}
    assert said[1] > 0.5 > said[3]


def test_registry_sentences_compete_for_the_room(model, adapter, script):
    script({"red folder": f"+ {RULE}"})
    items = messages(f"{RULE} Drafts must go to Ada by Friday.", "Noted.", "x" * 900, "y" * 900)
    with_rules = compact(model, adapter, items, 800, pin_rules=True)
    assert notes_of(with_rules.items) == ["Drafts must go to Ada by Friday.", f"- {RULE}"]
    numbers = [item.n for item in with_rules.items if item.n > 4]
    assert sorted(numbers) == [5, 6], "numbered without a gap, as they are stored"


def test_what_a_later_message_changes_or_takes_back_leaves_the_registry(model, adapter, script):
    script({})
    rules = (
        "Drafts must go to Ada by Friday noon.",
        "Photographs need two captions at least.",
        "Never print in colour.",
    )
    first = compact(model, adapter, messages(" ".join(rules), "Noted.", "x" * 900, "y" * 900), 800, pin_rules=True)
    kept = [item for item in first.items if item.kind == "rule"]
    assert [item.text for item in kept] == list(rules) and all(item.sure == 0.5 for item in kept)
    by_hand = Item(20, "rule", "", "Drafts must have a title.")  # /pin
    new = "Drafts must go to Eve by Friday noon."
    said = messages(f"A change: {new}", "Noted.", "We drop the rule about captions of photographs.", "Good.", first=21)
    after = compact(model, adapter, (*kept, by_hand, *said), 4000, pin_rules=True)
    texts = [item.text for item in after.items if item.kind == "rule"]
    assert texts[:2] == [by_hand.text, rules[2]] and len(texts) == 3 and new in texts[2]
    gone = {entry.memory: entry.status for entry in after.ledger.entries if entry.memory in (kept[0].n, kept[1].n)}
    assert set(gone.values()) == {"dropped"}, "nothing that is over is brought back"


@pytest.mark.parametrize(
    "said",
    [
        "Did you forget that drafts must go to Ada?",
        "Don't forget that drafts must go to Ada.",
        "> Kim wrote: drafts must go to Eve instead, that rule is off.",
        "Never drop the rule that drafts must go to Ada.",
        "Thanks for the new draft! Drafts of poems must go to Eve by Friday.",
    ],
)
def test_who_reminds_asks_quotes_or_speaks_of_something_else_takes_nothing_back(model, adapter, script, said):
    script({})
    rule = Item(1, "rule", "", "Drafts must go to Ada by Friday noon.", (), 0.5)
    after = compact(model, adapter, (rule, *messages(said, "Noted.", first=2)), 4000, pin_rules=True)
    assert rule in after.items


def test_a_rule_that_is_said_again_after_it_was_taken_back_stands(model, adapter, script):
    script({})
    rule = "Drafts must go to Ada by Friday noon."
    said = (rule, "Noted.", "We drop the rule about drafts that go to Ada.", "Good.", rule, "Noted.")
    after = compact(model, adapter, messages(*said), 4000, pin_rules=True)
    assert [item.sources for item in after.items if item.kind == "rule"] == [(5,)]


def test_what_the_registry_found_makes_room_for_notes(model, adapter, script):
    script({"red folder": f"+ {RULE}"})
    talk = [Item(n, "rule", "", f"{n} ferries never came to Oslo without a crowd.", (), 0.5) for n in (1, 2, 3)]
    items = (*talk, *messages(RULE, "Noted.", "x" * 900, "y" * 900, first=4))
    after = compact(model, adapter, items, 200, pin_rules=True)
    assert f"- {RULE}" in notes_of(after.items) and len([item for item in after.items if item.kind == "rule"]) < 3


def test_a_folder_may_have_a_dot_in_its_name(model, adapter, tmp_path):
    shutil.copytree(adapter, tmp_path / "tiny-policy.5")
    assert "." not in str(trained.loaded(model, tmp_path / "tiny-policy.5").name)


def test_messages_that_were_read_at_the_last_compaction_are_not_read_again(model, adapter, script):
    script({"opens": "- the red folder"})
    notes = (Item(4, "summary", "", f"- {RULE}", (1,)), Item(5, "summary", "", f"- {OTHER}", (2,)))
    after = compact(model, adapter, (*notes, *messages("Memo opens.", "Noted.", first=2)), 4000)
    assert notes_of(after.items) == [f"- {RULE}", f"- {OTHER}"]


def test_a_prose_summary_of_before_becomes_notes(model, adapter, script):
    script({"nine words": f"+ {OTHER}"})
    old = Item(7, "summary", "", f"{RULE}\nMemo opens a reply.", (1, 2))
    done = compact(model, adapter, (old, *messages(OTHER, "Noted.", first=8)), 4000)
    assert notes_of(done.items) == [f"- {RULE}", "- Memo opens a reply.", f"- {OTHER}"]
    assert all(
        {1, 2, 7} <= set(item.sources) for item in done.items if item.text != f"- {OTHER}" and item.kind == "summary"
    )


def test_a_session_compacts_with_it_and_forgets_what_was_made_from_a_message(
    model, adapter, script, tmp_path, monkeypatch
):
    script({"red folder": f"+ {RULE}"})
    monkeypatch.setattr("memkv.session.session.strategy_by_name", lambda name: TrainedSummary(adapter))
    store = MemoryStore.open(tmp_path / "store")
    with Session(model, store.tenant("ada"), "s", context_budget=model.profile.at(3000)) as chat:
        chat.turn(RULE, max_new_tokens=4)
        chat.turn("x" * 600, max_new_tokens=4)
        chat.compact(budget=model.profile.at(400))
        assert f"- {RULE}" in [item.text for item in chat.context]
        chat.turn("Next.", max_new_tokens=4)
        chat.forget(1)
        assert not any(RULE in item.text for item in chat.context)


def test_a_missing_adapter_is_named(model, tmp_path):
    with pytest.raises(ModelUnavailable, match=re.escape(str(tmp_path / "nothing"))):
        compact(model, tmp_path / "nothing", messages(RULE, "Noted."), 4000)


def test_where_no_policy_was_shipped_it_says_how_to_get_one(model, monkeypatch, tmp_path):
    monkeypatch.setattr("memkv.compaction.shipped.SHIPPED", tmp_path / "none")
    with pytest.raises(ModelUnavailable, match="there is one for no model.*trained:FOLDER"):
        compact(model, SHIPPED, messages(RULE, "Noted."), 4000)


def test_the_policy_that_comes_with_memkv_is_the_default_where_it_fits(model, adapter, tmp_path, monkeypatch):
    shipped = tmp_path / "shipped"
    monkeypatch.setattr("memkv.compaction.shipped.SHIPPED", shipped)
    assert default_strategy(model) == "pinned+summary"
    shutil.copytree(adapter, shipped / model.name)
    write_origin(shipped / model.name, Origin(model.name, model.fingerprint.weights, model.fingerprint.dtype))
    assert default_strategy(model) == "pinned+trained"
    write_origin(shipped / model.name, Origin(model.name, "0123456789abcdef", model.fingerprint.dtype))
    assert default_strategy(model) == "pinned+summary"


def test_of_several_policies_the_one_for_these_weights_is_taken(model, adapter, tmp_path, monkeypatch):
    monkeypatch.setattr("memkv.compaction.shipped.SHIPPED", tmp_path)
    mine, running = model.fingerprint.weights, model.fingerprint.dtype
    for name, weights in (("a-model", "0123456789abcdef"), ("my-copy", mine), ("z-model", "fedcba9876543210")):
        shutil.copytree(adapter, tmp_path / name)
        write_origin(tmp_path / name, Origin(name, weights, running))
    assert find_shipped(model) == tmp_path / "my-copy"
    assert default_strategy(model) == "pinned+summary", "a copy by another name has it when asked for"
    write_origin(tmp_path / "my-copy", Origin("my-copy", "0123456789abcdef", running))
    assert find_shipped(model) is None
    with pytest.raises(ModelUnavailable, match="there is one for a-model, my-copy, z-model"):
        shipped_for(model)


def test_an_adapter_of_another_model_is_named(tmp_path):
    folder = tmp_path / "foreign"
    wide = tiny("llama", hidden_size=48)
    get_peft_model(wide, LoraConfig(target_modules="all-linear")).save_pretrained(str(folder))
    other = tiny_chat("llama")
    with pytest.raises(ModelUnavailable, match="foreign"):
        compact(other, folder, messages(RULE, "Noted."), 4000)
    assert other.adapter is None


def test_an_adapter_of_other_weights_is_named(model, adapter, tmp_path):
    folder = tmp_path / "moved"
    shutil.copytree(adapter, folder)
    write_origin(folder, Origin("another-model", "0123456789abcdef", model.fingerprint.dtype))
    with pytest.raises(
        ModelUnavailable, match="trained for another-model .weights 0123456789abcdef., this is tiny-llama"
    ):
        compact(model, folder, messages(RULE, "Noted."), 4000)
    (folder / "memkv.json").write_text("[]")
    with pytest.raises(ConfigError, match=r"memkv\.json"):
        compact(model, folder, messages(RULE, "Noted."), 4000)


def test_an_adapter_that_was_trained_in_another_precision_is_still_known():
    """Training may be in fp32, the record is of the weights in bf16."""
    wide = tiny_chat("llama")
    rounded = HybridModel(copy.deepcopy(wide.hf).to(torch.bfloat16), wide.tokenizer, name="tiny-llama")
    origin = Origin("tiny-llama", weights_hash(wide.hf, torch.bfloat16), "bfloat16")
    assert made_for(origin, wide) and made_for(origin, rounded)
    torch.manual_seed(5)
    other = tiny_chat("llama", initializer_range=0.5)
    assert not made_for(origin, other)


def test_calibration_comes_from_beside_the_adapter(tmp_path):
    assert load_calibration(tmp_path) == Calibration()
    (tmp_path / "ledger.json").write_text('{"slope": 0.0, "intercept": 0.0}')
    assert load_calibration(tmp_path).probability(Evidence((), 0.0, 0.0)) == 0.5
    (tmp_path / "ledger.json").write_text('{"curve": 1.0}')
    with pytest.raises(ConfigError, match="curve"):
        load_calibration(tmp_path)
    (tmp_path / "ledger.json").write_text("not json")
    with pytest.raises(ConfigError, match=r"ledger\.json"):
        load_calibration(tmp_path)


def test_a_long_message_with_blank_lines_is_read_whole_and_named_as_source(model, adapter, monkeypatch):
    read: list[str] = []

    def write(model: HybridModel, policy: trained.Policy, notes, said, room) -> tuple[str, dict[str, float]]:
        read.append(" ".join(said))
        return (f"+ {OTHER}" if "nine words" in read[-1] else "No change."), {}

    monkeypatch.setattr(trained, "write", write)
    page = "\n\n".join([f"Paragraph {n} of the page.  It has two sentences." for n in range(12)] + [OTHER])
    done = compact(model, adapter, messages("Noted.", "Noted.", page, "Noted."), 4000)
    assert " ".join(read).split() != [] and len(read) > 2
    assert all(f"Paragraph {n} of" in " ".join(read) for n in range(12))
    assert next(item for item in done.items if item.kind == "summary").sources[0] == 3


def test_two_adapters_in_folders_of_one_name_are_two(model, adapter, tmp_path, monkeypatch):
    other = tmp_path / adapter.name
    shutil.copytree(adapter, other)
    used: list[str | None] = []
    monkeypatch.setattr(trained, "write", lambda model, policy, *asked: (used.append(policy.name) or "No change.", {}))
    for folder in (adapter, other):
        compact(model, folder, messages(RULE, "Noted."), 4000)
    assert len(set(used)) == 2


def test_messages_that_a_forget_brings_back_are_read_again(model, adapter, script):
    script({"red folder": f"+ {RULE}", "nine words": f"+ {OTHER}"})
    first = compact(model, adapter, messages(RULE, "Noted.", OTHER, "Noted."), 4000)
    notes = [item for item in first.items if item.kind == "summary"]
    without = (notes[-1], *(item for item in first.items if item.kind == "message" and item.n != 3))
    again = compact(model, adapter, tuple(item for item in without if item.n != notes[-1].n), 4000)
    assert notes_of(again.items) == [f"- {RULE}"]
