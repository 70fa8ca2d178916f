"""`/api`: sessions, what they remember, and what can be done about it. Everything is the token's tenant's own."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, BinaryIO
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from memkv.chat.life import life_of
from memkv.chat.recalled import of_last_reply
from memkv.chat.server.options import LARGEST, Budget, Codec, Count, SessionName, Strategy
from memkv.chat.server.service import Mine, Name, Number, Served, Service, fails
from memkv.chat.server.views import (
    CompactionView,
    EventView,
    ItemView,
    SessionLine,
    SessionView,
    compaction_view,
    event_view,
    item_of_store,
    session_line,
    session_view,
)
from memkv.errors import Conflict, DamagedBlob, ForgetPending, NotFound
from memkv.session import Session
from memkv.store import TenantStore

ROUTER = APIRouter(prefix="/api", tags=["Memory"])
LONGEST = 2**20  # characters
PAGE = 200

Limit = Annotated[int, Query(ge=1, le=1000, description="Most of them.")]
Offset = Annotated[int, Query(ge=0, le=LARGEST, description="So many are passed by.")]


class Strict(BaseModel):
    """A body in which every field is known."""

    model_config = ConfigDict(extra="forbid")


class NewSession(Strict):
    """A session to begin, before anything is said in it."""

    name: SessionName
    system: str = Field("", max_length=LONGEST, description="System prompt.")
    context_budget: Budget | None = None
    strategy: Strategy | None = None
    codec: Codec | None = None


class Opening(Strict):
    """How to open a session."""

    rebuild: bool = Field(False, description="Read the text again if the stored cache belongs to another model.")
    context_budget: Budget | None = Field(None, description="Another budget from now on.")


class Text(Strict):
    """A text."""

    text: str = Field(min_length=1, max_length=LONGEST, pattern=r"\S")


class Pin(Text):
    """A rule to keep word for word."""

    sources: list[Count] = Field([], max_length=64, description="Items it was said in.")


class Compact(Strict):
    """A compaction now."""

    preview: bool = Field(False, description="Say what would come of it, and change nothing.")
    strategy: Strategy | None = Field(None, description="Another one than the session's.")
    budget: Budget | None = Field(None, description="Bytes of cache to end with; by default 60% of what it takes.")


@ROUTER.get("/status", responses=fails())
def status(service: Served, tenant: Mine) -> dict[str, Any]:
    """Who you are, which model answers, and the bytes in use."""
    usage, limits = tenant.usage(), tenant.limits
    model = service.desk.model
    return {
        "tenant": tenant.id,
        "tokens_required": len(service.keys) > 0,
        "model": model.name,
        "max_tokens": model.max_tokens,
        "bytes_per_token": model.profile.at(2) - model.profile.at(1),
        "usage": {**asdict(usage), "total": usage.total},
        "quota_bytes": limits.quota_bytes,
        "live_cache_bytes": service.desk.live_bytes,
        "live_cache_limit": service.desk.limits.live_bytes,
    }


@ROUTER.get("/reference", responses=fails())
def reference(service: Served, tenant: Mine, tokens: Annotated[int, Query(ge=0, le=2**20)] = 1000) -> dict[str, Any]:
    """What a context of so many tokens takes on known architectures, measured; the first call takes seconds."""
    return {"tokens": tokens, "models": service.references.at(tokens)}


@ROUTER.get("/sessions", responses=fails())
def sessions(
    tenant: Mine,
    q: Annotated[str, Query(max_length=1000, description="Only those in which this was said.")] = "",
    limit: Limit = PAGE,
    offset: Offset = 0,
) -> list[SessionLine]:
    """Sessions, the one used last first."""
    found = tenant.sessions()
    if q:
        among = {memory.session for memory in tenant.search(q, limit=10_000)}
        found = [info for info in found if info.name in among or q.lower() in info.name.lower()]
    return [session_line(tenant, info) for info in found[offset : offset + limit]]


@ROUTER.post("/sessions", status_code=201, responses=fails(409, 429, 503, 507))
async def begin(new: NewSession, service: Served, tenant: Mine) -> SessionView:
    """Begin a session."""
    name = new.name
    key = (tenant.id, name)

    def job() -> SessionView:
        if tenant.exists(name):
            raise Conflict(f"There is a session {name!r} already", "Go on with it, or take another name.")
        given = {"context_budget": new.context_budget, "strategy": new.strategy, "codec": new.codec}
        options: dict[str, Any] = {option: value for option, value in given.items() if value is not None}
        if new.system:
            options["system"] = new.system
        try:
            session = service.desk.session(key, options, create=True)
        except BaseException:
            service.desk.discard_empty(key)
            raise
        return session_view(service.desk.model, tenant, name, session)

    return await service.desk.run(job, key)


@ROUTER.get("/sessions/{name}", responses=fails(404))
def session(name: Name, service: Served, tenant: Mine) -> SessionView:
    """A session as it is now. It is not opened for that."""
    return session_view(service.desk.model, tenant, name, service.desk.held((tenant.id, name)))


@ROUTER.post("/sessions/{name}/open", responses=fails(404, 409, 503, 507))
async def open_session(name: Name, how: Opening, service: Served, tenant: Mine) -> SessionView:
    """Take its cache into memory: restored from the store, or read again from its text, and it is said which."""
    options: dict[str, Any] = {"rebuild": True} if how.rebuild else {}
    if how.context_budget is not None:
        options["context_budget"] = how.context_budget
    key = (tenant.id, name)
    return await service.desk.run(
        lambda: session_view(service.desk.model, tenant, name, service.desk.session(key, options, create=False)), key
    )


@ROUTER.delete("/sessions/{name}", status_code=204, responses=fails(404, 409, 503, 507))
async def forget_session(name: Name, service: Served, tenant: Mine) -> None:
    """Forget a session with everything in it: text, caches, and what other sessions took in of it."""
    key = (tenant.id, name)

    def job() -> None:
        service.desk.drop(key)
        tenant.forget_session(name)

    await service.desk.run(job, key)


@ROUTER.get("/sessions/{name}/memories", responses=fails(404))
def memories(
    name: Name,
    tenant: Mine,
    kind: Annotated[str | None, Query(max_length=64, description="Only of this kind.")] = None,
    limit: Limit = PAGE,
    offset: Offset = 0,
) -> list[ItemView]:
    """All that a session remembers, in order, in the context or not."""
    present = set(tenant.session(name).context)
    return [item_of_store(tenant, memory, memory.n in present) for memory in tenant.memories(name, kind, limit, offset)]


@ROUTER.get("/sessions/{name}/memories/{n}", responses=fails(404))
def memory(name: Name, n: Number, tenant: Mine) -> dict[str, Any]:
    """The life of an item: what it was made of, what it became, what took it out, where it can be found."""
    return asdict(life_of(tenant, name, n))


@ROUTER.patch("/sessions/{name}/memories/{n}", responses=fails(404, 409, 503, 507))
async def edit(name: Name, n: Number, new: Text, service: Served, tenant: Mine) -> SessionView:
    """Put a rule or a summary in other words; the new item stands in its place."""
    return await change(service, tenant, name, lambda session: session.edit(n, new.text))


@ROUTER.delete("/sessions/{name}/memories/{n}", responses=fails(404, 409, 503, 507))
async def forget(name: Name, n: Number, service: Served, tenant: Mine) -> SessionView:
    """Forget an item and all that was made from it, everywhere."""

    def job(session: Session) -> None:
        tenant.memory(name, n)  # before anything is let go of
        session.forget(n)

    return await change(service, tenant, name, job)


@ROUTER.post("/sessions/{name}/memories/{n}/back", responses=fails(404, 409, 503, 507))
async def back(name: Name, n: Number, service: Served, tenant: Mine) -> SessionView:
    """Quote an item that left the context in front of the next message."""
    return await change(service, tenant, name, lambda session: session.bring_back(n))


@ROUTER.post("/sessions/{name}/pins", status_code=201, responses=fails(404, 409, 503, 507))
async def pin(name: Name, rule: Pin, service: Served, tenant: Mine) -> SessionView:
    """Keep a rule word for word through every compaction."""
    return await change(service, tenant, name, lambda session: session.pin(rule.text, rule.sources))


@ROUTER.post("/sessions/{name}/compactions", responses=fails(404, 409, 503, 507))
async def compact(name: Name, how: Compact, service: Served, tenant: Mine) -> CompactionView:
    """Make the context smaller now, or see what would come of it."""
    key = (tenant.id, name)

    def job() -> CompactionView:
        session = service.desk.session(key, {}, create=False)
        return compaction_view(session.compact(how.strategy, how.budget, how.preview), how.preview)

    return await service.desk.run(job, key)


@ROUTER.delete("/sessions/{name}/compactions/last", responses=fails(404, 409, 503, 507))
async def undo(name: Name, service: Served, tenant: Mine) -> SessionView:
    """Take the last compaction back: the context is as before it, with what was said since."""
    return await change(service, tenant, name, lambda session: session.undo())


@ROUTER.delete("/sessions/{name}/turns/last", responses=fails(404, 409, 503, 507))
async def take_back(name: Name, service: Served, tenant: Mine) -> dict[str, Any]:
    """Forget the last exchange, to say it again or in other words; the message is given back."""
    key = (tenant.id, name)

    def job() -> dict[str, Any]:
        session = service.desk.session(key, {}, create=False)
        messages = tenant.memories(name, "message")[-2:]
        if [message.role for message in messages] != ["user", "assistant"]:
            raise NotFound("There is no last exchange", "Say something first.")
        asked, answered = messages
        made = sorted({*tenant.derived(name, asked.n), *tenant.derived(name, answered.n)})
        if made:
            raise Conflict(
                f"Items {', '.join(map(str, made))} were made from this exchange and would go with it",
                "Say it again as a new message, or forget the exchange item by item.",
            )
        for message in (answered, asked):
            with suppress(ForgetPending):  # its traces go with the next gc, and both are to be gone
                session.forget(message.n)
        return {"text": asked.text}

    return await service.desk.run(job, key)


@ROUTER.get("/sessions/{name}/events", responses=fails(404))
def events(
    name: Name,
    tenant: Mine,
    kind: Annotated[str | None, Query(max_length=64, description="Only of this kind.")] = None,
    after: Annotated[int, Query(ge=0, le=LARGEST, description="Only those behind this number.")] = 0,
    limit: Limit = PAGE,
) -> list[EventView]:
    """What happened in a session, in order: turns, compactions with their ledgers, what was brought back, and more."""
    found = [event_view(event) for event in tenant.events(name, kind) if event.seq > after]
    return found[-limit:] if not after else found[:limit]


@ROUTER.get("/sessions/{name}/why", responses=fails(404))
def why(name: Name, tenant: Mine) -> dict[str, Any]:
    """Which memories the last answer had before it: from where, of which day, how near, how many bytes."""
    back, too_large = of_last_reply(tenant, name)
    return {"memories": [asdict(each) for each in back], "too_large": [dict(each) for each in too_large]}


@ROUTER.get(
    "/sessions/{name}/export",
    response_class=StreamingResponse,
    responses={
        200: {"description": "The file.", "content": {"application/octet-stream": {}}},
        **fails(404, 409, 507),
    },
)
def export(name: Name, tenant: Mine) -> StreamingResponse:
    """A session as one file: text in the clear, and its cache."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "session.memkv"
        size = tenant.export_session(name, path)
        file = path.open("rb")  # it stays readable, and nothing of it stays in the folder
    named = quote(f"{name}.memkv", safe="")
    headers = {"Content-Length": str(size), "Content-Disposition": f"attachment; filename*=UTF-8''{named}"}
    return StreamingResponse(pieces(file), media_type="application/octet-stream", headers=headers)


def pieces(file: BinaryIO) -> Iterator[bytes]:
    """A file's bytes, and its end."""
    with file:
        while piece := file.read(1 << 20):
            yield piece


@ROUTER.post(
    "/imports",
    status_code=201,
    responses=fails(409, 429, 503, 507),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def import_session(
    request: Request,
    service: Served,
    tenant: Mine,
    name: Annotated[SessionName | None, Query(description="Another name for it.")] = None,
) -> SessionView:
    """Add a session from an exported file. Nothing is written unless all of it checks out."""
    descriptor, path = tempfile.mkstemp(suffix=".memkv")
    try:
        with os.fdopen(descriptor, "wb") as file:
            async for piece in request.stream():
                file.write(piece)

        def job() -> SessionView:
            service.desk.check_count(tenant)
            record = tenant.import_session(Path(path), name)
            return session_view(service.desk.model, tenant, record.name, None)

        try:
            return await service.desk.run(job)
        except DamagedBlob as error:  # it names the file, which the client knows by another name
            raise DamagedBlob(error.message.replace(path, "The file"), error.next_step) from error
    finally:
        os.unlink(path)


@ROUTER.get("/search", responses=fails())
def search(
    tenant: Mine, q: Annotated[str, Query(min_length=1, max_length=1000)], limit: Limit = 20
) -> list[dict[str, Any]]:
    """Items of all sessions that contain a text."""
    return [
        {"session": memory.session, **item_of_store(tenant, memory, False).model_dump(exclude={"in_context"})}
        for memory in tenant.search(q, limit=limit)
    ]


@ROUTER.post("/verify", responses=fails(503))
def verify(tenant: Mine) -> dict[str, Any]:
    """Check all of your caches, and change nothing."""
    return {"problems": [asdict(each) for each in tenant.verify()]}


async def change(service: Service, tenant: TenantStore, name: str, what: Callable[[Session], Any]) -> SessionView:
    """Change an open session, opening it if need be; the session as it is then."""
    key = (tenant.id, name)

    def job() -> SessionView:
        session = service.desk.session(key, {}, create=False)
        what(session)
        return session_view(service.desk.model, tenant, name, session)

    return await service.desk.run(job, key)
