"""`/v1`: the OpenAI protocol."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from fastapi import APIRouter
from fastapi import Request as Incoming
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.responses import Response

from memkv.chat.server.answering import by_session, plainly
from memkv.chat.server.desk import Stop
from memkv.chat.server.problems import LOG, body_of, status_of
from memkv.chat.server.service import Mine, Served, Service, fails
from memkv.chat.server.wire import Answered, Asked, Request, checked, chunk, completion
from memkv.errors import MemkvError, ModelUnavailable
from memkv.store import TenantStore
from memkv.store.names import check_name

ROUTER = APIRouter(prefix="/v1", tags=["OpenAI protocol"])
GONE_EVERY = 0.2  # seconds between looks at whether the client is still there

Put = Callable[[str, Any], None]
Job = Callable[[Put], Answered]


@ROUTER.get("/models", responses=fails())
def models(service: Served, tenant: Mine) -> dict[str, Any]:
    """The one model that is served."""
    return {"object": "list", "data": [model_data(service)]}


@ROUTER.get("/models/{model:path}", responses=fails(404))
def model(model: str, service: Served, tenant: Mine) -> dict[str, Any]:
    """That model by name."""
    check_model(service, model)
    return model_data(service)


@ROUTER.post(
    "/chat/completions",
    responses={
        200: {"description": "The reply, or with `stream` its pieces.", "content": {"text/event-stream": {}}},
        **fails(404, 409, 429, 499, 503, 507),
    },
)
async def completions(request: Request, incoming: Incoming, service: Served, tenant: Mine) -> Response:
    """Answer a conversation.

    With `session` it is kept, goes on where it was, and has the memories of your other sessions. Without, it is
    answered as it is sent and nobody keeps it; what the server has read of its beginning is not read again.
    `usage.reused_tokens` says how much that was. Closing the connection ends the reply; of a session, what was
    written by then is kept and marked.
    """
    check_model(service, request.model)
    asked = checked(request, service.most_tokens)
    stop = Stop()
    job, key = job_of(service, tenant, request, asked, stop)
    ident = f"chatcmpl-{secrets.token_hex(12)}"
    queue: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    started: asyncio.Future[None] = loop.create_future()

    def arrived(kind: str, value: Any) -> None:
        queue.put_nowait((kind, value))
        if not started.done():
            started.set_result(None)

    def put(kind: str, value: Any) -> None:
        loop.call_soon_threadsafe(arrived, kind, value)

    def work() -> Answered:
        answered = job(put)
        service.numbers.count(answered)
        return answered

    done = asyncio.wrap_future(service.desk.submit(work, key))
    if request.stream:
        await unless_gone(incoming, [done, started], stop)
        if done.done() and done.exception() is not None:
            done.result()  # nothing was sent yet: the status can say it
        usage = request.stream_options is not None and request.stream_options.include_usage
        pieces = stream(service, done, queue, stop, ident, request.model, usage)
        return StreamingResponse(pieces, media_type="text/event-stream", headers={"Cache-Control": "no-store"})
    await unless_gone(incoming, [done], stop)
    return JSONResponse(completion(ident, request.model, done.result()))


def job_of(
    service: Service, tenant: TenantStore, request: Request, asked: Asked, stop: Stop
) -> tuple[Job, tuple[str, str] | None]:
    """What the model's thread has to do, and the session that it is for."""
    desk = service.desk
    if request.session is None:
        return lambda put: plainly(
            desk, tenant.id, asked, lambda text: put("text", text), lambda *at: put("read", at), stop
        ), None
    key = (tenant.id, check_name(request.session, "session"))
    named = {"context_budget": request.context_budget, "strategy": request.strategy, "codec": request.codec}
    options: dict[str, Any] = {name: value for name, value in named.items() if value is not None}
    if request.rebuild:
        options["rebuild"] = True
    return lambda put: by_session(
        desk, key, options, asked, lambda text: put("text", text), lambda *at: put("read", at), stop
    ), key


async def unless_gone(incoming: Incoming, waited: Sequence[asyncio.Future[Any]], stop: Stop) -> None:
    """Wait for the first of these; a client that goes away ends the reply."""
    try:
        while not any(each.done() for each in waited):
            await asyncio.wait(waited, timeout=GONE_EVERY, return_when=asyncio.FIRST_COMPLETED)
            if not any(each.done() for each in waited) and await incoming.is_disconnected():
                stop.set()
    except asyncio.CancelledError:
        stop.set()
        raise


async def stream(
    service: Service,
    done: asyncio.Future[Answered],
    queue: asyncio.Queue[tuple[str, Any]],
    stop: Stop,
    ident: str,
    model: str,
    usage: bool,
) -> AsyncIterator[str]:
    """The reply as server-sent events. Comments say how far the model has read; clients pass them by."""
    waiter = asyncio.ensure_future(queue.get())
    try:
        yield event(chunk(ident, model, {"role": "assistant", "content": ""}))
        while True:
            both: list[asyncio.Future[Any]] = [waiter, done]
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if waiter.done():
                kind, value = waiter.result()
                yield event(chunk(ident, model, {"content": value})) if kind == "text" else comment(*value)
                waiter = asyncio.ensure_future(queue.get())
            elif done.done():
                break
        while not queue.empty():
            kind, value = queue.get_nowait()
            if kind == "text":
                yield event(chunk(ident, model, {"content": value}))
        try:
            answered = done.result()
        except Exception as error:  # the status is sent already: the protocol says it in the stream
            if not isinstance(error, MemkvError):
                LOG.exception("A reply failed", exc_info=error)
            service.numbers.errors.labels(status_of(error)[2]).inc()
            yield event(body_of(error))
            return
        yield event({**chunk(ident, model, {}, answered.finish), "memkv": answered.details()})
        if usage:
            yield event({**chunk(ident, model, None), "usage": answered.usage()})
        yield "data: [DONE]\n\n"
    finally:
        stop.set()  # also when the client went away
        waiter.cancel()
        done.add_done_callback(lambda ended: ended.cancelled() or ended.exception())  # nobody else asks for it then


def event(data: Any) -> str:
    """One server-sent event."""
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n"


def comment(read: int, of: int) -> str:
    """How far the model has read, as a comment."""
    return f": read {read} of {of}\n\n"


def model_data(service: Service) -> dict[str, Any]:
    """The model as the protocol lists it."""
    model = service.desk.model
    return {"id": model.name, "object": "model", "created": 0, "owned_by": "memkv", "max_tokens": model.max_tokens}


def check_model(service: Service, name: str) -> None:
    """Refuse another model than the one that is served.

    Raises:
        ModelUnavailable: it is another.
    """
    if name != service.desk.model.name:
        raise ModelUnavailable(
            f"The model {name[:100]!r} is not served here", f"Ask for {service.desk.model.name!r}, as /v1/models lists."
        )
