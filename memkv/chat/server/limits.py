"""What every request passes: a limit on bodies, the host that it was sent to, and headers that browsers heed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.responses import JSONResponse

from memkv.chat.server.keys import LOOPBACK
from memkv.chat.server.problems import TooLarge, problem, respond

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Gate:
    """The outermost layer.

    Args:
        app: behind it.
        body_bytes: largest body; an imported session may be larger.
        import_bytes: largest imported session.
        any_host: take requests whatever host they were sent to; else only those to this machine, so that no page of
            the web can reach a server without a token under a name of its own (DNS rebinding).
    """

    def __init__(self, app: App, body_bytes: int, import_bytes: int, any_host: bool) -> None:
        self.app, self.body_bytes, self.import_bytes, self.any_host = app, body_bytes, import_bytes, any_host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI calls it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}

        async def with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message.get("headers", ()),
                    *((name.lower().encode(), value.encode()) for name, value in HEADERS.items()),
                ]
            await send(message)

        if not self.any_host and host_of(headers.get("host", "")) not in LOOPBACK:
            said = "This server answers to its own machine only. Use http://127.0.0.1, or run it with --tokens."
            response = JSONResponse(problem(said, "invalid_request_error", "wrong_host"), 400)
            await response(scope, receive, with_headers)
            return
        if foreign(headers) and scope["path"].startswith(("/api", "/v1")):
            said = "Pages of other sites may not use this server. Use its own page, or a program."
            response = JSONResponse(problem(said, "permission_error", "other_site"), 403)
            await response(scope, receive, with_headers)
            return
        most = self.import_bytes if scope["path"] == "/api/imports" else self.body_bytes
        taken = 0

        async def limited() -> MutableMapping[str, Any]:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > most:
                raise TooLarge(f"The body has more than {most} bytes", "Send less at once.")
            return message

        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > most:
            refused = TooLarge(f"The body has {length} bytes, and {most} are taken", "Send less at once.")
            await respond(refused)(scope, receive, with_headers)
            return
        await self.app(scope, limited, with_headers)


def foreign(headers: MutableMapping[str, str]) -> bool:
    """Whether a browser says that the request comes from another site's page; programs say nothing."""
    origin = headers.get("origin", "")
    elsewhere = bool(origin) and origin.partition("://")[2] != headers.get("host", "")
    return elsewhere or headers.get("sec-fetch-site", "none") not in ("none", "same-origin")


def host_of(header: str) -> str:
    """The host of a `Host` header, without its port."""
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.rpartition(":")[0] if ":" in header else header
