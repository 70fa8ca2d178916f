"""The application: routes, errors, headers, the page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

from memkv.chat.server import completions, memory_api, problems
from memkv.chat.server.limits import Gate
from memkv.chat.server.service import Service, fails, service_of

STATIC = Path(__file__).parents[1] / "static"
BODY_BYTES = 4 << 20
IMPORT_BYTES = 4 << 30
ABOUT = """\
A language model whose conversations survive their process. `/v1` is the OpenAI protocol, with a field `session` more:
a conversation that names one is kept, goes on where it was after any restart, and has the memories of your other
sessions.
`/api` shows and changes what is remembered. A bearer token stands for one tenant; of others it can reach nothing."""


def create_app(service: Service, any_host: bool = False) -> FastAPI:
    """The ASGI application of a service. It closes the service's desk when it ends.

    Args:
        service: model, store and keys.
        any_host: take requests whatever host name they were sent to; for servers with tokens.
    """

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        yield
        service.desk.close()

    app = FastAPI(
        title="memkv", version=version("memkv"), description=ABOUT, lifespan=life, docs_url=None, redoc_url=None
    )
    app.state.service = service
    problems.install(app)
    app.include_router(completions.ROUTER)
    app.include_router(memory_api.ROUTER)

    @app.get("/healthz", tags=["Server"], responses={400: fails()[400]})
    def healthz() -> dict[str, Any]:
        """That it runs, and with what."""
        return {"status": "ok", "version": app.version, "model": service.desk.model.name}

    @app.get(
        "/metrics",
        tags=["Server"],
        response_class=Response,
        responses={200: {"description": "Prometheus' text format.", "content": {"text/plain": {}}}, **fails()},
    )
    def metrics(request: Request) -> Response:
        """Counters of the whole server, for Prometheus; any token opens them."""
        service_of(request).keys.tenant(request.headers.get("Authorization"))
        return Response(service.numbers.page(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/", include_in_schema=False)
    def page() -> FileResponse:
        return FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-cache"})

    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    app.add_middleware(Gate, body_bytes=BODY_BYTES, import_bytes=IMPORT_BYTES, any_host=any_host)
    return app
