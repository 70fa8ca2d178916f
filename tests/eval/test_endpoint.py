from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from run_parts import save_tiny_model, tiny_scenario

from eval.running.cell import Runner
from eval.running.endpoint import (
    Endpoint,
    EndpointGarbled,
    EndpointRefused,
    EndpointTimeout,
    EndpointUnreachable,
    ask_all,
    check_endpoint,
)
from eval.running.plan import Config, SystemPlan, Task, cells
from memkv.errors import ConfigError

Answer = Callable[[dict[str, Any], int], tuple[int, bytes]]


@contextmanager
def server(answer: Answer) -> Iterator[tuple[str, list[tuple[dict[str, Any], dict[str, str]]]]]:
    """A real HTTP server here: its URL, and what it was sent. `answer` gets the body and a running number."""
    seen: list[tuple[dict[str, Any], dict[str, str]]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            seen.append((body, {"path": self.path, "key": self.headers.get("Authorization", "")}))
            status, data = answer(body, len(seen))
            try:
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)
            except OSError:
                pass  # the client has given up, as some of the tests want

        def log_message(self, *_: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    thread = threading.Thread(target=http.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{http.server_port}/v1", seen
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


def completion(text: str | None, usage: Any = None) -> tuple[int, bytes]:
    data: dict[str, Any] = {"choices": [{"message": {"role": "assistant", "content": text}}]}
    if usage is not None:
        data["usage"] = usage
    return 200, json.dumps(data).encode()


def knows_all(body: dict[str, Any], _: int) -> tuple[int, bytes]:
    """Right on everything in scenario 1, whose ink is blue; reads the letters from the question."""
    question = body["messages"][-1]["content"]
    if "A. " not in question:
        return completion("Ink is a fluid.", {"prompt_tokens": 10, "completion_tokens": 4})
    wanted = "blue." if "Which ink" in question else "Yes." if "about ink" in question else "No."
    letter = next(line[0] for line in question.splitlines() if line[1:] == f". {wanted}")
    return completion(letter, {"prompt_tokens": 10, "completion_tokens": 1})


def quick(url: str, **changes: Any) -> Endpoint:
    return Endpoint(url, "m", **{"timeout": 5.0, "pause": 0.01, **changes})


def test_a_server_that_knows_is_right_and_gets_the_whole_conversation(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", "s3cret")
    scenario = tiny_scenario(1)
    with server(knows_all) as (url, seen):
        asked = ask_all(quick(url), scenario)
    assert [answer.right for answer in asked.answers] == [True] * 4
    assert [answer.written for answer in asked.answers] == ["B", "A", "B", "Ink is a fluid."]
    assert all(answer.scores == () and answer.probability == 1.0 for answer in asked.answers)
    assert (asked.prefilled, asked.generated) == (40, 7)
    body, head = seen[0]
    assert [m["content"] for m in body["messages"][:-1]] == [turn.text for turn in scenario.turns]
    assert "20 March 2026" in body["messages"][-1]["content"]
    assert body["messages"][-1]["content"].endswith("D. black.\nAnswer with the letter only.")
    assert body["model"] == "m" and body["temperature"] == 0
    assert head == {"path": "/v1/chat/completions", "key": "Bearer s3cret"}


def test_no_key_is_sent_where_there_is_none(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with server(knows_all) as (url, seen):
        ask_all(quick(url + "/"), tiny_scenario(1))
    assert seen[0][1] == {"path": "/v1/chat/completions", "key": ""}


@pytest.mark.parametrize("text", ["I think it is blue", "A or B", "", None, "E"])
def test_an_answer_that_names_no_letter_is_wrong_and_kept(text: str | None):
    with server(lambda body, number: completion(text)) as (url, _):
        asked = ask_all(quick(url), tiny_scenario(1))
    assert [answer.right for answer in asked.answers] == [False] * 4
    assert asked.answers[0].written == (text or "")
    assert (asked.prefilled, asked.generated) == (0, 0)


def test_a_server_that_fails_twice_is_asked_a_third_time():
    def shaky(body: dict[str, Any], number: int) -> tuple[int, bytes]:
        return knows_all(body, number) if number > 2 else (503, b"busy")

    with server(shaky) as (url, seen):
        asked = ask_all(quick(url), tiny_scenario(1))
    assert all(answer.right for answer in asked.answers)
    assert len(seen) == 6


def test_a_server_that_always_fails_is_named():
    with server(lambda body, number: (500, b"oops")) as (url, seen), pytest.raises(EndpointUnreachable, match="500"):
        ask_all(quick(url), tiny_scenario(1))
    assert len(seen) == 3


def test_a_server_that_hangs_is_named_after_three_tries():
    def hang(body: dict[str, Any], number: int) -> tuple[int, bytes]:
        time.sleep(0.5)
        return completion("A")

    with server(hang) as (url, seen), pytest.raises(EndpointTimeout, match="did not answer within 0.1 s"):
        ask_all(quick(url, timeout=0.1), tiny_scenario(1))
    assert len(seen) == 3


def test_a_refusal_is_not_tried_again():
    with server(lambda body, number: (401, b"bad key")) as (url, seen):
        with pytest.raises(EndpointRefused, match="401: bad key.*OPENAI_API_KEY"):
            ask_all(quick(url), tiny_scenario(1))
    assert len(seen) == 1


@pytest.mark.parametrize(
    "data",
    [
        b"<html>hello</html>",
        b"[]",
        b"null",
        b'{"choices": []}',
        b'{"choices": [{"message": {"content": 7}}]}',
        b'{"choices": [{"message": {"content": "A"}}], "usage": {"prompt_tokens": "ten"}}',
        b'{"choices": [{"message": {"content": "A"}}], "usage": [1]}',
        b"\xff\xfe",
    ],
)
def test_garbage_is_named(data: bytes):
    with server(lambda body, number: (200, data)) as (url, _), pytest.raises(EndpointGarbled, match="chat completion"):
        ask_all(quick(url), tiny_scenario(1))


def test_nobody_there_is_named():
    with server(knows_all) as (url, _):
        pass
    with pytest.raises(EndpointUnreachable, match="cannot be reached"):
        ask_all(quick(url), tiny_scenario(1))


def test_half_an_endpoint_is_refused():
    with pytest.raises(ConfigError, match="belong together"):
        check_endpoint("http://localhost/v1", None)
    with pytest.raises(ConfigError, match="no URL"):
        check_endpoint("localhost:8000", "m")


def test_its_failure_is_one_row_and_the_others_stay(tmp_path: Path):
    config = Config((SystemPlan("none"), SystemPlan("endpoint:m")), str(save_tiny_model(tmp_path)), "float32")
    scenario = tiny_scenario(1)
    with server(lambda body, number: (400, b"no")) as (url, _):
        runner = Runner(config, quick(url))
        done = list(runner.run(Task(scenario, tuple(cells(config, scenario.id)))))
    assert [f.row.failure.error for f in done if f.row.failure] == ["EndpointRefused"]
    assert [f.row.system for f in done if f.row.answers] == ["screen", "screen", "none"]


def test_its_row_knows_no_bytes(tmp_path: Path):
    config = Config((SystemPlan("endpoint:m"),), str(save_tiny_model(tmp_path)), "float32")
    scenario = tiny_scenario(1)
    with server(knows_all) as (url, _):
        row = list(Runner(config, quick(url)).run(Task(scenario, tuple(cells(config, scenario.id)))))[-1].row
    assert row.id == "own-01/endpoint:m/-/0"
    assert row.active_bytes is None and row.failure is None
    assert (row.prefilled, row.unshared, row.generated) == (40, 40, 7)
