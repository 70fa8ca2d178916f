"""`memkv serve`: the OpenAI protocol, the memory API and one page."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from memkv.chat.terminal import emit, err
from memkv.config import parse_bytes
from memkv.errors import ConfigError


@dataclass(frozen=True)
class Serve:
    """Serve a model whose conversations survive the server: a page, the OpenAI protocol, and the memory API.

    Without tokens it listens on this machine alone and all requests are one tenant's.
    """

    model: Annotated[str, tyro.conf.arg(aliases=["-m"])] = "smollm2-135m"
    """Embedded model, a local folder, or a hub id."""
    host: str = "127.0.0.1"
    """Where to listen; beyond this machine only with tokens."""
    port: int = 8765
    """0 takes any that is free."""
    store: str | None = None
    """Where the store is (default: MEMKV_STORE_URL, or a folder in MEMKV_HOME)."""
    tenant: str = "default"
    """Whose memory it is where there are no tokens."""
    tokens: Path | None = None
    """YAML file with lines `tenant: token` (default: MEMKV_TOKENS, as tenant=token,tenant=token)."""
    live_bytes: str = "1GiB"
    """Most bytes of all caches in memory; the others are in the store."""
    max_sessions: int = 10_000
    """Of one tenant."""
    max_tokens: int = 256
    """Longest reply, in tokens, where a request names none."""
    json: bool = False
    """Print the address as one JSON document."""

    def run(self) -> int:
        """Load the model, listen, serve until Ctrl-C."""
        from memkv.chat.server.keys import check_host, read_keys

        keys = read_keys(self.tokens, self.tenant)
        check_host(self.host, keys)
        live_bytes = parse_bytes(self.live_bytes)
        if not 0 <= self.port < 2**16:
            raise ConfigError(f"There is no port {self.port}", "Name one from 0 to 65535.")
        if self.max_sessions < 1 or self.max_tokens < 1:
            raise ConfigError("A limit is below 1", "Correct --max-sessions or --max-tokens.")

        import socket

        import uvicorn

        from memkv.chat.server.app import create_app
        from memkv.chat.server.desk import Desk, Limits
        from memkv.chat.server.numbers import Numbers
        from memkv.chat.server.service import Service
        from memkv.model import HybridModel
        from memkv.store import MemoryStore

        # With its protocol named asyncio switches Nagle's algorithm off, which costs 40 ms an answer.
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((self.host, self.port))
            listener.listen()  # from here on clients wait instead of being refused
        except OSError as error:
            raise ConfigError(
                f"Cannot listen on {self.host}:{self.port}: {error.strerror}",
                "Name another --port; 0 takes a free one.",
            ) from error
        with listener, MemoryStore.open(self.store) as store:
            model = HybridModel.from_pretrained(
                self.model, notify=lambda said: err().print(said, style="dim", markup=False)
            )
            desk = Desk(model, store, Limits(live_bytes=live_bytes, sessions=self.max_sessions))
            app = create_app(Service(desk, keys, Numbers(desk), self.max_tokens), any_host=len(keys) > 0)
            host = f"[{self.host}]" if ":" in self.host else self.host
            address = f"http://{host}:{listener.getsockname()[1]}"
            if self.json:
                emit({"address": address, "model": model.name, "tokens_required": len(keys) > 0})
            else:
                err().print(f"memkv serves {model.name} at {address} (Ctrl-C ends it)", markup=False)
            logging.getLogger("memkv.server").setLevel(logging.INFO)
            config = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False)
            uvicorn.Server(config).run(sockets=[listener])
        return 0
