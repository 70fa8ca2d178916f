from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from architectures import NAMED
from talking import POLICY, in_full, talk
from tiny_chat import TEMPLATES, tiny_chat

from memkv.compaction import to_messages
from memkv.errors import (
    BudgetExceeded,
    ConfigError,
    Conflict,
    DidNotShrink,
    FingerprintMismatch,
    InvalidInput,
    NotFound,
    QuotaExceeded,
)
from memkv.model import HybridModel
from memkv.session import Session
from memkv.snapshot import same_tensors
from memkv.store import MemoryStore, TenantStore


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("name", ["llama", "bamba"])
def test_a_turn_reads_only_what_is_new_under_any_template(tenant: TenantStore, name: str, template: str) -> None:
    session = Session(tiny_chat(name, template), tenant, "s", system="Be brief.")
    for turn in range(3):
        tokens = session.tokens
        reply = session.turn(f"Question {turn}?", max_new_tokens=8)
        assert reply.reused_tokens == tokens
        assert reply.prefilled_tokens < 120
        assert reply.prefilled_tokens > 20
    assert len(in_full(session)) == session.tokens


@pytest.mark.parametrize("template", [name for name in TEMPLATES if name != "clock"])
def test_the_cache_holds_just_the_text_of_its_context(tenant: TenantStore, template: str) -> None:
    session = Session(tiny_chat("llama", template), tenant, "s", system="Be brief.")
    talk(session, 3)
    chat = session.model.chat
    assert chat.tokenizer.decode(session.fork().token_ids) == chat.stable(to_messages(session.model, session.context))


@pytest.mark.parametrize("name", NAMED)
def test_a_session_opened_again_goes_on_bit_for_bit(tenant: TenantStore, name: str) -> None:
    model = tiny_chat(name)
    with Session(model, tenant, "s") as session:
        talk(session, 2)
        before = model.capture(session.fork())
    with Session(model, tenant, "s") as session:
        assert (session.opened.how, session.opened.reused_tokens) == ("restored", len(before.token_ids))
        assert session.opened.prefilled_tokens == 0
        assert same_tensors(model.capture(session.fork()), before)
        again = session.turn("And now?", max_new_tokens=8)
    uninterrupted = model.restore(before)
    chat = model.chat
    assert again.reused_tokens == len(uninterrupted)
    assert chat.stop_ids


@pytest.mark.parametrize("codec", ["fp8", "int8", "int4"])
def test_a_quantized_session_is_smaller_and_goes_on(tenant: TenantStore, llama: HybridModel, codec: str) -> None:
    alone = {"memories": False}  # else the second one takes in what the first one said
    with (
        Session(llama, tenant, "plain", **alone) as plain,
        Session(llama, tenant, "small", codec=codec, **alone) as small,
    ):
        talk(plain, 6)
        talk(small, 6)
        assert small.stored_bytes < plain.stored_bytes
    with Session(llama, tenant, "small") as session:
        assert (session.codec_name, session.opened.how) == (codec, "restored")
        assert session.turn("Still there?", max_new_tokens=8).reused_tokens == session.opened.reused_tokens


@pytest.mark.parametrize("codec", ["streaming:0.5", "snapkv:0.5", "kvzip:0.5", "matching:0.5", "h2o:0.5+int4"])
@pytest.mark.parametrize("name", ["llama", "bamba", "deepseek_v3"])
def test_an_evicting_codec_never_costs_a_turn(tenant: TenantStore, name: str, codec: str) -> None:
    model = tiny_chat(name)
    for opening in range(3):
        with Session(model, tenant, "s", codec=codec) as session:
            assert session.opened.how == ("restored" if opening else "new")
            talk(session, 2, start=2 * opening)
    assert len(tenant.session("s").context) == 12
    refused = tenant.events("s", kind="codec_refused")
    assert (len(refused) == 0) == codec.startswith("streaming")


def test_options_left_out_are_what_the_session_was_made_with(tenant: TenantStore, llama: HybridModel) -> None:
    with Session(llama, tenant, "s", context_budget="1 MiB", strategy="pinned", codec="int8") as session:
        talk(session, 1)
    with Session(llama, tenant, "s") as session:
        assert (session.context_budget, session.strategy.name, session.codec_name) == (2**20, "pinned", "int8")


@pytest.mark.parametrize("damage", ["flip", "truncate", "delete", "swap"])
def test_a_damaged_cache_is_rebuilt_from_text_and_the_user_is_told(
    store_folder, llama: HybridModel, damage: str
) -> None:
    with MemoryStore.open(store_folder) as store:
        for name in ("s", "other"):
            with Session(llama, store.tenant("ada"), name) as session:
                talk(session, 2, start=len(name))
                tokens = session.fork().token_ids
        files = {path.name: path for path in (store_folder / "blobs").rglob("*") if path.is_file()}
        mine = files[store.tenant("ada").session("other").blob.id]
        match damage:
            case "flip":
                data = bytearray(mine.read_bytes())
                data[len(data) // 2] ^= 1
                mine.write_bytes(data)
            case "truncate":
                mine.write_bytes(mine.read_bytes()[:-100])
            case "delete":
                mine.unlink()
            case "swap":
                mine.write_bytes(files[store.tenant("ada").session("s").blob.id].read_bytes())
    with MemoryStore.open(store_folder) as store:
        with Session(llama, store.tenant("ada"), "other") as session:
            assert session.opened.how == "rebuilt"
            assert session.opened.reason
            assert session.fork().token_ids == tokens
            talk(session, 1)
            assert "rebuilt" in [event.kind for event in store.tenant("ada").events("other")]
        with Session(llama, store.tenant("ada"), "other") as session:
            assert session.opened.how == "restored"
        store.gc()
        assert store.verify() == []


def test_another_model_is_refused_by_name_of_field_and_rebuild_reads_the_text(
    tenant: TenantStore, llama: HybridModel
) -> None:
    with Session(llama, tenant, "s") as session:
        talk(session, 2)
    other = tiny_chat("bamba")
    with pytest.raises(FingerprintMismatch, match="weights.*--rebuild") as caught:
        Session(other, tenant, "s")
    assert "cache_layout" in caught.value.fields
    with Session(llama, tenant, "s") as session:
        assert session.opened.how == "restored"
    with Session(other, tenant, "s", rebuild=True) as session:
        assert session.opened.how == "rebuilt"
        talk(session, 1, start=2)


def test_two_writers_one_wins_the_other_gets_a_conflict_and_can_go_on(tenant: TenantStore, llama: HybridModel) -> None:
    first, second = Session(llama, tenant, "s"), Session(llama, tenant, "s")
    first.turn("From the first.", max_new_tokens=4)
    with pytest.raises(Conflict):
        second.turn("From the second.", max_new_tokens=4)
    assert [memory.text for memory in tenant.memories("s")][0] == "From the first."
    second.reload()
    assert second.context == first.context
    second.turn("Now from the second.", max_new_tokens=4)


@pytest.mark.parametrize(("text", "error"), [("", InvalidInput), (" \n", InvalidInput), ("word " * 4000, InvalidInput)])
def test_a_message_that_cannot_be_read_changes_nothing(
    tenant: TenantStore, llama: HybridModel, text: str, error: type[Exception]
) -> None:
    session = Session(llama, tenant, "s")
    talk(session, 1)
    before = session.tokens
    with pytest.raises(error):
        session.turn(text)
    assert session.tokens == before
    talk(session, 1, start=1)


def test_a_message_larger_than_the_budget_says_what_would_do(tenant: TenantStore, llama: HybridModel) -> None:
    session = Session(llama, tenant, "s", context_budget=llama.profile.at(200))
    with pytest.raises(BudgetExceeded) as caught:
        session.turn("x" * 300)
    with Session(llama, tenant, "t", context_budget=caught.value.smallest, strategy="truncate") as larger:
        larger.turn("x" * 300, max_new_tokens=1)


def test_a_budget_too_small_names_the_smallest_that_works(tenant: TenantStore, llama: HybridModel) -> None:
    with pytest.raises(BudgetExceeded) as caught:
        Session(llama, tenant, "s", context_budget=100)
    assert not tenant.exists("s")
    with pytest.raises(BudgetExceeded):
        Session(llama, tenant, "s", context_budget=caught.value.smallest - 1)
    Session(llama, tenant, "s", context_budget=caught.value.smallest)


@pytest.mark.parametrize("options", [{"strategy": "magic"}, {"codec": "zip"}])
def test_an_unknown_option_names_the_known_ones(tenant: TenantStore, llama: HybridModel, options: dict) -> None:
    with pytest.raises(ConfigError, match="truncate|int4"):
        Session(llama, tenant, "s", **options)
    assert not tenant.exists("s")


def test_a_cache_that_is_bounded_anyway_is_not_compacted(tenant: TenantStore) -> None:
    session = Session(tiny_chat("recurrent_gemma"), tenant, "s")
    talk(session, 3)
    with pytest.raises(DidNotShrink):
        session.compact()


@pytest.mark.parametrize("strategy", ["truncate", "summary", "pinned", "pinned+summary"])
@pytest.mark.parametrize("name", ["llama", "bamba"])
def test_over_the_budget_a_session_compacts_itself_and_goes_on(tenant: TenantStore, name: str, strategy: str) -> None:
    model = tiny_chat(name)
    session = Session(model, tenant, "s", context_budget=model.profile.at(700), strategy=strategy)
    session.turn(POLICY, max_new_tokens=8)
    talk(session, 12)
    assert session.size.payload <= session.context_budget
    compactions = tenant.events("s", kind="compaction")
    assert compactions
    for event in compactions:
        assert event.data["after"] < event.data["before"]
        assert all(entry["memory"] <= 40 for entry in event.data["ledger"])
    kinds = {item.kind for item in session.context}
    assert ("rule" in kinds) == ("pinned" in strategy)
    if "pinned" in strategy:
        kept = {item.text for item in session.context if item.kind == "rule"}
        assert {"Never name a source.", "Headlines must be at most 62 characters."} <= kept
        assert "We meet on Tuesdays." not in kept
    assert len(in_full(session)) == session.tokens
    with Session(model, tenant, "s") as again:
        assert (again.opened.how, again.context) == ("restored", session.context)


def test_a_compaction_that_does_not_shrink_raises_and_changes_nothing(tenant: TenantStore, llama: HybridModel) -> None:
    session = Session(llama, tenant, "s", strategy="truncate")
    talk(session, 1)
    context, tokens = session.context, session.tokens
    with pytest.raises(DidNotShrink, match="nothing was changed"):
        session.compact(budget="60 MiB")
    assert (session.context, session.tokens) == (context, tokens)


def test_pinned_by_hand_a_rule_survives_every_compaction(tenant: TenantStore, llama: HybridModel) -> None:
    session = Session(llama, tenant, "s", strategy="pinned", context_budget=llama.profile.at(600))
    session.pin("The moon is not a source.")
    talk(session, 20)
    assert len(tenant.events("s", kind="compaction")) > 1
    assert "The moon is not a source." in [item.text for item in session.context]
    with pytest.raises(InvalidInput):
        session.pin("  ")


def test_forgetting_a_message_takes_what_was_made_from_it_and_leaves_the_rest(
    tenant: TenantStore, llama: HybridModel
) -> None:
    session = Session(llama, tenant, "s", strategy="pinned+summary")
    session.turn(POLICY, max_new_tokens=4)
    talk(session, 3)
    session.compact()
    assert any(item.kind == "rule" for item in session.context)
    session.forget(1)
    texts = [memory.text for memory in tenant.memories("s")]
    assert POLICY not in texts
    assert not any("62 characters" in text for text in texts)
    assert any("Question 2" in item.text for item in session.context)
    assert session.opened.how == "rebuilt"
    talk(session, 1, start=9)
    with pytest.raises(NotFound):
        session.forget(1)


@pytest.mark.parametrize("template", ["strict", "chatml"])
def test_a_forgotten_question_leaves_a_conversation_that_the_template_takes(tenant: TenantStore, template: str) -> None:
    session = Session(tiny_chat("llama", template), tenant, "s")
    talk(session, 3)
    session.forget(3)
    talk(session, 1, start=5)
    assert session.turn("And?", max_new_tokens=4).reused_tokens > 0


def test_a_quota_refuses_the_turn_and_the_session_goes_on_when_it_is_raised(
    tenant: TenantStore, llama: HybridModel
) -> None:
    session = Session(llama, tenant, "s")
    talk(session, 1)
    before = session.context
    tenant.set_limits(quota_bytes=tenant.usage().total, ttl_seconds=None)
    with pytest.raises(QuotaExceeded):
        talk(session, 1, start=1)
    assert session.context == before
    tenant.set_limits(quota_bytes=None, ttl_seconds=None)
    talk(session, 1, start=1)
    assert len(session.context) == 4


def test_interrupting_the_reply_keeps_what_was_written(tenant: TenantStore, llama: HybridModel) -> None:
    session, heard = Session(llama, tenant, "s"), []

    def stop_after_five(text: str) -> None:
        heard.append(text)
        if len(heard) == 5:
            raise KeyboardInterrupt

    reply = session.turn("Tell me all.", on_text=stop_after_five, max_new_tokens=50)
    assert reply.interrupted
    assert reply.text.startswith("".join(heard))
    stored = tenant.memories("s")[-1]
    assert (stored.text, stored.data) == (reply.text, {"interrupted": True})
    talk(session, 1)
    assert len(in_full(session)) == session.tokens


def test_interrupting_before_the_reply_takes_the_turn_back(
    tenant: TenantStore, llama: HybridModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session(llama, tenant, "s")
    talk(session, 1)
    before, context = session.tokens, session.context

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        session.turn("Tell me all.", progress=stop)
    assert (session.tokens, session.context) == (before, context)
    talk(session, 1, start=1)


def test_a_system_prompt_is_read_first_and_fixed(tenant: TenantStore, llama: HybridModel) -> None:
    with Session(llama, tenant, "s", system="Answer in French.") as session:
        talk(session, 1)
        assert session.context[0].kind == "system"
    with pytest.raises(InvalidInput, match="fixed"):
        Session(llama, tenant, "s", system="Answer in German.")


def test_when_positions_run_out_the_session_makes_room(tenant: TenantStore) -> None:
    model = tiny_chat("llama", max_position_embeddings=900)
    session = Session(model, tenant, "s", strategy="truncate")
    talk(session, 20)
    assert tenant.events("s", kind="compaction")
    assert session.tokens < 900


def test_the_logits_of_a_restored_session_agree_with_a_cache_free_pass(tenant: TenantStore) -> None:
    for name in ("llama", "bamba", "jamba", "recurrent_gemma"):
        model = tiny_chat(name)
        with Session(model, tenant, name, memories=False) as session:
            talk(session, 2)
        with Session(model, tenant, name, memories=False) as session:
            live = session.fork()
            logits_V = model.extend(live, [20, 21, 22])
            reference_V = model.one_pass_logits(live.token_ids)[-1]
            assert torch.allclose(logits_V, reference_V, atol=2e-5 * reference_V.abs().max().item())


def test_pinning_before_the_first_turn_keeps_the_system_prompt(tenant: TenantStore, llama: HybridModel) -> None:
    session = Session(llama, tenant, "s", system="Answer in French.")
    session.pin("Never shout.")
    talk(session, 1)
    assert [item.kind for item in session.context] == ["system", "message", "message"]


def test_a_summary_is_written_once_also_where_the_aim_cannot_be_met(
    tenant: TenantStore, llama: HybridModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session(llama, tenant, "s", strategy="summary")
    talk(session, 4)
    generate, written = HybridModel.generate, []

    def counted(*args: object, **kwargs: object) -> Iterator[int]:
        written.append(1)
        return generate(*args, **kwargs)

    monkeypatch.setattr(HybridModel, "generate", counted)
    found = session.compact()
    assert found.after > tenant.events("s", kind="compaction")[-1].data["budget"]
    assert len(written) == 1


def test_a_closed_session_does_not_write(tenant: TenantStore, llama: HybridModel) -> None:
    with Session(llama, tenant, "s") as session:
        talk(session, 1)
    with pytest.raises(InvalidInput, match="closed"):
        talk(session, 1, start=1)
    assert Session(llama, tenant, "s").opened.how == "restored"


def test_a_writer_that_comes_while_a_session_is_rebuilt_is_not_lost(tenant: TenantStore, llama: HybridModel) -> None:
    with Session(llama, tenant, "s") as session:
        talk(session, 2)
    other = Session(llama, tenant, "s")
    tenant.quarantine("s", "for the test")
    told: list[int] = []

    def write_meanwhile(done: int, total: int) -> None:
        if not told:
            told.append(done)
            other.turn("From the other.", max_new_tokens=4)

    late = Session(llama, tenant, "s", progress=write_meanwhile)
    assert told
    assert "From the other." in [item.text for item in late.context]
    late.turn("From the late one.", max_new_tokens=4)
    assert Session(llama, tenant, "s").opened.how == "restored"


def test_a_commit_that_ctrl_c_cut_off_after_the_transaction_is_found(
    tenant: TenantStore, llama: HybridModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session(llama, tenant, "s")
    talk(session, 1)
    commit = TenantStore.commit

    def commit_then_interrupt(*args: object, **kwargs: object) -> None:
        commit(*args, **kwargs)
        raise KeyboardInterrupt

    monkeypatch.setattr(TenantStore, "commit", commit_then_interrupt)
    with pytest.raises(KeyboardInterrupt):
        talk(session, 1, start=1)
    monkeypatch.undo()
    assert session.moved
    session.reload()
    assert len(session.context) == 4
    talk(session, 1, start=2)


def test_room_made_for_a_message_is_told_and_belongs_to_its_turn(tenant: TenantStore) -> None:
    session = Session(tiny_chat("llama", max_position_embeddings=900), tenant, "s", strategy="truncate")
    replies = [session.turn(f"Question {turn}: what of it?", max_new_tokens=8) for turn in range(16)]
    told = sum(event.kind == "compaction" for reply in replies for event in reply.events)
    assert told == len(tenant.events("s", kind="compaction")) > 0
    assert tenant.session("s").head == len(replies)


def test_a_hybrid_whose_state_outweighs_its_attention_still_makes_room(tenant: TenantStore) -> None:
    model = tiny_chat("bamba", max_position_embeddings=900, mamba_d_state=512)
    session = Session(model, tenant, "s", strategy="truncate")
    talk(session, 16)
    assert tenant.events("s", kind="compaction")
    tenant.quarantine("s", "for the test")
    smaller = Session(model, tenant, "s", context_budget=model.profile.at(200))
    assert smaller.opened.how == "rebuilt"
    talk(smaller, 1, start=20)


def test_a_reply_of_no_tokens_and_positions_that_do_not_do_are_refused(tenant: TenantStore, llama: HybridModel) -> None:
    session = Session(llama, tenant, "s")
    with pytest.raises(InvalidInput, match="at least 1"):
        session.turn("Hello?", max_new_tokens=0)
    with pytest.raises(InvalidInput, match="shorter reply"):
        session.turn("Hello?", max_new_tokens=4000)


def test_forgetting_a_rule_takes_the_summaries_that_were_written_with_it(
    tenant: TenantStore, llama: HybridModel
) -> None:
    session = Session(llama, tenant, "s", strategy="pinned+summary")
    rule = session.pin("The moon is not a source.")
    for start in (0, 10):
        talk(session, 10, start=start)
        session.compact()
    assert [item for item in session.context if item.kind == "summary"]
    session.forget(rule)
    assert not [item for item in session.context if item.kind == "summary"]
