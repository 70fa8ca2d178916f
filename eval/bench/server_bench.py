"""`memkv serve`: what HTTP adds to a turn, how soon a session goes on from the store, and fifty sessions at once."""

from __future__ import annotations

import json
import shutil
import socket
import statistics
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from typing import Any

import httpx
import uvicorn

from eval.bench.harness import Bench, Goal, Row, take_turns
from memkv import MemoryStore
from memkv.chat.server.app import create_app
from memkv.chat.server.desk import Desk, Limits
from memkv.chat.server.keys import Keys
from memkv.chat.server.numbers import Numbers
from memkv.chat.server.service import Service
from memkv.turns import Message

OVERHEAD_MS, SOONER, PAGE_MS = 5.0, 6.0, 1000.0
SESSIONS, TURNS = 50, 2
ROOM = 64 << 20  # bytes of all caches, for fifty sessions of which each takes 3 to 5 MiB
ROUNDS = 7
TENANT, LONG, SHORT = "default", "long", "short"
QUESTION = "And what follows from that?"


def rows(bench: Bench) -> list[Row]:
    """One server for all of them."""
    with MemoryStore.open(bench.folder / "store") as store:
        desk = Desk(bench.model, store, Limits(live_bytes=ROOM))
        with listening(Service(desk, Keys({}), Numbers(desk))) as address:
            with httpx.Client(base_url=address, timeout=600) as client:
                found = [overhead(bench, client), resumed(bench, client, desk), *fifty(bench, address, desk)]
                return [*found, *page(bench, address)]


@contextmanager
def listening(service: Service) -> Iterator[str]:
    """The address of a server in a thread of this process, whose model is busy on another one."""
    with socket.socket(proto=socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        server = uvicorn.Server(uvicorn.Config(create_app(service), log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def overhead(bench: Bench, client: httpx.Client) -> Row:
    """Milliseconds of a turn as the client sees it that are not the session's own."""
    bench.say("Turns over HTTP")
    found = []
    for _ in range(bench.rounds + 1):
        began = time.perf_counter()
        answer = say(client, SHORT, QUESTION)
        found.append((time.perf_counter() - began - answer["memkv"]["seconds"]) * 1e3)
    return Row("a turn over HTTP, beyond Session.turn", found[1:], goal=Goal("at_most", OVERHEAD_MS))


def resumed(bench: Bench, client: httpx.Client, desk: Desk) -> Row:
    """Milliseconds to the first token of a session of 2,000 tokens in the store, and of the same text read anew."""
    bench.say(f"A session of {bench.tokens} tokens")
    text = bench.model.chat.decode(bench.token_ids)
    first = say(client, LONG, text)["choices"][0]["message"]["content"]
    numbers = count()
    history = [Message(role="user", content=text), Message(role="assistant", content=first)]

    def from_store() -> float:
        desk.drop((TENANT, LONG))
        return first_token(client, {"session": LONG, "messages": [{"role": "user", "content": QUESTION}]})

    def anew() -> float:
        # Other first words each time, or the server would not read it again.
        lead = {"role": "system", "content": f"Answer number {next(numbers)}."}
        return first_token(client, {"messages": [lead, *history, {"role": "user", "content": QUESTION}]})

    times = take_turns({"ours": from_store, "peer": anew}, min(bench.rounds, ROUNDS), warmup=1)
    return Row(
        "first token of a session of 2,048 tokens in the store", times["ours"], times["peer"],
        goal=Goal("speedup", SOONER), peer_name="the same text read anew",
    )  # fmt: skip


def fifty(bench: Bench, address: str, desk: Desk) -> list[Row]:
    """Fifty clients at once, each with a session of its own: what each waited, and the bytes in memory."""
    bench.say(f"{SESSIONS} sessions at once")
    held: list[float] = []

    def talk(number: int) -> list[float]:
        waited = []
        with httpx.Client(base_url=address, timeout=600) as client:
            for turn in range(TURNS):
                began = time.perf_counter()
                say(client, f"client-{number}", f"Question {turn} of client {number}: what follows?")
                waited.append(time.perf_counter() - began)
                held.append(desk.live_bytes / ROOM)
        return waited

    with ThreadPoolExecutor(SESSIONS) as clients:
        waits = list(clients.map(talk, range(SESSIONS)))
    slowest = [max(each) / statistics.median(wait for other in waits for wait in other) for each in waits]
    return [
        Row(f"{SESSIONS} sessions at once: caches in memory, of the bytes they may take", held, unit="x",
            goal=Goal("at_most", 1.0), note="all finished"),
        Row("the longest wait of each, of the median wait", slowest, unit="x"),
    ]  # fmt: skip


def page(bench: Bench, address: str) -> list[Row]:
    """Milliseconds from the page's address to a page that lists the sessions, in Chromium; none without one."""
    chromium = shutil.which("chromium")
    if chromium is None:
        bench.say("The page is not timed: there is no chromium here")
        return []
    from playwright.sync_api import sync_playwright

    times = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for _ in range(bench.rounds):
            visitor = browser.new_page()
            began = time.perf_counter()
            visitor.goto(address)
            visitor.wait_for_selector("#session-list li")
            times.append((time.perf_counter() - began) * 1e3)
            visitor.close()
        browser.close()
    return [Row("the page, until it lists the sessions", times, goal=Goal("at_most", PAGE_MS))]


def say(client: httpx.Client, session: str, text: str) -> dict[str, Any]:
    """A turn with a reply of one token."""
    body = request({"session": session, "messages": [{"role": "user", "content": text}]})
    answer = client.post("/v1/chat/completions", json=body)
    answer.raise_for_status()
    found: dict[str, Any] = answer.json()
    return found


def first_token(client: httpx.Client, body: dict[str, Any]) -> float:
    """Milliseconds until a stream shows something."""
    began, taken = time.perf_counter(), 0.0
    with client.stream("POST", "/v1/chat/completions", json=request({**body, "stream": True})) as answer:
        for line in answer.iter_lines():  # to its end, so that the turn is over
            if taken or not line.startswith("data: {"):
                continue
            choices = json.loads(line.removeprefix("data: "))["choices"]
            if choices and (choices[0]["delta"].get("content") or choices[0]["finish_reason"]):
                taken = (time.perf_counter() - began) * 1e3
    assert taken, "the stream ended without a token"
    return taken


def request(body: dict[str, Any]) -> dict[str, Any]:
    """With the model, and the shortest reply."""
    return {"model": "smollm2-135m", "max_tokens": 1, **body}
