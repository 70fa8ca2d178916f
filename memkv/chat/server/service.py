"""What all routes share: the model at its desk, the store, who may see what, and how errors are documented."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import Depends, Path, Request

from memkv.chat.server.desk import Desk
from memkv.chat.server.keys import Keys
from memkv.chat.server.numbers import Numbers
from memkv.chat.server.options import Count, SessionName
from memkv.chat.server.references import References
from memkv.store import TenantStore


@dataclass(frozen=True)
class Service:
    """One server.

    Attributes:
        desk: the model and what it has in memory.
        keys: whose memory a token opens.
        numbers: what is counted.
        most_tokens: longest reply where a request names none.
        references: what others would take.
    """

    desk: Desk
    keys: Keys
    numbers: Numbers
    most_tokens: int = 256
    references: References = field(default_factory=References)


def service_of(request: Request) -> Service:
    """The server's."""
    found: Service = request.app.state.service
    return found


def tenant_of(request: Request) -> TenantStore:
    """The tenant whose token came with the request.

    Raises:
        Unauthorized: none did.
    """
    service = service_of(request)
    return service.desk.store.tenant(service.keys.tenant(request.headers.get("Authorization")))


Served = Annotated[Service, Depends(service_of)]
Mine = Annotated[TenantStore, Depends(tenant_of)]
Name = Annotated[SessionName, Path(description="Name of a session.")]
Number = Annotated[Count, Path(description="Number of an item in the session.", examples=[1])]

SAID = {
    400: "Something about the request is wrong; `message` says what, and what would do.",
    401: "No token, or one that opens nothing.",
    403: "The page of another site asked.",
    404: "There is none of that name, for you.",
    409: "The session answers another message, or has moved on.",
    413: "The body is too large.",
    429: "Too many sessions.",
    499: "You went away before there was an answer.",
    500: "The model or the server failed. What was stored before is as it was.",
    503: "The store is busy.",
    507: "No room: a quota, or the disk.",
}
ERROR: dict[str, Any] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string", "description": "What happened, and what to do next."},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}


def fails(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """How the documentation describes what can go wrong; beside these, what can at every route."""
    content = {"application/json": {"schema": ERROR}}
    return {
        status: {"description": SAID[status], "content": content}
        for status in sorted({400, 401, 403, 413, 500, *statuses})
    }
