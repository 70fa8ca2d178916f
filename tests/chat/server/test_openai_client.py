"""The official client, unmodified, against a server that listens; clients that leave, hurry, or come all at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import openai
import pytest
from serving import ADA, TOKENS, application, ask, listening

from memkv.chat.server.desk import Limits
from memkv.model import HybridModel


@pytest.fixture
def address(llama: HybridModel, tmp_path: Path) -> Iterator[str]:
    with application(llama, tmp_path / "store") as app, listening(app) as address:
        yield address


@pytest.fixture
def client(address: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{address}/v1", api_key="none is needed", max_retries=0) as client:
        yield client


def message(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def test_the_client_lists_models_and_talks(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tiny"]
    reply = client.chat.completions.create(model="tiny", messages=message("Good morning."), max_completion_tokens=5)
    assert reply.choices[0].message.content and reply.choices[0].finish_reason == "length"
    assert reply.usage is not None and reply.usage.completion_tokens == 5


def test_the_client_streams_and_a_session_goes_on(client: openai.OpenAI) -> None:
    extra = {"session": "s"}
    whole = client.chat.completions.create(model="tiny", messages=message("Good morning."), extra_body=extra)
    pieces = client.chat.completions.create(
        model="tiny", messages=message("Go on."), stream=True, stream_options={"include_usage": True}, extra_body=extra
    )
    chunks = list(pieces)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text and chunks[-1].usage is not None and whole.usage is not None
    assert chunks[-1].usage.prompt_tokens_details.cached_tokens >= whole.usage.total_tokens - 8


def test_the_client_raises_what_the_protocol_says(client: openai.OpenAI, llama: HybridModel, tmp_path: Path) -> None:
    with pytest.raises(openai.NotFoundError, match="not served here"):
        client.chat.completions.create(model="gpt-9", messages=message("Hm?"))
    with pytest.raises(openai.BadRequestError, match="is not done here") as error:
        client.chat.completions.create(model="tiny", messages=message("Hm?"), n=3)
    assert error.value.param == "n" and error.value.code == "unsupported_parameter"
    with application(llama, tmp_path / "closed", TOKENS) as app, listening(app) as address:
        with openai.OpenAI(base_url=f"{address}/v1", api_key="wrong-0123456789ab", max_retries=0) as stranger:
            with pytest.raises(openai.AuthenticationError):
                stranger.models.list()
        with openai.OpenAI(base_url=f"{address}/v1", api_key=ADA) as known:
            assert known.models.list().data


def test_of_a_reply_that_is_stopped_what_was_written_is_kept(address: str, slow: HybridModel) -> None:
    with httpx.stream(
        "POST", f"{address}/v1/chat/completions", json=ask("Good morning.", "s", stream=True, max_tokens=200)
    ) as reply:
        lines = (line for line in reply.iter_lines() if '"content"' in line)
        for _ in range(4):
            next(lines)
    items = settled(address)
    assert [each["role"] for each in items] == ["user", "assistant"]
    assert items[1]["interrupted"] and 0 < len(items[1]["text"]) < 200
    assert httpx.post(f"{address}/v1/chat/completions", json=ask("And?", "s"), timeout=60).json()["usage"][
        "reused_tokens"
    ]


def test_a_client_that_gives_up_waiting_leaves_the_session_whole(address: str, slow: HybridModel) -> None:
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{address}/v1/chat/completions", json=ask("Good morning.", "s", max_tokens=200), timeout=0.5)
    items = settled(address)
    assert [each["role"] for each in items] in ([], ["user", "assistant"])
    assert httpx.post(f"{address}/v1/chat/completions", json=ask("And?", "s"), timeout=60).status_code == 200


def test_of_two_turns_at_once_in_one_session_one_is_told_to_wait(address: str, slow: HybridModel) -> None:
    url, answers = f"{address}/v1/chat/completions", []
    first = threading.Thread(
        target=lambda: answers.append(httpx.post(url, json=ask("One.", "s", max_tokens=40), timeout=60))
    )
    first.start()
    time.sleep(0.3)
    second = httpx.post(url, json=ask("Two.", "s"), timeout=60)
    assert (
        second.status_code == 409 and second.headers["retry-after"] and second.json()["error"]["code"] == "session_busy"
    )
    first.join()
    assert answers[0].status_code == 200
    assert [each["text"] for each in settled(address)][0] == "One."
    with openai.OpenAI(base_url=f"{address}/v1", api_key="-", max_retries=5) as patient:
        other = threading.Thread(target=lambda: httpx.post(url, json=ask("Three.", "s", max_tokens=20), timeout=60))
        other.start()
        time.sleep(0.1)
        assert patient.chat.completions.create(model="tiny", messages=message("Four."), extra_body={"session": "s"})
        other.join()
    assert len(settled(address)) == 6


def test_fifty_sessions_at_once_all_finish_within_the_bytes(llama: HybridModel, tmp_path: Path) -> None:
    room = llama.profile.at(1500)
    with application(llama, tmp_path / "store", limits=Limits(live_bytes=room)) as app, listening(app) as address:
        desk, seen = app.state.service.desk, []

        def talk(number: int) -> list[int]:
            found = []
            for turn in range(3):
                reply = httpx.post(
                    f"{address}/v1/chat/completions", json=ask(f"Turn {turn} of {number}", f"s{number}"), timeout=120
                )
                seen.append(desk.live_bytes)
                found.append(reply.status_code)
            return found

        with ThreadPoolExecutor(50) as clients:
            answers = list(clients.map(talk, range(50)))
        assert answers == [[200] * 3] * 50
        assert max(seen) <= room and desk.waiting == 0
        assert len(httpx.get(f"{address}/api/sessions").json()) == 50


def test_more_than_may_wait_are_told_so(llama: HybridModel, slow: HybridModel, tmp_path: Path) -> None:
    with application(llama, tmp_path / "store", limits=Limits(waiting=2)) as app, listening(app) as address:
        url = f"{address}/v1/chat/completions"
        with ThreadPoolExecutor(6) as clients:
            found = clients.map(lambda n: httpx.post(url, json=ask("Hm?", f"s{n}"), timeout=60).status_code, range(6))
            codes = sorted(found)
        assert codes[0] == 200 and codes[-1] == 503


@pytest.fixture
def slow(llama: HybridModel, monkeypatch: pytest.MonkeyPatch) -> HybridModel:
    """The model, with a pause behind each token."""
    generate = llama.generate

    def slowly(*arguments: object, **named: object) -> Iterator[int]:
        for token in generate(*arguments, **named):  # type: ignore[arg-type]
            time.sleep(0.02)
            yield token

    monkeypatch.setattr(llama, "generate", slowly)
    return llama


def settled(address: str) -> list[dict[str, object]]:
    """What session `s` holds once nothing runs for it."""
    deadline = time.monotonic() + 30
    while "memkv_waiting 0.0" not in httpx.get(f"{address}/metrics").text:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    found = httpx.get(f"{address}/api/sessions/s/memories")
    return found.json() if found.status_code == 200 else []
