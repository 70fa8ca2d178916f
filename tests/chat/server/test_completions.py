"""The OpenAI protocol: plain conversations and sessions, what is refused, what is counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from serving import ADA, BOB, TOKENS, application, ask

from memkv.chat.server.desk import Limits
from memkv.errors import StorageFull
from memkv.model import HybridModel
from memkv.store import TenantStore

URL = "/v1/chat/completions"


def said(client: TestClient, body: dict[str, Any]) -> dict[str, Any]:
    """The answer to a request that is in order."""
    response = client.post(URL, json=body)
    assert response.status_code == 200, response.text
    return response.json()


def refused(client: TestClient, body: object, status: int) -> dict[str, Any]:
    """The error of a request that is not."""
    response = client.post(URL, json=body)
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"} and error["message"]
    return error


def text_of(answer: dict[str, Any]) -> str:
    """What was answered."""
    return answer["choices"][0]["message"]["content"]


def events(body: str) -> list[dict[str, Any]]:
    """The events of a stream but its last word."""
    lines = [line.removeprefix("data: ") for line in body.splitlines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def test_a_session_goes_on_with_the_new_message_alone(client: TestClient) -> None:
    first = said(client, ask("Good morning.", "s"))
    assert first["choices"][0]["finish_reason"] == "length" and first["usage"]["reused_tokens"] == 0
    second = said(client, ask("And now?", "s"))
    usage = second["usage"]
    assert usage["reused_tokens"] >= first["usage"]["total_tokens"] - 8
    assert usage["prompt_tokens"] + usage["completion_tokens"] == usage["total_tokens"]
    assert usage["prompt_tokens_details"]["cached_tokens"] == usage["reused_tokens"]
    assert usage["cache_bytes"] > first["usage"]["cache_bytes"] > 0
    assert second["memkv"]["session"]["name"] == "s" and second["memkv"]["session"]["messages"] == [3, 4]


def test_a_client_that_sends_the_whole_history_may(client: TestClient) -> None:
    first = said(client, ask("Good morning.", "s"))
    messages = [
        {"role": "user", "content": "Good morning."},
        {"role": "assistant", "content": text_of(first)},
        {"role": "user", "content": "And now?"},
    ]
    assert said(client, {"model": "tiny", "session": "s", "messages": messages})["usage"]["reused_tokens"] > 0
    error = refused(client, {"model": "tiny", "session": "s", "messages": messages}, 400)
    assert "not how session 's' ends, from message 1 of it on" in error["message"]
    assert len(client.get("/api/sessions/s/memories").json()) == 4, "nothing of it was kept"


def test_a_history_from_elsewhere_begins_a_session(client: TestClient) -> None:
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Good "}, {"type": "text", "text": "morning."}]},
        {"role": "assistant", "content": "And to you."},
        {"role": "user", "content": "What did I say?"},
        {"role": "user", "content": "Tell me."},
    ]
    said(client, {"model": "tiny", "session": "s", "messages": messages})
    kept = [(each["role"], each["text"]) for each in client.get("/api/sessions/s/memories").json()[:4]]
    assert kept == [
        ("system", "Be brief."), ("user", "Good morning."), ("assistant", "And to you."),
        ("user", "What did I say?\n\nTell me."),
    ]  # fmt: skip
    error = refused(client, {"model": "tiny", "session": "s", "messages": [
        {"role": "system", "content": "Be long."}, {"role": "user", "content": "Hm?"}]}, 400)  # fmt: skip
    assert "another system prompt" in error["message"]


def test_a_plain_conversation_is_not_read_twice_and_not_kept(client: TestClient) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Good morning."}]
    reused = 0
    for _ in range(3):
        answer = said(client, {"model": "tiny", "messages": messages})
        assert answer["usage"]["reused_tokens"] >= reused
        reused = answer["usage"]["total_tokens"]
        messages += [{"role": "assistant", "content": text_of(answer)}, {"role": "user", "content": "Go on."}]
        assert answer["memkv"]["session"] is None
    assert answer["usage"]["reused_tokens"] > 90 and answer["usage"]["prompt_tokens"] > 110
    fresh = said(client, {"model": "tiny", "messages": [*messages[:1], {"role": "user", "content": "Hello?"}]})
    assert fresh["usage"]["reused_tokens"] == 0
    assert client.get("/api/sessions").json() == []


def test_the_same_conversation_gets_the_same_answer_whether_read_again_or_not(
    client: TestClient, llama: HybridModel, tmp_path: Path
) -> None:
    first = said(client, ask("Good morning."))
    messages = [
        {"role": "user", "content": "Good morning."},
        {"role": "assistant", "content": text_of(first)},
        {"role": "user", "content": "Go on."},
    ]
    again = said(client, {"model": "tiny", "messages": messages})
    with application(llama, tmp_path / "other") as app, TestClient(app, base_url="http://localhost") as other:
        anew = said(other, {"model": "tiny", "messages": messages})
    assert again["usage"]["reused_tokens"] > 0 == anew["usage"]["reused_tokens"]
    assert text_of(again) == text_of(anew)


def test_a_stream_says_the_same_piece_by_piece(client: TestClient) -> None:
    whole = text_of(said(client, ask("Good morning.")))
    body = ask("Good morning.", "s", stream=True, stream_options={"include_usage": True})
    response = client.post(URL, json=body)
    assert response.headers["content-type"].startswith("text/event-stream")
    found = events(response.text)
    deltas = [each["choices"][0]["delta"] for each in found if each["choices"]]
    assert deltas[0] == {"role": "assistant", "content": ""}
    assert "".join(delta.get("content", "") for delta in deltas) == whole
    assert [each["choices"][0]["finish_reason"] for each in found if each["choices"]][-1] == "length"
    assert found[-1]["choices"] == [] and found[-1]["usage"]["completion_tokens"] == 8
    assert found[-2]["memkv"]["session"]["opened"] == "new"
    assert len({each["id"] for each in found}) == 1


def test_a_reply_ends_before_a_stop(client: TestClient) -> None:
    whole = text_of(said(client, ask("Good morning.")))
    cut = said(client, ask("Good morning.", stop=[whole[3:5]]))
    assert text_of(cut) == whole[: whole.index(whole[3:5])] and cut["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("changed", "status", "words"),
    [
        ({"model": "gpt-9"}, 404, "'gpt-9' is not served here"),
        ({"messages": []}, 400, "messages"),
        ({"messages": [{"role": "user", "content": "  "}]}, 400, "The message is empty"),
        ({"messages": [{"role": "assistant", "content": "Hm."}]}, 400, "not the user's"),
        ({"messages": [{"role": "system", "content": "Hm."}]}, 400, "not the user's"),
        ({"messages": [{"role": "robot", "content": "Hm."}]}, 400, "role"),
        ({"messages": "Hm."}, 400, "messages"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            400,
            "content.0.type",
        ),
        ({"n": 2}, 400, "is not done here"),
        ({"tools": [{"type": "function"}]}, 400, "tools"),
        ({"temperature": -1}, 400, "temperature"),
        ({"max_tokens": 0}, 400, "max_tokens"),
        ({"max_tokens": 100_000}, 400, "positions"),
        ({"who": "me"}, 400, "who"),
        ({"session": "a/b"}, 400, "session"),
        ({"session": "s", "strategy": "trained:/etc"}, 400, "strategy"),
        ({"session": "s", "codec": "zip"}, 400, "codec"),
        ({"session": "s", "strategy": "magic"}, 400, "strategy"),
        ({"session": "s", "context_budget": "1 KiB"}, 400, "smallest that works"),
        ({"session": "s", "messages": [{"role": "user", "content": "word " * 4000}]}, 400, ""),
    ],
)
def test_what_cannot_be_answered_is_refused_by_name_and_leaves_nothing(
    client: TestClient, changed: dict[str, Any], status: int, words: str
) -> None:
    error = refused(client, {**ask("Hm?"), **changed}, status)
    assert words in error["message"]
    assert client.get("/api/sessions").json() == []


def test_bodies_that_are_none_or_too_large_are_refused(client: TestClient) -> None:
    for content, status in ((b"{", 400), (b"\xff", 400), (b"[" * 3000, 400), (b" " * (5 << 20), 413)):
        response = client.post(URL, content=content, headers={"Content-Type": "application/json"})
        assert response.status_code == status and response.json()["error"]["message"]
    pieces = (b" " * (1 << 20) for _ in range(6))
    response = client.post(URL, content=pieces, headers={"Content-Type": "application/json"})
    assert response.status_code == 413 and response.json()["error"]["code"] == "request_too_large"


def test_a_token_opens_its_tenant_and_no_other(ada: TestClient) -> None:
    said(ada, ask("The canary is called Kiwi.", "secret"))
    bob = {"Authorization": f"Bearer {BOB}"}
    assert ada.get("/api/sessions", headers=bob).json() == []
    for method, path in (
        ("GET", "/api/sessions/secret"), ("GET", "/api/sessions/secret/memories"), ("DELETE", "/api/sessions/secret"),
        ("GET", "/api/sessions/secret/memories/1"), ("GET", "/api/sessions/secret/export"),
        ("GET", "/api/sessions/secret/events"), ("GET", "/api/sessions/secret/why"),
        ("DELETE", "/api/sessions/secret/memories/1"), ("DELETE", "/api/sessions/secret/turns/last"),
    ):  # fmt: skip
        assert ada.request(method, path, headers=bob).status_code == 404, path
    assert ada.get("/api/search", params={"q": "Kiwi"}, headers=bob).json() == []
    assert len(ada.get("/api/search", params={"q": "Kiwi"}).json()) == 1
    plain = said(ada, ask("The canary is called Kiwi."))
    again = ada.post(URL, headers=bob, json={"model": "tiny", "messages": [
        {"role": "user", "content": "The canary is called Kiwi."},
        {"role": "assistant", "content": text_of(plain)}, {"role": "user", "content": "Hm?"}]})  # fmt: skip
    assert again.json()["usage"]["reused_tokens"] == 0, "not even the time to the first token tells"


@pytest.mark.parametrize("header", [None, "Bearer", "Bearer nobody-0123456789", f"Basic {ADA}", ADA])
def test_without_a_token_that_opens_something_all_is_closed(ada: TestClient, header: str | None) -> None:
    del ada.headers["Authorization"]
    headers = {} if header is None else {"Authorization": header}
    for path in ("/v1/models", "/api/sessions", "/api/status", "/metrics"):
        response = ada.get(path, headers=headers)
        assert response.status_code == 401 and response.json()["error"]["code"] == "invalid_api_key"
        assert response.headers["www-authenticate"] == "Bearer"
    assert ada.get("/healthz", headers=headers).json()["status"] == "ok"


def test_a_quota_and_a_limit_of_sessions_are_said(llama: HybridModel, tmp_path: Path) -> None:
    with application(llama, tmp_path / "store", TOKENS, Limits(sessions=1)) as app:
        app.state.service.desk.store.tenant("ada").set_limits(quota_bytes=2000, ttl_seconds=None)
        with TestClient(app, headers={"Authorization": f"Bearer {ADA}"}) as client:
            error = refused(client, ask("Good morning.", "s"), 507)
            assert error["code"] == "quota_exceeded"
            assert client.get("/api/sessions").json() == []
            app.state.service.desk.store.tenant("ada").set_limits(quota_bytes=None, ttl_seconds=None)
            said(client, ask("Good morning.", "s"))
            assert refused(client, ask("Good morning.", "t"), 429)["code"] == "too_many_sessions"


def test_a_model_that_fails_leaves_the_session_as_it_was(
    client: TestClient, llama: HybridModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    said(client, ask("Good morning.", "s"))
    before = client.get("/api/sessions/s").json()

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a kernel died with /home/ada/secret in its message")

    with monkeypatch.context() as patched:
        patched.setattr(llama, "generate", broken)
        error = refused(client, ask("And?", "s"), 500)
        assert "secret" not in error["message"] and "as it was before" in error["message"]
        body = client.post(URL, json=ask("And?", "s", stream=True)).text  # as a status, or in a stream that has begun
        assert "internal_error" in body and "[DONE]" not in body and "secret" not in body
    after = client.get("/api/sessions/s").json()
    assert (before["head"], before["context"]) == (after["head"], after["context"])
    assert said(client, ask("And?", "s"))["usage"]["reused_tokens"] > 0


def test_a_full_disk_is_said_and_the_session_goes_on_when_there_is_room(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    said(client, ask("Good morning.", "s"))

    def full(*_: object, **__: object) -> None:
        raise StorageFull("The disk is full", "Free some space.")

    with monkeypatch.context() as patched:
        patched.setattr(TenantStore, "commit", full)
        assert refused(client, ask("And?", "s"), 507)["code"] == "storage_full"
        body = client.post(URL, json=ask("And?", "s", stream=True)).text  # it was begun before the disk was full
        assert '"code": "storage_full"' in body and "[DONE]" not in body
    assert said(client, ask("And?", "s"))["usage"]["reused_tokens"] > 0
    assert len(client.get("/api/sessions/s/memories").json()) == 4


def test_models_are_listed_and_requests_are_counted(client: TestClient) -> None:
    assert [each["id"] for each in client.get("/v1/models").json()["data"]] == ["tiny"]
    assert client.get("/v1/models/tiny").json()["max_tokens"] > 0
    assert client.get("/v1/models/none").status_code == 404
    said(client, ask("Good morning.", "s"))
    page = client.get("/metrics").text
    assert 'memkv_turns_total{finish="length"} 1.0' in page and 'memkv_tokens_total{kind="written"} 8.0' in page
    held = float(next(line for line in page.splitlines() if line.startswith("memkv_live_cache_bytes")).split()[1])
    assert held == client.get("/api/sessions/s").json()["live"]["payload"]


def test_a_system_prompt_is_kept_until_the_first_message(client: TestClient, llama: HybridModel) -> None:
    client.post("/api/sessions", json={"name": "s", "system": "Be brief."})
    client.app.state.service.desk.drop(("default", "s"))  # as a restart does
    said(client, ask("Good morning.", "s", context_budget="1 MiB"))
    assert [each["role"] for each in client.get("/api/sessions/s").json()["context"]] == ["system", "user", "assistant"]


def test_a_first_message_that_fails_leaves_the_session_that_was_begun(client: TestClient) -> None:
    client.post("/api/sessions", json={"name": "s", "system": "Be brief."})
    refused(client, ask("word " * 4000, "s"), 400)
    assert client.get("/api/sessions/s").status_code == 200


def test_more_cache_than_the_server_holds_is_not_promised(llama: HybridModel, tmp_path: Path) -> None:
    with application(llama, tmp_path / "store", limits=Limits(live_bytes=llama.profile.at(500))) as app:
        with TestClient(app, base_url="http://127.0.0.1") as client:
            assert "this server holds" in refused(client, ask("Hm?", "s", context_budget="64 MiB"), 400)["message"]
            said(client, ask("Hm?", "s"))
            assert client.get("/api/sessions/s").json()["budget"] == llama.profile.at(500)


def test_a_session_knows_what_was_said_in_another_that_is_still_open(client: TestClient) -> None:
    said(client, ask("Good morning.", "a"))
    said(client, ask("The canary of the Turin office is called Kiwi.", "b"))
    said(client, ask("What is the canary of the Turin office called?", "a"))
    assert {each["session"] for each in client.get("/api/sessions/a/why").json()["memories"]} == {"b"}


@pytest.mark.parametrize("headers", [{"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}])
def test_pages_of_other_sites_may_not_use_the_server(client: TestClient, headers: dict[str, str]) -> None:
    for method, path in (("POST", "/api/imports"), ("GET", "/api/sessions"), ("POST", URL)):
        response = client.request(method, path, headers=headers)
        assert response.status_code == 403 and response.json()["error"]["code"] == "other_site"
    own = {"Origin": "http://127.0.0.1:8765", "Sec-Fetch-Site": "same-origin", "Host": "127.0.0.1:8765"}
    assert client.get("/api/sessions", headers=own).status_code == 200


def test_other_hosts_are_refused_and_browsers_are_told_what_they_may_do(client: TestClient) -> None:
    response = client.get("/api/sessions", headers={"Host": "evil.example:8765"})
    assert response.status_code == 400 and response.json()["error"]["code"] == "wrong_host"
    assert client.get("/api/sessions", headers={"Host": "[::1]:8765"}).status_code == 200
    page = client.get("/")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert page.headers["x-content-type-options"] == "nosniff"
    for path, status in (("/none", 404), ("/v1/none", 404), ("/static/../app.py", 404), ("/static/none.js", 404)):
        assert client.get(path).status_code == status
    assert client.put("/v1/models").status_code == 405
