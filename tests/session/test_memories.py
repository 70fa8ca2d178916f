"""What an earlier conversation said, in the cache of a new one."""

from __future__ import annotations

import dataclasses
import time

import pytest
from architectures import NAMED
from tiny_chat import TEMPLATES, tiny_chat

from memkv.compaction import to_messages
from memkv.errors import InvalidInput, ModelUnavailable, NotFound
from memkv.model import HybridModel
from memkv.session import Reply, Session
from memkv.snapshot import same_tensors
from memkv.store import MemoryStore, TenantStore

FOLDER = "Interview notes are kept in the red folder, and nowhere else."
QUESTION = "Where are interview notes kept?"
AS_TEXT = ("gpt2", "recurrent_gemma")


def say(model: HybridModel, tenant: TenantStore, name: str, text: str, **options) -> Reply:
    with Session(model, tenant, name, **options) as session:
        return session.turn(text, max_new_tokens=4)


def recalled(reply: Reply) -> list[dict]:
    return [dict(event.data) for event in reply.events if event.kind == "recalled"]


def holds_its_text(session: Session) -> bool:
    chat = session.model.chat
    text = chat.stable(to_messages(session.model, session.context))
    return session.fork().token_ids == chat.encode(text)


@pytest.mark.parametrize("name", NAMED)
def test_an_earlier_conversation_comes_back_and_the_cache_holds_its_text(tenant, name):
    model = tiny_chat(name)
    say(model, tenant, "tuesday", FOLDER)
    with Session(model, tenant, "today") as session:
        reply = session.turn(QUESTION, max_new_tokens=4)
        [back] = recalled(reply)
        assert back["of"] == {"session": "tuesday", "first": 1, "last": 2}
        assert back["how"] == ("text" if name in AS_TEXT else "cache")
        assert (reply.spliced_tokens == 0) == (name in AS_TEXT)
        assert any(FOLDER in item.text for item in session.context) and holds_its_text(session)
        assert reply.prefilled_tokens + reply.spliced_tokens + reply.generated_tokens == session.tokens


@pytest.mark.parametrize("system", [None, "Be brief."])
@pytest.mark.parametrize("template", [name for name in TEMPLATES if name != "clock"])
def test_it_comes_back_under_any_template(tenant, template, system):
    model = tiny_chat("llama", template)
    say(model, tenant, "tuesday", FOLDER)
    with Session(model, tenant, "today", system=system) as session:
        replies = [session.turn(text, max_new_tokens=4) for text in ("What is a vole?", QUESTION)]
        assert sum(len(recalled(reply)) for reply in replies) == 1
        assert holds_its_text(session)


def test_it_comes_once(llama, tenant):
    say(llama, tenant, "tuesday", FOLDER)
    with Session(llama, tenant, "today") as session:
        assert recalled(session.turn(QUESTION, max_new_tokens=4))
        assert not recalled(session.turn(QUESTION, max_new_tokens=4))


def test_what_was_brought_back_is_no_new_memory(llama, tenant):
    say(llama, tenant, "tuesday", FOLDER)
    say(llama, tenant, "today", QUESTION)
    texts = [tenant.stretch(each.session, each.first, each.last) for each in tenant.segments()]
    assert sum(FOLDER in memory.text for stretch in texts for memory in stretch) == 1


def test_the_new_session_is_opened_again_as_it_was(llama, tenant):
    say(llama, tenant, "tuesday", FOLDER)
    with Session(llama, tenant, "today") as session:
        session.turn(QUESTION, max_new_tokens=4)
        before, items = llama.capture(session.fork()), session.context
    with Session(llama, tenant, "today") as session:
        assert session.opened.how == "restored" and session.context == items
        assert same_tensors(llama.capture(session.fork()), before)


def test_forgetting_it_takes_it_out_of_the_new_session_too(llama, tenant):
    say(llama, tenant, "tuesday", FOLDER)
    say(llama, tenant, "today", QUESTION)
    tenant.forget_memory("tuesday", 1)
    with Session(llama, tenant, "today") as session:
        assert session.opened.how == "rebuilt"
        assert not any(FOLDER in item.text for item in session.context)
        assert [item.text for item in session.context][0] == QUESTION


def test_another_tenant_gets_none_of_it(llama, store_folder):
    with MemoryStore.open(store_folder) as store:
        say(llama, store.tenant("ada"), "tuesday", FOLDER)
        assert recalled(say(llama, store.tenant("bob"), "today", QUESTION)) == []


def test_without_memories_nothing_is_made_or_brought_back(llama, tenant):
    say(llama, tenant, "tuesday", FOLDER, memories=False)
    assert tenant.segments() == []
    say(llama, tenant, "wednesday", FOLDER)
    assert recalled(say(llama, tenant, "today", QUESTION, memories=False)) == []


def test_a_compaction_leaves_it_in_the_store(llama, tenant):
    say(llama, tenant, "tuesday", FOLDER)
    with Session(llama, tenant, "today", strategy="truncate") as session:
        session.turn(QUESTION, max_new_tokens=4)
        session.turn("Thank you.", max_new_tokens=4)
        session.compact()
        assert not any(item.kind == "memory" for item in session.context)
        assert recalled(session.turn(QUESTION, max_new_tokens=4))


def test_a_full_store_costs_memories_and_never_a_turn(llama, tenant):
    say(llama, tenant, "tuesday", FOLDER, memories=False)
    say(llama, tenant, "today", "Good morning.", memories=False)
    tenant.set_limits(quota_bytes=tenant.usage().total + 20_000, ttl_seconds=None)
    reply = say(llama, tenant, "today", "Yes.")
    [event] = [event for event in reply.events if event.kind == "memories_failed"]
    assert event.data["reason"] == "QuotaExceeded" and tenant.segments() == []
    tenant.set_limits(quota_bytes=None, ttl_seconds=None)
    assert recalled(say(llama, tenant, "today", QUESTION))


def test_an_exported_session_holds_what_it_had_brought_back(llama, tenant, store_folder, tmp_path):
    say(llama, tenant, "tuesday", FOLDER)
    say(llama, tenant, "today", QUESTION)
    tenant.export_session("today", tmp_path / "today.memkv")
    with MemoryStore.open(store_folder.parent / "other") as other:
        bob = other.tenant("bob")
        say(llama, bob, "tuesday", "Something else altogether, of ducks.", memories=False)
        bob.import_session(tmp_path / "today.memkv")
        with Session(llama, bob, "today") as session:
            assert session.opened.how == "restored" and holds_its_text(session)
            assert any(FOLDER in item.text for item in session.context)


def test_a_session_that_expires_leaves_those_it_was_brought_back_into(llama, store_folder):
    with MemoryStore.open(store_folder) as store:
        ada = store.tenant("ada")
        say(llama, ada, "tuesday", FOLDER)
        ada.set_limits(quota_bytes=None, ttl_seconds=3600)
        say(llama, ada, "today", QUESTION)
        record = dataclasses.replace(ada.session("tuesday"), updated=time.time() - 7200)
        store._backend.index.save_session("ada", record)
        assert store.gc().expired_sessions == ("ada/tuesday",)
        with Session(llama, ada, "today") as session:
            assert [item.text for item in session.context][0] == QUESTION
        assert FOLDER.encode() not in b"".join(path.read_bytes() for path in store_folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("error", [ModelUnavailable("No embedding model", "Install it."), NotFound("Gone", "Again.")])
def test_whatever_becomes_of_memories_the_turn_is_not_lost(llama, tenant, monkeypatch, error):
    say(llama, tenant, "tuesday", FOLDER)

    def fail(*_: object) -> None:
        raise error

    with Session(llama, tenant, "today") as session:
        monkeypatch.setattr(session.long_term, "fetch", fail)
        reply = session.turn(QUESTION, max_new_tokens=4)
        assert recalled(reply) == [] and [item.text for item in session.context][0] == QUESTION
        [failed] = [event for event in reply.events if event.kind == "memories_failed"]
        assert failed.data["reason"] == type(error).__name__ and holds_its_text(session)


def test_a_forgotten_session_can_be_closed(llama, tenant):
    with Session(llama, tenant, "today") as session:
        session.turn(QUESTION, max_new_tokens=4)
        tenant.forget_session("today")
    assert not tenant.exists("today") and tenant.segments() == []
    with pytest.raises(InvalidInput, match="closed"):
        session.turn(QUESTION)


def test_a_system_prompt_is_said_once_though_the_first_turn_is_cut_off_behind_its_commit(llama, tenant, monkeypatch):
    with Session(llama, tenant, "today", system="Be brief.", context_budget=llama.profile.at(800)) as session:

        def interrupted(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(session.long_term, "remember", interrupted)
        reply = session.turn("A long story. " * 45, max_new_tokens=200)
        assert any(event.kind == "compaction" for event in reply.events)
        session.turn("Next.", max_new_tokens=4)
        assert [item.text for item in session.context].count("Be brief.") == 1
        monkeypatch.undo()


def test_what_is_in_the_context_leaves_the_room_to_others(llama, tenant):
    say(llama, tenant, "tuesday", FOLDER)
    say(llama, tenant, "wednesday", "Interview notes are also copied to the grey folder.")
    with Session(llama, tenant, "today") as session:
        room = max(each.nbytes for each in session.long_term.find(QUESTION, "today", (), 10**9).back)
        [first] = session.long_term.find(QUESTION, "today", (), room).back
        [second] = session.long_term.find(QUESTION, "today", (), room, {first.text}).back
        assert {first.stored.session, second.stored.session} == {"tuesday", "wednesday"}


def test_a_cache_whose_keys_have_biases_takes_memories_in(llama, tenant):
    say(llama, tenant, "tuesday", FOLDER)
    say(llama, tenant, "today", "A story of two ducks. " * 12, codec="matching:0.5", memories=False)
    with Session(llama, tenant, "today") as session:
        assert "key_bias" in llama.capture(session.fork()).layers[0].tensors
        assert session.turn(QUESTION, max_new_tokens=4).spliced_tokens > 0


RULE = "Headlines must have at most nine words."
TALK = "We spoke of the weather over the harbour for a long while, and of ducks. " * 12


def test_rules_come_back_as_notes_where_the_conversation_has_no_room_and_go_with_it(llama, tenant, store_folder):
    say(llama, tenant, "tuesday", f"{TALK} {RULE}", context_budget="64 MiB")
    with Session(llama, tenant, "today", context_budget=llama.profile.at(3000)) as session:
        reply = session.turn("Which headlines?", max_new_tokens=4)
        [back] = recalled(reply)
        assert (back["form"], back["how"], reply.spliced_tokens) == ("notes", "text", 0)
        assert [item.text.splitlines()[1:] for item in session.context if item.kind == "noted"] == [[f"- {RULE}"]]
        assert holds_its_text(session)
        items = session.context
    with Session(llama, tenant, "today") as session:
        assert session.opened.how == "restored" and session.context == items
    tenant.export_session("today", store_folder.parent / "today.memkv")
    with MemoryStore.open(store_folder.parent / "other") as other:
        other.tenant("bob").import_session(store_folder.parent / "today.memkv")
        with Session(llama, other.tenant("bob"), "today") as session:
            assert any(RULE in item.text for item in session.context)
    tenant.forget_memory("tuesday", 1)
    assert RULE.encode() not in b"".join(path.read_bytes() for path in store_folder.rglob("*") if path.is_file())
    with Session(llama, tenant, "today") as session:
        assert not any(item.kind in ("memory", "noted") for item in session.context)


def test_what_is_near_and_has_no_room_is_said(llama, tenant):
    say(llama, tenant, "tuesday", f"{TALK} {TALK}", context_budget="64 MiB")
    with Session(llama, tenant, "today", context_budget=llama.profile.at(2000)) as session:
        reply = session.turn("Which birds did I mention, and was it raining at the port?", max_new_tokens=4)
        [left] = [event.data for event in reply.events if event.kind == "memories_left"]
        assert left["of"] == {"session": "tuesday", "first": 1, "last": 2} and left["bytes"] > left["room"] > 0
        assert recalled(reply) == [] and holds_its_text(session)


def test_a_part_comes_as_text_and_goes_with_what_it_was_of(llama, tenant):
    say(llama, tenant, "tuesday", f"{TALK} {FOLDER} {TALK}", context_budget="64 MiB")
    with Session(llama, tenant, "today", context_budget=llama.profile.at(4000)) as session:
        reply = session.turn(QUESTION, max_new_tokens=4)
        [back] = recalled(reply)
        assert (back["form"], back["how"], reply.spliced_tokens) == ("part", "text", 0)
        assert any(FOLDER in item.text for item in session.context) and holds_its_text(session)
        items = session.context
    with Session(llama, tenant, "today") as session:
        assert session.opened.how == "restored" and session.context == items
    tenant.forget_memory("tuesday", 1)
    with Session(llama, tenant, "today") as session:
        assert not any(FOLDER in item.text for item in session.context)


def test_what_was_noted_stands_behind_what_comes_whole_in_one_message_before_the_question(llama, tenant):
    rules = [f"The {colour} folder must be locked at night." for colour in ("red", "blue", "green", "white")]
    for day, rule in enumerate(rules):
        say(llama, tenant, f"day-{day}", rule)
    with Session(llama, tenant, "today") as session:
        reply = session.turn("Which folder must be locked at night?", max_new_tokens=4)
        assert [each["form"] for each in recalled(reply)] == ["whole", "whole", "notes", "notes"]
        *_, noted, asked, answer = to_messages(llama, session.context)
        assert noted["role"] == "system" and sum(f"- {rule}" in noted["content"] for rule in rules) == 2
        assert asked["role"] == "user" and answer["role"] == "assistant" and holds_its_text(session)
    with Session(llama, tenant, "today") as session:
        assert session.opened.how == "restored" and holds_its_text(session)
