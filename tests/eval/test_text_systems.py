"""Text systems: inside their budget, round by round, every byte counted, and no word kept that they do not show."""

from __future__ import annotations

import dataclasses
from functools import partial

import pytest
from small_scenario import small_scenario
from tiny_chat import tiny_chat

from eval.scenarios import Meeting, Turn
from eval.systems.base import Case, Limits, prefill
from eval.systems.curated import Curated
from eval.systems.fitting import room, standing
from eval.systems.full import FullContext
from eval.systems.ledger import Fates
from eval.systems.memory_file import MemoryFile, as_file, edit, read_file
from eval.systems.none import NoMemory
from eval.systems.recency import Recency
from eval.systems.registry import Registry
from eval.systems.summary import PromptedSummary
from memkv.compaction import Item, LedgerEntry, LossLedger
from memkv.errors import BudgetExceeded, ConfigError, InvalidInput

QUESTION = "[Thursday, 12 March 2026] Who approves anonymous sources?"
PinnedSummary = partial(PromptedSummary, pin_rules=True)
BUDGETED = (Recency, Registry, PromptedSummary, PinnedSummary, MemoryFile)
WRITING = (PromptedSummary, PinnedSummary, MemoryFile)


@pytest.fixture(scope="module")
def case():
    return Case(tiny_chat(), small_scenario())


def active(case, memory):
    return prefill(case.model, memory.messages(QUESTION)).size().payload


def limits(case, share, seed=0):
    return Limits(int(share * case.full.size().payload), seed)


@pytest.mark.parametrize("share", [0.05, 0.125, 0.33, 0.6, 1.0])
@pytest.mark.parametrize("system", BUDGETED)
def test_the_measured_cache_is_inside_the_budget(case, system, share):
    limit = limits(case, share)
    memory = system().remember(case, limit)
    assert active(case, memory) <= limit.active
    shown = "\n\n".join(message["content"] for message in memory.messages(QUESTION))
    assert memory.text == shown


@pytest.mark.parametrize("template", ["strict", "thinking", "none"])
@pytest.mark.parametrize("system", BUDGETED)
def test_other_templates_lose_no_standing_text(system, template):
    case = Case(tiny_chat(template=template), small_scenario())
    limit = limits(case, 0.4)
    memory = system().remember(case, limit)
    assert 0 < active(case, memory) <= limit.active
    question = {"role": "user", "content": QUESTION}
    read = case.model.chat.render([*memory.messages(QUESTION), question], open_reply=True)
    assert all(line.strip() in read for line in memory.text.splitlines())


@pytest.mark.parametrize("name", ["bamba", "gemma3"])
def test_state_of_fixed_size_and_windows_count(name):
    case = Case(tiny_chat(name), small_scenario())
    limit = limits(case, 0.5)
    memory = Recency().remember(case, limit)
    assert 0 < active(case, memory) <= limit.active


@pytest.mark.parametrize("system", BUDGETED)
def test_a_budget_below_one_token_is_refused(case, system):
    smallest = case.model.profile.at(1)
    with pytest.raises(BudgetExceeded) as refused:
        system().remember(case, Limits(smallest - 1))
    assert refused.value.smallest == smallest


def test_room_is_the_most_that_fits(case):
    profile = case.model.profile
    for tokens in (1, 2, 3, 64, 1000):
        assert room(case.model, Limits(profile.at(tokens))) == tokens
        assert room(case.model, Limits(profile.at(tokens + 1) - 1)) == tokens
    assert room(case.model, Limits(None)) is None
    mamba = tiny_chat("mamba2")
    assert room(mamba, Limits(mamba.profile.at(1))) is None


def test_none_is_empty_and_full_is_everything(case):
    nothing = NoMemory().remember(case, Limits())
    assert nothing.messages(QUESTION) == [] and nothing.text == "" and sum(nothing.at_rest.values()) == 0
    full = FullContext().remember(case, Limits())
    assert full.live.token_ids == case.full.token_ids and full.live is not case.full
    assert full.spent.prefilled == len(case.full) and full.spent.peak == case.full.size().payload
    assert full.at_rest["text"] == sum(len(turn.text.encode()) for turn in case.scenario.turns)
    assert all(turn.text in full.text for turn in case.scenario.turns)


def test_a_conversation_beyond_the_positions_is_refused():
    case = Case(tiny_chat(max_position_embeddings=128), small_scenario())
    with pytest.raises(InvalidInput):
        FullContext().remember(case, Limits())


def test_recency_keeps_the_newest_word_for_word(case):
    memory = Recency().remember(case, limits(case, 0.5))
    kept = memory.messages(QUESTION)
    assert kept and kept == case.messages[-len(kept) :]
    assert kept[0]["role"] == "user"
    assert memory.at_rest["text"] == sum(len(message["content"].encode()) for message in kept)
    assert memory.at_rest["metadata"] > 0
    assert memory.ledger == {"r1": 0.0, "r2": 1.0, "r3": 1.0}


def test_registry_pins_what_is_worded_as_a_rule(case):
    memory = Registry().remember(case, limits(case, 0.9))
    assert "must be approved by the night editor" in memory.text
    assert "at most nine words" in memory.text, "an amended rule stays: a registry does not know better"
    assert "ferry" not in memory.text or "Start every reply" in memory.text
    assert memory.spent.prefilled == 0, "no model is needed"
    tight = Registry().remember(case, limits(case, 0.33))
    assert "seven words" in tight.text and "night editor" not in tight.text, "the oldest rule leaves first"
    assert tight.ledger["r1"] < memory.ledger["r1"] and tight.ledger["r2"] == 1.0
    assert tight.ledger["r3"] == 0.0, "a rule without the usual words is not found"


@pytest.mark.parametrize("pin_rules", [False, True])
def test_the_seed_decides_what_is_sampled(case, pin_rules):
    system = PromptedSummary(0.7, pin_rules)
    assert system.sampled and system.name.startswith("sampled ")
    first, again, other = (system.remember(case, limits(case, 0.9, seed)) for seed in (1, 1, 2))
    assert first.messages(QUESTION) == again.messages(QUESTION) and first.spent == again.spent
    assert first.ledger == again.ledger and first.at_rest == again.at_rest
    assert first.text != other.text


@pytest.mark.parametrize("system", WRITING)
def test_what_is_read_and_written_is_counted(case, system):
    memory = system().remember(case, limits(case, 0.5))
    assert memory.spent.prefilled > len(case.full), "two rounds, each with a prompt"
    assert 0 < memory.spent.generated <= 2 * 160
    assert memory.spent.peak > case.first.size().payload


def test_more_rounds_mean_more_compactions(case):
    rounds = dataclasses.replace(case.scenario, rounds=(2, 4, 6, 8))
    once = dataclasses.replace(case.scenario, rounds=(8,))
    spent = [PromptedSummary().remember(Case(case.model, s), limits(case, 0.5)).spent for s in (once, rounds)]
    assert spent[0].peak > spent[1].peak, "smaller chunks make smaller caches"
    assert spent[0].prefilled < spent[1].prefilled, "each compaction reads its own prompt"


def test_the_memory_is_all_that_the_next_round_sees(case):
    scenario = dataclasses.replace(case.scenario, rounds=(6, 8))
    two = Case(case.model, scenario)
    limit = limits(case, 0.3)
    memory = Recency().remember(two, limit)
    assert [m["content"] for m in memory.messages(QUESTION)] == [t.text for t in scenario.turns[-2:]]


def test_shared_caches_are_left_as_they_were(case):
    before = list(case.first.token_ids), case.first.size().payload
    PromptedSummary().remember(case, limits(case, 0.5))
    assert (list(case.first.token_ids), case.first.size().payload) == before


def test_curated_holds_the_rules_in_force_and_no_other(case):
    memory = Curated().remember(case, Limits())
    binding = [rule.text for rule in case.scenario.rules if rule.binds]
    assert [line[2:] for line in memory.text.splitlines()[1:]] == binding
    assert "nine" not in memory.text and "managing editor" not in memory.text
    size = active(case, memory)
    assert Curated().remember(case, Limits(size)).text == memory.text
    with pytest.raises(BudgetExceeded) as refused:
        Curated().remember(case, Limits(size - 1))
    assert refused.value.smallest == size


def test_a_scenario_without_rules_in_force_needs_no_prompt(case):
    lifted = tuple(dataclasses.replace(rule, status="revoked") for rule in case.scenario.rules)
    memory = Curated().remember(Case(case.model, dataclasses.replace(case.scenario, rules=lifted)), Limits())
    assert memory.messages(QUESTION) == [] and memory.text == ""


def test_a_system_turn_stays_and_counts(case):
    opening = Meeting(
        "2026-03-02", (Turn("system", "You work for the harbour paper."), *case.scenario.meetings[0].turns)
    )
    rules = tuple(dataclasses.replace(rule, planted_at=None) for rule in case.scenario.rules)
    scenario = dataclasses.replace(
        case.scenario, meetings=(opening, case.scenario.meetings[1]), rounds=(5, 9), rules=rules
    )
    small = Case(case.model, scenario)
    for system in BUDGETED:
        limit = limits(case, 0.4)
        memory = system().remember(small, limit)
        assert "harbour paper" in memory.text and active(small, memory) <= limit.active
        with pytest.raises(BudgetExceeded):
            system().remember(small, limits(case, 0.05))


def test_standing_text_reaches_a_model_without_a_system_role():
    for template in ("chatml", "strict"):
        model = tiny_chat(template=template)
        assert "Keep left" in model.chat.render(standing(model, "Keep left."))
        assert standing(model, "") == []


def test_a_rule_planted_nowhere_is_named(case):
    rules = (dataclasses.replace(case.scenario.rules[0], planted_at=(7, 0)), *case.scenario.rules[1:])
    with pytest.raises(ConfigError, match="r1"):
        Recency().remember(Case(case.model, dataclasses.replace(case.scenario, rules=rules)), Limits())


# -- the memory file


def test_edits_are_applied_by_the_numbers_that_were_shown():
    lines = ["one", "two", "three"]
    assert edit(lines, "DELETE 1\nREPLACE 3 drei\nADD four") == (["two", "drei", "four"], 0)
    assert edit(lines, "ADD: two\nADD five") == (["one", "two", "three", "five"], 0)
    assert edit([], "") == ([], 0)


@pytest.mark.parametrize(
    "written",
    ["Sure! Here are the edits:", "add lower case", "ADD", "REPLACE 4 there is none", "DELETE 0", "DELETE 99999",
     "- ADD x", "REPLACE two 2", "DELETE 1 and 2"],
)  # fmt: skip
def test_lines_that_are_no_edit_are_left_out_and_counted(written):
    assert edit(["one", "two", "three"], f"{written}\nADD kept") == (["one", "two", "three", "kept"], 1)


def test_a_file_reads_back_as_it_was_written():
    lines = ["1. a rule. With two sentences.", "Headlines: seven words", "x"]
    assert read_file(as_file(lines)) == lines


def test_the_file_drops_its_oldest_lines(case, monkeypatch):
    replies = iter(
        ["ADD Sources need the night editor.\nADD Headlines have nine words.\nhm", "REPLACE 2 Headlines: seven."]
    )
    monkeypatch.setattr("eval.systems.memory_file.ask", lambda *_: next(replies))
    memory = MemoryFile().remember(case, limits(case, 0.9))
    assert "1. Sources need the night editor.\n2. Headlines: seven." in memory.text and memory.ignored == 1
    assert 0 < memory.ledger["r1"] < 1, "which words of a message are left is measured"
    replies = iter(["ADD Sources need the night editor.\nADD Headlines have nine words.", "ADD Memo first."])
    limit = Limits(case.model.profile.at(len("<|im_start|>system\n") + 60))
    memory = MemoryFile().remember(case, limit)
    assert "night editor" not in memory.text and "Memo first." in memory.text
    assert active(case, memory) <= limit.active


# -- the ledger


def test_fates_follow_a_message_through_the_rounds():
    text = "Sources need approval from editors"
    fates = Fates()
    fates.add(Item(1, "message", "user", text))
    fates.add(Item(2, "message", "user", "The ferry"))
    assert fates.probability(1, [Item(1, "message", "user", text)]) == 1.0
    fates.follow(LossLedger((LedgerEntry(1, "unknown", (3,), 0.5), LedgerEntry(2, "store_only", (), 0.0))))
    summary = Item(3, "summary", "", "Sources need approval", (1,))
    assert fates.probability(1, [summary]) == pytest.approx(3 / 5)
    assert fates.probability(2, [summary]) == 0.0
    fates.follow(LossLedger((LedgerEntry(3, "unknown", (4,), 0.3),)))
    assert fates.probability(1, [Item(4, "summary", "", "Sources", (3,))]) == pytest.approx(1 / 5)
    fates.follow(LossLedger((LedgerEntry(4, "dropped"),)))
    assert fates.probability(1, []) == 0.0


def test_what_a_strategy_declares_is_taken_as_declared():
    fates = Fates()
    fates.add(Item(1, "message", "user", "Sources need approval"))
    fates.follow(LossLedger((LedgerEntry(1, "paraphrased", (2,), probability=0.8),)))
    fates.follow(LossLedger((LedgerEntry(2, "paraphrased", (3,), probability=0.5),)))
    assert fates.probability(1, [Item(3, "summary", "", "quite other words")]) == pytest.approx(0.4)


def test_the_bytes_of_a_conversation_longer_than_the_models_positions_are_by_the_measured_profile(case):
    assert case.full_bytes == case.full.size().payload
    longer = dataclasses.replace(case.scenario, meetings=case.scenario.meetings * 12)
    long = Case(case.model, longer)
    tokens = len(case.model.chat.encode(case.model.chat.stable(long.messages)))
    assert tokens > case.model.max_tokens and long.full_bytes == case.model.profile.at(tokens) > case.full_bytes
    assert active(long, Recency().remember(long, Limits(int(0.1 * long.full_bytes)))) <= 0.1 * long.full_bytes
    with pytest.raises(InvalidInput, match="positions"):
        FullContext().remember(long, Limits())
