"""Retrieval: chunks lose nothing, the best that fit come back in order, and what lies at rest is counted."""

from __future__ import annotations

import dataclasses

import pytest
from small_scenario import small_scenario
from tiny_chat import tiny_chat

from eval.scenarios import Meeting, Turn
from eval.systems.base import Case, Limits, prefill
from eval.systems.bm25 import BM25, WordIndex
from eval.systems.chunks import chunk_turns, split
from eval.systems.dense import Dense, DenseIndex
from eval.systems.hybrid import Hybrid, fuse
from eval.systems.retrieval import HEADING, Shelf
from memkv.errors import BudgetExceeded, ConfigError

QUESTION = "[Thursday, 12 March 2026] Who approves anonymous sources?"
SYSTEMS = (Dense, BM25, Hybrid)


@pytest.fixture(scope="module")
def case():
    return Case(tiny_chat(), small_scenario())


def active(case, memory, question=QUESTION):
    return prefill(case.model, memory.messages(question)).size().payload


def words(text):
    return len(text.split())


# -- chunks


@pytest.mark.parametrize("size", [1, 3, 8, 64])
def test_chunks_joined_are_the_message(size):
    turns = [
        Turn("user", "First rule. Second rule!\n\n1. A list entry\n2. Another one, of 5.5 cm\nand an open end  "),
        Turn("assistant", ""),
        Turn("user", "  A" + 40 * "x" + " word"),
    ]
    chunks = chunk_turns(turns, size, words, first=5)
    assert {chunk.message for chunk in chunks} == {5, 7}, "an empty message has no chunk"
    for number, turn in ((5, turns[0]), (7, turns[2])):
        mine = [chunk for chunk in chunks if chunk.message == number]
        assert "".join(chunk.text for chunk in mine) == turn.text
        assert [chunk.part for chunk in mine] == list(range(len(mine)))
        assert all(chunk.tokens == words(chunk.text) <= size for chunk in mine)


def test_sentences_stay_whole_where_they_fit():
    text = "Our policy. 1. Sources must be approved. 2. Headlines have nine words. 3. No more."
    assert split(text, 6, words) == [
        "Our policy. ", "1. Sources must be approved. ", "2. Headlines have nine words. ", "3. No more.",
    ]  # fmt: skip
    assert split("a wrapped\nsentence stays. Whole", 4, words) == ["a wrapped\nsentence stays. ", "Whole"]


def test_a_word_without_end_is_cut_anywhere():
    assert split(10 * "x", 4, len) == ["xxxx", "xxxx", "xx"]
    assert split("xy", 1, lambda text: 3 * len(text)) == ["x", "y"], "a character is not cut"


def test_chunks_of_nothing_are_refused(case):
    with pytest.raises(ConfigError, match="at least 1"):
        BM25(chunk_tokens=0).remember(case, Limits())


# -- what fits


@pytest.mark.parametrize("share", [0.05, 0.125, 0.33, 0.6, 1.0])
@pytest.mark.parametrize("system", SYSTEMS)
def test_the_measured_cache_is_inside_the_budget(case, system, share):
    limit = Limits(int(share * case.full.size().payload))
    memory = system().remember(case, limit)
    for probe in case.scenario.probes:
        assert active(case, memory, probe.question) <= limit.active


@pytest.mark.parametrize("system", SYSTEMS)
def test_without_a_budget_everything_comes_back_in_order(case, system):
    [message] = system().remember(case, Limits()).messages(QUESTION)
    assert message["role"] == "system"
    texts = [f"{turn.role.capitalize()}: {turn.text}" for turn in case.scenario.turns]
    assert message["content"] == "\n".join([HEADING, *texts])


def test_templates_without_a_system_role_get_the_notes_too():
    case = Case(tiny_chat(template="strict"), small_scenario())
    limit = Limits(case.full.size().payload // 2)
    memory = BM25().remember(case, limit)
    assert "night editor" in case.model.chat.render(memory.messages(QUESTION))
    assert active(case, memory) <= limit.active


def test_shorter_chunks_fill_what_room_is_left(case):
    chunks = chunk_turns([Turn("user", 90 * "a"), Turn("user", 80 * "b"), Turn("user", "short")], 100, len)
    heading = len(case.model.chat.encode(case.model.chat.render(Shelf(case.model, chunks, Limits()).messages([0]))))
    shelf = Shelf(case.model, chunks, Limits(case.model.profile.at(heading + 20)))
    assert shelf.fill([0, 1, 2]) == [0, 2]
    assert shelf.fill([1, 0, 2], taken=[2]) == [2, 1]
    assert shelf.fill([]) == []


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_budget_below_one_token_is_refused(case, system):
    with pytest.raises(BudgetExceeded):
        system().remember(case, Limits(1))


# -- what lies at rest


@pytest.mark.parametrize(("system", "kinds"), [(Dense, {"vectors"}), (BM25, {"index"}), (Hybrid, {"vectors", "index"})])
def test_everything_at_rest_is_counted(case, system, kinds):
    tight = system().remember(case, Limits(case.full.size().payload // 8))
    rich = system().remember(case, Limits())
    assert tight.at_rest == rich.at_rest, "the store is the same, whatever comes back"
    assert set(tight.at_rest) == {"text", "metadata"} | kinds and all(tight.at_rest.values())
    assert tight.at_rest["text"] == sum(len(turn.text.encode()) for turn in case.scenario.turns)


def test_vectors_grow_with_the_chunks():
    index = DenseIndex()
    empty = index.nbytes
    index.add(["one", "two"])
    assert index.nbytes == empty + 2 * 384 * 4
    index.add([])
    assert index.rank("one")[0] == 0 and sorted(index.rank("x")) == [0, 1]
    assert DenseIndex().rank("anything") == []


def test_only_the_standing_part_is_a_text_of_the_memory(case):
    limit = Limits(case.full.size().payload // 3)
    assert Dense().remember(case, limit).text is None and BM25().remember(case, limit).text is None
    memory = Hybrid().remember(case, limit)
    for question in (QUESTION, "What about the ferry?"):
        shown = memory.messages(question)[0]["content"]
        assert all(line in shown for line in memory.text.splitlines())


# -- what is found


def test_words_find_their_text():
    index = WordIndex(["The night editor approves sources.", "Cats purr.", "the and of", "Sources are kept."])
    assert index.matches("Who approves sources?")[0] == 0
    assert index.rank("cats")[0] == 1 and sorted(index.rank("cats")) == [0, 1, 2, 3]
    assert index.rank("zebra") == [3, 2, 1, 0], "nothing matches: the newest first"
    assert index.matches("the") == [] and index.matches("") == []


@pytest.mark.parametrize("texts", [[], [""], ["the", "of and"]])
def test_texts_without_words_are_searched_in_vain(texts):
    index = WordIndex(texts)
    assert index.matches("editor") == [] and index.nbytes == 0
    assert index.rank("editor") == list(reversed(range(len(texts))))


def test_fusion_adds_reciprocal_ranks():
    assert fuse([[0, 1, 2], [2, 1]]) == [2, 1, 0]
    assert fuse([[3, 4], []]) == [3, 4] and fuse([]) == []
    assert fuse([[5, 6], [6, 5]]) == [5, 6], "of equals the lower number first"


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_day_of_asking_is_not_searched_for(case, system):
    memory = system().remember(case, Limits(case.full.size().payload // 3))
    assert memory.messages(QUESTION) == memory.messages(QUESTION.partition("] ")[2])
    changed = memory.messages(QUESTION)
    changed.clear()
    assert memory.messages(QUESTION), "what is handed out is a copy"


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_same_again(case, system):
    limit = Limits(case.full.size().payload // 3)
    assert system().remember(case, limit).messages(QUESTION) == system().remember(case, limit).messages(QUESTION)


def test_a_sweep_tells_its_systems_apart():
    assert [system(32).name for system in SYSTEMS] == ["dense 32", "bm25 32", "hybrid 32"]
    assert [system().name for system in SYSTEMS] == ["dense", "bm25", "hybrid"]


@pytest.mark.slow
@pytest.mark.keeps_home
@pytest.mark.parametrize("system", SYSTEMS)
def test_a_question_brings_back_its_rule(system):
    from memkv.chat.demo_text import FILLER
    from memkv.model import HybridModel

    small = small_scenario()
    filler = tuple(turn for text in FILLER[:10] for turn in (Turn("user", text), Turn("assistant", "I see.")))
    meetings = (small.meetings[0], small.meetings[1], Meeting("2026-03-10", filler))
    scenario = dataclasses.replace(small, meetings=meetings, rounds=(8, 28))
    case = Case(HybridModel.from_pretrained(), scenario)
    limit = Limits(case.model.profile.at(200))
    memory = system().remember(case, limit)
    assert "must be approved by the night editor" in memory.messages(QUESTION)[0]["content"]
    assert "seven words" in memory.messages("How many words may a headline have?")[0]["content"]
    assert active(case, memory) <= limit.active
