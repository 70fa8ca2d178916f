"""The chat says which earlier talk a reply had before it."""

from __future__ import annotations

import pytest
from tiny_chat import tiny_chat

from memkv.chat.chat_command import meter
from memkv.chat.commands import run_command
from memkv.session import Session
from memkv.store import MemoryStore

FOLDER = "Interview notes are kept in the red folder, and nowhere else."


def test_why_names_session_day_score_and_bytes(store_folder, capsys: pytest.CaptureFixture[str]) -> None:
    model = tiny_chat("llama")
    with MemoryStore.open(store_folder) as store:
        tenant = store.tenant("ada")
        with Session(model, tenant, "tuesday") as session:
            session.turn(FOLDER, max_new_tokens=4)
        with Session(model, tenant, "today") as session:
            meter(session, session.turn("Where are interview notes kept?", max_new_tokens=4))
            said = capsys.readouterr().err
            assert "brought back from session tuesday, items 1 to 2" in said and "taken in as cache" in said
            run_command(session, "/why")
            shown = capsys.readouterr().out
            assert "session tuesday, items 1 to 2" in shown and "cache" in shown and "KiB" in shown
            run_command(session, "/memory")
            assert "From our conversation of" in capsys.readouterr().out
            run_command(session, "/why 1")
            assert FOLDER in capsys.readouterr().out.replace("\n", " ")
            session.turn("Thank you.", max_new_tokens=4)
            run_command(session, "/why")
            assert "Nothing was brought back" in capsys.readouterr().out


def test_what_was_too_large_is_said_with_its_size(store_folder, capsys: pytest.CaptureFixture[str]) -> None:
    model = tiny_chat("llama")
    with MemoryStore.open(store_folder) as store:
        tenant = store.tenant("ada")
        with Session(model, tenant, "tuesday") as session:
            session.turn(
                "We spoke of ducks and of the weather over the harbour for a long while. " * 20, max_new_tokens=4
            )
        with Session(model, tenant, "today", context_budget=model.profile.at(1500)) as session:
            meter(session, session.turn("Which birds did I mention, and was it raining at the port?", max_new_tokens=4))
            assert "not brought back, as it is too large: session tuesday" in capsys.readouterr().err
            run_command(session, "/why")
            shown = capsys.readouterr().out.replace("\n", " ")
            assert "Nothing was brought back" in shown and "--context-budget makes room." in shown
