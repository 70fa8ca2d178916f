"""Changes of a context by hand: seen before they are made, taken back, put in other words; and talk from elsewhere."""

from __future__ import annotations

import pytest
from talking import POLICY, in_full, talk

from memkv.errors import BudgetExceeded, InvalidInput, NotFound
from memkv.model import HybridModel
from memkv.session import Session
from memkv.store import TenantStore
from memkv.turns import Message


def test_a_preview_says_what_would_come_and_changes_nothing(tenant: TenantStore, llama: HybridModel) -> None:
    session = Session(llama, tenant, "s", strategy="truncate")
    talk(session, 4)
    head, items = tenant.session("s").head, session.context
    seen = session.compact(preview=True)
    assert seen.after < seen.before == session.size.payload
    assert (tenant.session("s").head, session.context) == (head, items)
    done = session.compact()
    assert (done.items, done.after) == (seen.items, seen.after) == (session.context, session.size.payload)


def test_a_compaction_is_taken_back_with_what_was_said_since(tenant: TenantStore, llama: HybridModel) -> None:
    session = Session(llama, tenant, "s", strategy="pinned", recall=False, memories=False)
    session.turn(POLICY, max_new_tokens=4)
    talk(session, 3)
    before = session.context
    session.compact()
    assert len(session.context) < len(before)
    talk(session, 1, start=9)
    since = session.context[-2:]
    assert session.undo() == session.size.payload
    assert session.context == (*before, *since) and in_full(session) == session.fork().token_ids
    assert tenant.events("s", "undone")
    with pytest.raises(NotFound, match="no compaction to undo"):
        session.undo()
    again = Session(llama, tenant, "s")
    assert again.opened.how == "restored" and again.context == session.context
    talk(again, 1)


def test_what_was_forgotten_does_not_come_back_with_an_undo(tenant: TenantStore, llama: HybridModel) -> None:
    session = Session(llama, tenant, "s", strategy="truncate", recall=False, memories=False)
    session.turn("The canary is called Kiwi.", max_new_tokens=4)
    talk(session, 3)
    session.compact()
    session.forget(1)
    session.undo()
    assert "Kiwi" not in " ".join(item.text for item in session.context)
    talk(session, 1)


def test_a_context_that_does_not_fit_is_not_brought_back(tenant: TenantStore, llama: HybridModel) -> None:
    session = Session(llama, tenant, "s", strategy="truncate", recall=False, memories=False)
    with pytest.raises(NotFound, match="no compaction to undo"):
        session.undo()
    talk(session, 6)
    whole = session.size.payload
    session.compact()
    smaller = Session(llama, tenant, "s", context_budget=whole - 1)
    kept = smaller.context
    with pytest.raises(BudgetExceeded) as error:
        smaller.undo()
    assert error.value.smallest > whole - 1 and smaller.context == kept


def test_a_rule_in_other_words_takes_the_old_ones_place(tenant: TenantStore, llama: HybridModel) -> None:
    session = Session(llama, tenant, "s", strategy="pinned", recall=False, memories=False)
    talk(session, 3)
    number = session.pin("Headlines have nine words.")
    session.compact()
    new = session.edit(number, "Headlines have seven words.")
    rules = [item.text for item in session.context if item.kind == "rule"]
    assert rules == ["Headlines have seven words."] and in_full(session) == session.fork().token_ids
    talk(session, 4)
    session.compact()
    assert [item.n for item in session.context if item.kind == "rule"] == [new]
    assert tenant.memory("s", number).text == "Headlines have nine words.", "the store keeps what it was"


def test_an_edit_survives_an_undo_and_a_forget(tenant: TenantStore, llama: HybridModel) -> None:
    session = Session(llama, tenant, "s", strategy="pinned", recall=False, memories=False)
    talk(session, 3)
    number = session.pin("Headlines have nine words.")
    session.compact()
    talk(session, 3)
    session.compact()
    new = session.edit(number, "Headlines have seven words.")
    session.undo()
    assert [item.text for item in session.context if item.kind == "rule"] == ["Headlines have seven words."]
    session.forget(new)
    talk(session, 3)
    session.compact()
    assert not [item for item in session.context if item.kind == "rule"], "the old words do not come back"


def test_a_rule_that_no_context_holds_is_not_pinned(tenant: TenantStore, llama: HybridModel) -> None:
    session = Session(llama, tenant, "s", context_budget=llama.profile.at(400), memories=False)
    number = session.pin("Headlines have nine words.")
    for change in (lambda: session.pin("word " * 200), lambda: session.edit(number, "word " * 200)):
        with pytest.raises(BudgetExceeded):
            change()


def test_what_was_said_is_not_edited(tenant: TenantStore, llama: HybridModel) -> None:
    session = Session(llama, tenant, "s")
    talk(session, 1)
    head = tenant.session("s").head
    for n, text, error in ((1, "Other words", InvalidInput), (1, " ", InvalidInput), (99, "None", NotFound)):
        with pytest.raises(error):
            session.edit(n, text)
    assert tenant.session("s").head == head


def test_what_was_said_elsewhere_becomes_part_of_the_session(tenant: TenantStore, llama: HybridModel) -> None:
    history = [Message(role="user", content="Good morning."), Message(role="assistant", content="And to you.")]
    session = Session(llama, tenant, "s", system="Be brief.")
    reply = session.turn("What did I say?", max_new_tokens=4, history=history)
    assert [(item.role, item.text) for item in session.context[:4]] == [
        ("system", "Be brief."), ("user", "Good morning."), ("assistant", "And to you."), ("user", "What did I say?")
    ]  # fmt: skip
    assert reply.reused_tokens == 0 and len(in_full(session)) == session.tokens
    with pytest.raises(BudgetExceeded):
        long = [Message(role="user", content="word " * 400)]
        Session(llama, tenant, "t", context_budget=llama.profile.at(200)).turn("And?", history=long)


def test_what_left_the_context_is_quoted_before_the_next_message(tenant: TenantStore, llama: HybridModel) -> None:
    session = Session(llama, tenant, "s", strategy="truncate", recall=False, memories=False)
    session.turn("The canary is called Kiwi.", max_new_tokens=4)
    talk(session, 4)
    with pytest.raises(InvalidInput, match="is in the context"):
        session.bring_back(1)
    session.compact()
    session.bring_back(1)
    with pytest.raises(InvalidInput, match="is in the context"):
        session.bring_back(1)
    again = Session(llama, tenant, "s", recall=False, memories=False)
    assert again.opened.how == "restored"
    reply = again.turn("And?", max_new_tokens=4)
    assert reply.reused_tokens > 0 and "Kiwi" in llama.chat.decode(again.fork().token_ids)
    assert in_full(again) == again.fork().token_ids


def test_a_reply_ends_before_a_stop_and_nothing_of_it_is_shown(tenant: TenantStore, llama: HybridModel) -> None:
    plain = Session(llama, tenant, "plain", memories=False).turn("What of item 7?", max_new_tokens=24)
    middle = len(plain.text) // 2
    stop = plain.text[middle : middle + 3]
    shown: list[str] = []
    session = Session(llama, tenant, "s", memories=False)
    reply = session.turn("What of item 7?", max_new_tokens=24, on_text=shown.append, stops=[stop, "never said"])
    assert reply.text == plain.text[: plain.text.index(stop)] == "".join(shown) and reply.ended
    assert in_full(session) == session.fork().token_ids
    shown.clear()
    whole = Session(llama, tenant, "t", memories=False).turn(
        "What of item 7?", max_new_tokens=24, on_text=shown.append, stops=["~~~~"]
    )
    assert whole.text == plain.text == "".join(shown) and not whole.ended
