"""A server with a tiny model: its application, the same listening on a port, and what tests ask of it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from memkv.chat.server.app import create_app
from memkv.chat.server.desk import Desk, Limits
from memkv.chat.server.keys import Keys
from memkv.chat.server.numbers import Numbers
from memkv.chat.server.service import Service
from memkv.model import HybridModel
from memkv.store import MemoryStore

ADA, BOB = "ada-0123456789abcdef", "bob-0123456789abcdef"
TOKENS = {ADA: "ada", BOB: "bob"}


@contextmanager
def application(
    model: HybridModel, folder: Path, tokens: dict[str, str] | None = None, limits: Limits | None = None
) -> Iterator[FastAPI]:
    """The application over a store of its own."""
    with MemoryStore.open(folder) as store:
        desk = Desk(model, store, limits or Limits())
        try:
            yield create_app(Service(desk, Keys(tokens or {}), Numbers(desk), most_tokens=8), any_host=bool(tokens))
        finally:
            desk.close()


@contextmanager
def listening(app: FastAPI) -> Iterator[str]:
    """The address of an application that listens."""
    with socket.socket(proto=socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(20)


def ask(text: str, session: str | None = None, **more: object) -> dict[str, object]:
    """A request with one message."""
    named = {} if session is None else {"session": session}
    return {"model": "tiny", "messages": [{"role": "user", "content": text}], **named, **more}
