"""Memories of earlier conversations: made of what was said, found again where a message is near them."""

from __future__ import annotations

import pytest
from tiny_chat import tiny_chat

from memkv.compress import codec
from memkv.recall.stretch import segment_tokens
from memkv.session.long_term import STRETCH, LongTerm, Sought
from memkv.store import NewMemory, TenantStore
from memkv.store.spoken import as_text

FOLDER = "Interview notes are kept in the red folder, and nowhere else."
TRAIN = "My train to Lisbon leaves at nine in the morning on Friday."
ROOM = 1 << 30


def say(tenant: TenantStore, name: str, *said: str) -> None:
    """Exchanges of a session, as they lie in the store."""
    record = tenant.session(name) if tenant.exists(name) else tenant.create_session(name)
    memories = [each for text in said for each in (NewMemory(text, role="user"), NewMemory("Noted.", role="assistant"))]
    numbers = range(record.next_n, record.next_n + len(memories))
    tenant.commit(name, record.head, memories=memories, context=(*record.context, *numbers), tokens=b"")


def found(long_term: LongTerm, text: str, session: str = "now", present=()) -> list[str]:
    return [each.stored.session for each in long_term.find(text, session, present, ROOM).back]


def test_a_message_brings_the_conversation_back_that_it_is_near(llama, tenant):
    say(tenant, "work", FOLDER)
    say(tenant, "trip", TRAIN)
    memory = LongTerm(llama, tenant)
    assert [segment.address for segment in memory.catch_up("now")] == ["work/1-2", "trip/1-2"]
    assert memory.catch_up("now") == [] and memory.catch_up("work") == []
    assert found(memory, "In which folder do I keep the notes of an interview?")[-1] == "work"
    assert "work" not in found(memory, "When does my train to Lisbon leave?")
    assert found(memory, "What is the capital of Mongolia?") == []


def test_the_text_says_when_it_was_said(llama, tenant):
    say(tenant, "work", FOLDER)
    [segment] = LongTerm(llama, tenant).remember("work", finished=True)
    first, *said = as_text(tenant.stretch("work", segment.first, segment.last)).splitlines()
    assert first.startswith("From our conversation of ") and first.endswith(":")
    assert said == [f"User: {FOLDER}", "Assistant: Noted."]


def test_a_conversation_that_goes_on_becomes_segments_of_whole_exchanges(llama, tenant):
    long = "word " * (STRETCH // 10)  # the tokenizer has one token a character
    say(tenant, "s", *[long] * 5)
    memory = LongTerm(llama, tenant)
    assert [segment.address for segment in memory.remember("s")] == ["s/1-4", "s/5-8"]
    assert memory.remember("s") == []
    say(tenant, "s", long)
    assert [segment.address for segment in memory.remember("s")] == ["s/9-12"]


def test_what_is_left_after_a_forget_becomes_segments_again(llama, tenant):
    say(tenant, "s", "The folder is red.", "The train is late.", "And the last one.")
    memory = LongTerm(llama, tenant)
    assert [segment.address for segment in memory.remember("s", finished=True)] == ["s/1-6"]
    tenant.forget_memory("s", 3)
    assert tenant.segments() == []
    assert [segment.address for segment in memory.remember("s", finished=True)] == ["s/1-2", "s/4-6"]


def test_what_is_in_the_context_is_not_brought_into_it(llama, tenant):
    say(tenant, "work", FOLDER)
    memory = LongTerm(llama, tenant)
    memory.remember("work", finished=True)
    question = "Where are interview notes kept, in which folder?"
    assert found(memory, question, "work", present=(1, 2)) == []
    assert found(memory, question, "work", present=(7, 8)) == ["work"]


def test_the_cache_is_made_again_where_it_is_damaged_or_of_another_model(llama, tenant, store_folder):
    say(tenant, "work", FOLDER)
    memory = LongTerm(llama, tenant)
    memory.remember("work", finished=True)
    [hit] = memory.find("Where are interview notes kept?", "now", (), ROOM).back
    first, _ = memory.fetch(hit)
    [blob] = (store_folder / "blobs").glob("??/*")
    blob.write_bytes(blob.read_bytes()[:-1] + b"x")
    again, why = memory.fetch(hit)
    assert again.snapshot.token_ids == first.snapshot.token_ids
    assert tenant.events("work", "quarantined")
    other = LongTerm(tiny_chat("bamba"), tenant)
    [hit] = other.find("Where are interview notes kept?", "now", (), ROOM).back
    assert other.fetch(hit)[0].snapshot.fingerprint == other.model.fingerprint


@pytest.mark.parametrize(("name", "template", "why"), [("gpt2", "chatml", "moved"), ("llama", "strict", "template")])
def test_a_model_that_cannot_take_it_in_as_cache_says_why_and_finds_the_text(tenant, name, template, why):
    say(tenant, "work", FOLDER)
    memory = LongTerm(tiny_chat(name, template), tenant)
    memory.catch_up("now")
    [hit] = memory.find("Where are interview notes kept?", "now", (), ROOM).back
    assert FOLDER in hit.text and memory.splicer is None and why in memory.as_text


def test_what_was_forgotten_is_not_found(llama, tenant):
    say(tenant, "work", FOLDER)
    memory = LongTerm(llama, tenant)
    memory.catch_up("now")
    question = "Where are interview notes kept?"
    assert found(memory, question) == ["work"]
    tenant.forget_memory("work", 1)
    assert found(memory, question) == []


def test_a_budget_admits_what_fits(llama, tenant):
    say(tenant, "work", FOLDER)
    memory = LongTerm(llama, tenant)
    memory.catch_up("now")
    [hit] = memory.find("Where are interview notes kept?", "now", (), ROOM).back
    less = memory.find("Where are interview notes kept?", "now", (), memory.bytes_of(hit.text) - 1).back
    assert hit.form == "whole" and [each.form for each in less] == ["part"]


def test_catching_up_takes_the_sessions_used_last_and_not_all_at_once(llama, tenant):
    for number in range(6):
        say(tenant, f"s{number}", FOLDER)
    memory = LongTerm(llama, tenant)
    assert [segment.session for segment in memory.catch_up("now", most=2)] == ["s4", "s5"]
    assert [segment.session for segment in memory.catch_up("now")] == ["s0", "s1", "s2", "s3"]


@pytest.mark.parametrize("name", ["int8", "int4", "snapkv:0.5+int4"])
def test_segments_lie_in_the_store_as_small_as_the_codec_makes_them(llama, tenant, name):
    for session in ("work", "plain"):
        say(tenant, session, f"{FOLDER} {FOLDER}")
    LongTerm(llama, tenant).remember("plain", finished=True)
    memory = LongTerm(llama, tenant, codec(name, llama))
    memory.remember("work", finished=True)
    small, plain = (tenant.segments(session)[0].blob.length for session in ("work", "plain"))
    assert small < 0.6 * plain
    [back] = [each for each in memory.find("In which folder do I keep interview notes?", "plain", (1, 2), ROOM).back]
    whole = LongTerm(llama, tenant).fetch(back)[0]
    assert whole.snapshot.codecs == (memory.codec.name,)
    exact = memory.splicer.encode(*segment_tokens(llama.chat, back.text), whole.repair).snapshot
    for layer, other in zip(whole.snapshot.layers, exact.layers, strict=True):
        for kind in ("keys", "values"):
            near, far = layer.tensors[kind], other.tensors[kind]
            assert 0 < float((near - far).norm() / far.norm()) < 0.2


RULE, CHANGE = "Headlines must have at most nine words.", "There is a change: Headlines must have at most twelve words."
TALK = "We spoke of the weather over the harbour for a long while, and of ducks."


def notes_for(long_term: LongTerm, text: str) -> list[str]:
    """The notes that come back where there is room for little else."""
    room = long_term.bytes_of("x" * 180)
    return [each.text.split("\n", 1)[1] for each in long_term.find(text, "now", (), room).back if each.form == "notes"]


def test_without_room_for_what_was_said_come_its_rules(llama, tenant):
    say(tenant, "work", f"{TALK} {RULE} {TALK}")
    memory = LongTerm(llama, tenant)
    memory.catch_up("now")
    [whole] = memory.find("The headlines?", "now", (), ROOM).back
    assert whole.form == "whole" and RULE in whole.text
    [notes] = memory.find("The headlines?", "now", (), whole.nbytes - 1).back
    assert notes.form == "notes" and notes.text.splitlines()[1:] == [f"- {RULE}"] and notes.trust == ("user",)
    assert memory.find("The headlines?", "now", (), ROOM, {notes.text}).back == (whole,)


def test_a_later_session_changes_what_an_earlier_one_laid_down_and_forgetting_it_undoes_that(llama, tenant):
    say(tenant, "one", f"{TALK} {RULE} {TALK}")
    say(tenant, "two", f"{TALK} {CHANGE} {TALK}")
    memory = LongTerm(llama, tenant)
    memory.catch_up("now")
    assert notes_for(memory, "Headlines?") == notes_for(LongTerm(llama, tenant), "Headlines?") == [f"- {CHANGE}"]
    tenant.forget_session("two")
    assert notes_for(LongTerm(llama, tenant), "Headlines?") == [f"- {RULE}"]


def test_an_earlier_session_that_is_noted_late_changes_nothing(llama, tenant):
    say(tenant, "one", CHANGE)
    say(tenant, "two", RULE)
    memory = LongTerm(llama, tenant)
    memory.remember("two", finished=True)
    memory.remember("one", finished=True)
    assert {segment.session: segment.notes.over for segment in tenant.noted()} == {"one": (), "two": ()}


@pytest.mark.parametrize(
    "later", [CHANGE, "We drop the rule that Headlines must have at most nine words, nothing takes its place."]
)
def test_a_session_that_is_noted_late_is_changed_by_what_was_said_after_it(llama, tenant, later):
    say(tenant, "one", f"{TALK} {RULE} {TALK}")
    say(tenant, "two", f"{TALK} {later} {TALK}")
    memory = LongTerm(llama, tenant)
    memory.remember("two", finished=True)
    memory.remember("one", finished=True)
    assert [note for note in notes_for(memory, "Headlines?") if RULE in note] == []
    assert notes_for(memory, "Headlines?") == notes_for(LongTerm(llama, tenant), "Headlines?")
    tenant.forget_session("two")
    assert notes_for(memory, "Headlines?") == [f"- {RULE}"]


def test_an_open_session_notices_what_other_sessions_made_and_forgot_meanwhile(llama, tenant):
    say(tenant, "work", FOLDER)
    here, elsewhere = LongTerm(llama, tenant), LongTerm(llama, tenant)
    here.catch_up("now")
    assert found(here, "In which folder do I keep the notes of an interview?") == ["work"]
    say(tenant, "trip", TRAIN)
    elsewhere.remember("trip", finished=True)
    assert "trip" in found(here, "When does my train to Lisbon leave?")
    tenant.forget_session("work")
    assert found(here, "In which folder do I keep the notes of an interview?") == []


LONG = " ".join(f"On day {n} we spoke of the weather over the harbour." for n in range(30))


def test_of_what_is_too_large_the_sentences_come_that_are_near(llama, tenant):
    say(tenant, "work", f"{LONG} {FOLDER} {LONG}")
    memory = LongTerm(llama, tenant)
    memory.catch_up("now")
    room = memory.bytes_of("x" * 400)
    [part] = memory.find("Where are interview notes kept?", "now", (), room).back
    assert part.form == "part" and FOLDER in part.text and len(part.text) < 400 and part.nbytes <= room
    assert memory.find("Where are interview notes kept?", "now", (), room, {part.text}) == Sought()


def test_what_is_too_large_in_every_form_is_named(llama, tenant):
    say(tenant, "work", FOLDER)
    memory = LongTerm(llama, tenant)
    memory.catch_up("now")
    sought = memory.find("Where are interview notes kept?", "now", (), 1)
    assert (sought.back, [each.stored.session for each in sought.too_large]) == ((), ["work"])


def test_a_stretch_longer_than_the_models_positions_is_found_as_text(llama, tenant):
    say(tenant, "work", f"{LONG} {LONG} {FOLDER} {LONG}")
    memory = LongTerm(llama, tenant)
    [segment] = memory.catch_up("now")
    assert llama.chat.count(LONG) * 3 > llama.max_tokens and tenant.segments()[0].blob is None
    [part] = memory.find("Where are interview notes kept?", "now", (), memory.bytes_of("x" * 400)).back
    assert part.form == "part" and FOLDER in part.text
