"""A message that touches what left the context brings it back, as text, once, and without making new evidence of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_chat import tiny_chat

from memkv import HybridModel, MemoryStore, Session
from memkv.compaction import to_messages
from memkv.compaction.base import RECALLED_HEADING

RULE = "Interview notes are kept in the red folder."
QUESTION = "In which folder are the interview notes kept?"


@pytest.fixture(scope="module")
def model() -> HybridModel:
    return tiny_chat("llama")


def talk(model: HybridModel, folder: Path, **options) -> Session:
    """A session whose first message left the context."""
    tenant = MemoryStore.open(folder).tenant("ada")
    chat = Session(model, tenant, "s", context_budget=model.profile.at(2000), strategy="truncate", **options)
    chat.turn(RULE, max_new_tokens=4)
    chat.turn("Something else entirely. " * 8, max_new_tokens=4)
    chat.compact(budget=model.profile.at(260))
    assert not any(RULE in item.text for item in chat.context)
    return chat


def test_what_a_message_touches_stands_before_it(model, store_folder):
    with talk(model, store_folder) as chat:
        reply = chat.turn(QUESTION, max_new_tokens=4)
        event = next(event for event in reply.events if event.kind == "recalled")
        assert (event.data["from"], event.data["score"]) == (1, pytest.approx(1.0, abs=0.5))
        read = to_messages(model, chat.context)
        assert read[-2]["content"] == f"{RECALLED_HEADING}\n> {RULE}\n\n{QUESTION}"
        message = next(item for item in chat.context if item.text == QUESTION)
        assert message.role == "user", "what the user said is stored as it was said"


def test_it_is_not_brought_back_while_it_is_there(model, store_folder):
    with talk(model, store_folder) as chat:
        chat.turn("Hello.", max_new_tokens=4)
        assert not any(item.kind == "recalled" for item in chat.context)
        chat.turn(QUESTION, max_new_tokens=4)
        chat.turn(QUESTION, max_new_tokens=4)
        assert sum(item.kind == "recalled" for item in chat.context) == 1


def test_it_can_be_switched_off(model, store_folder):
    with talk(model, store_folder, recall=False) as chat:
        assert not any(event.kind == "recalled" for event in chat.turn(QUESTION, max_new_tokens=4).events)


def test_another_process_restores_it_and_forgetting_the_source_takes_it_along(model, store_folder):
    with talk(model, store_folder) as chat:
        chat.turn(QUESTION, max_new_tokens=4)
        before = chat.context
    tenant = MemoryStore.open(store_folder).tenant("ada")
    with Session(model, tenant, "s") as again:
        assert (again.opened.how, again.context) == ("restored", before)
        again.forget(1)
        assert not any(RULE in item.text for item in again.context)
        assert not any(RULE in memory.text for memory in tenant.memories("s"))


def test_the_next_compaction_lets_go_of_it(model, store_folder):
    with talk(model, store_folder) as chat:
        chat.turn(QUESTION, max_new_tokens=4)
        chat.compact(budget=model.profile.at(300))
        assert not any(item.kind == "recalled" for item in chat.context)


def test_nothing_comes_back_where_there_is_no_room(model, store_folder):
    with talk(model, store_folder) as chat:
        chat.context_budget = chat.size.payload + model.profile.at(100)
        events = chat.turn(QUESTION, max_new_tokens=4).events
        assert not any(event.kind == "recalled" for event in events)


def test_a_whole_stretch_that_a_compaction_took_out_comes_back_as_cache(model, store_folder):
    tenant = MemoryStore.open(store_folder).tenant("ada")
    budget = model.profile.at(4000)
    with Session(model, tenant, "s", context_budget=budget, strategy="truncate") as chat:
        chat.turn(f"{RULE} {'They are for the interview desk. ' * 8}", max_new_tokens=4)
        chat.turn("Something else entirely. " * 20, max_new_tokens=4)
        chat.compact(budget=model.profile.at(700))
        assert not any(RULE in item.text for item in chat.context)
        assert [segment.address for segment in tenant.segments("s")] == ["s/1-2", "s/3-4"]
        reply = chat.turn(QUESTION, max_new_tokens=4)
        [back] = [event.data for event in reply.events if event.kind == "recalled"]
        assert (back["of"], back["how"]) == ({"session": "s", "first": 1, "last": 2}, "cache")
        assert back["trust"] == ["user", "assistant"] and reply.spliced_tokens > 256
        assert chat.fork().token_ids == model.chat.encode(model.chat.stable(to_messages(model, chat.context)))
        chat.turn(QUESTION, max_new_tokens=4)
        assert sum(item.kind == "memory" for item in chat.context) == 1, "what is there is not brought back again"
