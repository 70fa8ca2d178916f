"""The memory API: what a session holds, what happened, and what can be done about it."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient
from serving import application, ask

from memkv.chat.server.desk import Limits
from memkv.model import HybridModel
from memkv.store import NewMemory

URL = "/v1/chat/completions"
RULE = "Headlines must have at most nine words."


def say(client: TestClient, text: str, session: str = "s") -> None:
    """A turn."""
    response = client.post(URL, json=ask(text, session))
    assert response.status_code == 200, response.text


def talk(client: TestClient, turns: int, session: str = "s") -> None:
    """Some."""
    for turn in range(turns):
        say(client, f"Question {turn}: what of item {turn * 7}?", session)


def test_a_session_is_begun_listed_found_and_forgotten(client: TestClient) -> None:
    new = client.post("/api/sessions", json={"name": "s", "system": "Be brief.", "strategy": "truncate"})
    assert new.status_code == 201 and new.json()["strategy"] == "truncate" and new.json()["head"] == 0
    assert client.post("/api/sessions", json={"name": "s"}).status_code == 409
    say(client, "The canary is called Kiwi.")
    say(client, "Good morning.", "other")
    assert [each["name"] for each in client.get("/api/sessions").json()] == ["other", "s"]
    (found,) = client.get("/api/sessions", params={"q": "kiwi"}).json()
    assert found["name"] == "s" and found["title"] == "The canary is called Kiwi." and found["cache_bytes"] > 0
    items = client.get("/api/sessions/s/memories").json()
    assert [each["role"] for each in items] == ["system", "user", "assistant"]
    assert client.get("/api/sessions/s/memories", params={"limit": 1, "offset": 1}).json() == items[1:2]
    assert client.delete("/api/sessions/s").status_code == 204
    assert client.get("/api/sessions/s").status_code == 404
    assert client.get("/api/search", params={"q": "Kiwi"}).json() == []


def test_a_session_shows_its_bytes_live_and_at_rest(client: TestClient) -> None:
    talk(client, 2)
    view = client.get("/api/sessions/s").json()
    assert view["live"]["payload"] == sum(view["live"]["by_kind"].values()) <= view["budget"]
    assert view["stored_bytes"] >= view["live"]["payload"] and view["live"]["tokens"] > 0
    assert [each["n"] for each in view["context"]] == [1, 2, 3, 4]
    assert view["opened"]["how"] == "new"
    status = client.get("/api/status").json()
    assert status["live_cache_bytes"] == view["live"]["payload"] and status["usage"]["blobs"] == view["stored_bytes"]


def test_a_compaction_is_seen_made_and_taken_back(client: TestClient) -> None:
    client.post("/api/sessions", json={"name": "s", "strategy": "pinned"})
    say(client, RULE)
    talk(client, 4)
    before = client.get("/api/sessions/s").json()
    seen = client.post("/api/sessions/s/compactions", json={"preview": True}).json()
    assert seen["preview"] and seen["after"] < seen["before"] and len(seen["ledger"]) == len(before["context"])
    assert client.get("/api/sessions/s").json()["head"] == before["head"]
    done = client.post("/api/sessions/s/compactions", json={}).json()
    assert {**done, "preview": True} == seen
    (event,) = client.get("/api/sessions/s/events", params={"kind": "compaction"}).json()
    assert event["data"]["strategy"] == "pinned" and event["data"]["after"] == done["after"]
    again = client.delete("/api/sessions/s/compactions/last").json()
    assert [each["n"] for each in again["context"]] == [each["n"] for each in before["context"]]
    assert client.delete("/api/sessions/s/compactions/last").status_code == 404
    refused = client.post("/api/sessions/s/compactions", json={"budget": "60 MiB"})
    assert refused.status_code == 409 and refused.json()["error"]["code"] == "did_not_shrink"


def test_rules_are_pinned_edited_and_forgotten_and_the_lost_comes_back(client: TestClient) -> None:
    client.post("/api/sessions", json={"name": "s", "strategy": "truncate"})
    say(client, "The canary is called Kiwi.")
    talk(client, 4)
    assert client.post("/api/sessions/s/pins", json={"text": RULE}).status_code == 201
    client.post("/api/sessions/s/compactions", json={})
    lost = client.get("/api/sessions/s/memories/1").json()
    assert not lost["in_context"] and lost["compactions"][0]["status"] == "store_only"
    view = client.post("/api/sessions/s/memories/1/back").json()
    assert view["context"][-1]["kind"] == "recalled" and view["context"][-1]["text"] == "The canary is called Kiwi."
    assert client.post("/api/sessions/s/memories/1/back").status_code == 400
    rules = client.get("/api/sessions/s/memories", params={"kind": "rule"}).json()
    edited = client.patch(f"/api/sessions/s/memories/{rules[0]['n']}", json={"text": "Seven words at most."})
    assert edited.status_code == 200
    assert client.patch("/api/sessions/s/memories/1", json={"text": "It is a parrot."}).status_code == 400
    assert client.delete("/api/sessions/s/memories/1").status_code == 200
    assert client.get("/api/search", params={"q": "Kiwi"}).json() == []
    assert client.delete("/api/sessions/s/memories/1").status_code == 404
    say(client, "And?")


def test_the_last_exchange_is_taken_back_to_say_it_again(client: TestClient) -> None:
    talk(client, 2)
    assert client.delete("/api/sessions/s/turns/last").json() == {"text": "Question 1: what of item 7?"}
    assert [each["n"] for each in client.get("/api/sessions/s/memories").json()] == [1, 2]
    say(client, "Question 1: what of item 7?")
    client.delete("/api/sessions/s/turns/last")
    client.delete("/api/sessions/s/turns/last")
    assert client.delete("/api/sessions/s/turns/last").status_code == 404
    say(client, "Good morning.")
    assert "rebuilt" not in [each["kind"] for each in client.get("/api/sessions/s/events").json()]
    n = client.get("/api/sessions/s/memories").json()[0]["n"]
    client.post("/api/sessions/s/pins", json={"text": RULE, "sources": [n]})
    refused = client.delete("/api/sessions/s/turns/last")
    assert refused.status_code == 409 and "would go with it" in refused.json()["error"]["message"]


def test_a_session_travels_as_a_file(client: TestClient) -> None:
    talk(client, 2)
    file = client.get("/api/sessions/s/export")
    assert file.status_code == 200 and "s.memkv" in file.headers["content-disposition"]
    for content, name, status in (
        (file.content, "t", 201), (file.content, None, 409), (file.content[:-7], "u", 400), (b"", "v", 400),
        (file.content, "a/b", 400),
    ):  # fmt: skip
        params = {} if name is None else {"name": name}
        assert client.post("/api/imports", content=content, params=params).status_code == status, name
    view = client.post("/api/sessions/t/open", json={}).json()
    assert view["opened"]["how"] == "restored"
    assert [each["name"] for each in client.get("/api/sessions").json()] == ["t", "s"]


def test_why_names_the_memories_of_the_last_answer(client: TestClient) -> None:
    for turn in range(3):
        say(client, f"The canary of the Turin office is called Kiwi {turn}.", "past")
    client.delete("/api/sessions/none")
    say(client, "Good morning.", "present")
    say(client, "What is the canary of the Turin office called?", "present")
    why = client.get("/api/sessions/present/why").json()
    assert why["memories"] and {each["session"] for each in why["memories"]} == {"past"}
    assert all(each["nbytes"] > 0 and 0 < each["score"] <= 1 and each["said"] for each in why["memories"])


def test_idle_caches_go_to_the_store_and_come_back(llama: HybridModel, tmp_path: Path) -> None:
    room = llama.profile.at(600)
    with application(llama, tmp_path / "store", limits=Limits(live_bytes=room)) as app:
        with TestClient(app, base_url="http://127.0.0.1") as client:
            for number in range(8):
                talk(client, 2, f"s{number}")
                assert client.get("/api/status").json()["live_cache_bytes"] <= room
            assert client.get("/api/sessions/s0").json()["live"] is None
            answer = client.post(URL, json=ask("And?", "s0")).json()
            assert answer["usage"]["reused_tokens"] > 0 and answer["memkv"]["session"]["opened"] == "restored"


def test_a_session_that_another_process_wrote_or_forgot_is_noticed(client: TestClient) -> None:
    talk(client, 2)
    tenant = client.app.state.service.desk.store.tenant("default")  # as another process would
    tenant.forget_memory("s", 1)
    assert client.get("/api/sessions/s").json()["live"] is None
    say(client, "And?")
    assert [each["n"] for each in client.get("/api/sessions/s").json()["context"]] == [2, 3, 4, 5, 6]
    tenant.forget_session("s")
    say(client, "Who are you?")
    assert len(client.get("/api/sessions/s").json()["context"]) == 2


def test_a_check_of_all_records_is_the_tenants_own(client: TestClient) -> None:
    talk(client, 1)
    assert client.post("/api/verify").json() == {"problems": []}


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/api/sessions", {"name": ""}, 400),
        ("POST", "/api/sessions", {"name": "a/b"}, 400),
        ("POST", "/api/sessions", {"name": "x", "strategy": "magic"}, 400),
        ("POST", "/api/sessions", {"name": "x", "who": 1}, 400),
        ("GET", "/api/sessions/none", None, 404),
        ("POST", "/api/sessions/none/open", {}, 404),
        ("POST", "/api/sessions/none/compactions", {}, 404),
        ("POST", "/api/sessions/none/pins", {"text": "x"}, 404),
        ("POST", "/api/sessions/s/pins", {"text": " "}, 400),
        ("POST", "/api/sessions/s/compactions", {"strategy": "magic"}, 400),
        ("POST", "/api/sessions/s/compactions", {"budget": "much"}, 400),
        ("GET", "/api/sessions/s/memories/0", None, 400),
        ("GET", "/api/sessions/s/memories/99", None, 404),
        ("GET", "/api/sessions/s/memories/99999999999999999999", None, 400),
        ("GET", "/api/sessions?limit=0", None, 400),
        ("GET", "/api/search", None, 400),
    ],
)
def test_what_cannot_be_done_is_refused_and_changes_nothing(
    client: TestClient, method: str, path: str, body: object, status: int
) -> None:
    talk(client, 1)
    before = client.get("/api/sessions").json()
    response = client.request(method, path, json=body)
    assert response.status_code == status and response.json()["error"]["message"], response.text
    assert client.get("/api/sessions").json() == before


def test_a_thousand_idle_sessions_take_no_bytes_of_cache(client: TestClient) -> None:
    tenant = client.app.state.service.desk.store.tenant("default")
    for number in range(1000):
        record = tenant.create_session(f"s{number}")
        tenant.commit(
            f"s{number}", record.head, memories=[NewMemory("Good morning.", role="user")], context=[1], tokens=b""
        )
    assert len(client.get("/api/sessions", params={"limit": 1000}).json()) == 1000
    assert client.get("/api/status").json()["live_cache_bytes"] == 0
    say(client, "And now?", "s500")
    held = client.get("/api/status").json()["live_cache_bytes"]
    assert held == client.get("/api/sessions/s500").json()["live"]["payload"]


@pytest.mark.parametrize("name", ["<b>bold", "läßt 'es'", "a b", "100%", "?x=1#y"])
def test_any_name_that_the_store_takes_can_be_reached(client: TestClient, name: str) -> None:
    say(client, "Good morning.", name)
    (line,) = client.get("/api/sessions").json()
    assert line["name"] == name
    assert client.get(f"/api/sessions/{quote(name, safe='')}").json()["name"] == name
    assert client.get(f"/api/sessions/{quote(name, safe='')}/export").status_code == 200
