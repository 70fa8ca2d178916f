"""Errors as OpenAI's clients expect them: a status, and `{"error": {message, type, param, code}}`."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match

from memkv import errors
from memkv.chat.server.keys import Unauthorized
from memkv.errors import MemkvError

LOG = logging.getLogger("memkv.server")
RETRY_SECONDS = 1
SIMPLER = {"json_invalid": "is not JSON", "string_pattern_mismatch": "is not in the form that is described"}
# Fields of the protocol that are taken only where they ask for nothing.
NOT_DONE = (
    "n", "logprobs", "top_logprobs", "frequency_penalty", "presence_penalty", "logit_bias", "tools", "tool_choice",
    "functions", "response_format", "modalities",
)  # fmt: skip
PLACE = re.compile(r"(?!(?:body|query|path)$)\w+")  # not what pydantic calls the branches of a union


class Busy(MemkvError):
    """The session answers another message."""


class Overloaded(MemkvError):
    """Too many requests wait for the model."""


class TooMany(MemkvError):
    """More sessions than a tenant may have."""


class TooLarge(MemkvError):
    """A request body beyond the limit."""


class Cancelled(MemkvError):
    """The client went away before there was an answer."""


# Class -> (status, type, code); the first that fits.
STATUS: tuple[tuple[type[BaseException], int, str, str], ...] = (
    (Unauthorized, 401, "authentication_error", "invalid_api_key"),
    (TooLarge, 413, "invalid_request_error", "request_too_large"),
    (Busy, 409, "conflict_error", "session_busy"),
    (Overloaded, 503, "server_error", "overloaded"),
    (TooMany, 429, "rate_limit_error", "too_many_sessions"),
    (Cancelled, 499, "cancelled", "cancelled"),
    (errors.BudgetExceeded, 400, "invalid_request_error", "context_length_exceeded"),
    (errors.DidNotShrink, 409, "conflict_error", "did_not_shrink"),
    (errors.FingerprintMismatch, 409, "conflict_error", "other_model"),
    (errors.Conflict, 409, "conflict_error", "conflict"),
    (errors.NotFound, 404, "not_found_error", "not_found"),
    (errors.QuotaExceeded, 507, "insufficient_storage_error", "quota_exceeded"),
    (errors.StorageFull, 507, "insufficient_storage_error", "storage_full"),
    (errors.StoreBusy, 503, "server_error", "store_busy"),
    (errors.DamagedBlob, 400, "invalid_request_error", "damaged"),
    (errors.ModelUnavailable, 404, "not_found_error", "model_not_found"),
    (errors.ForgetPending, 202, "pending", "forget_pending"),
    (errors.InvalidInput, 400, "invalid_request_error", "invalid_input"),
    (errors.ConfigError, 400, "invalid_request_error", "invalid_input"),
    (errors.UnsupportedModel, 400, "invalid_request_error", "unsupported_model"),
)
FAILED = (500, "server_error", "internal_error")
NAMES = {404: "not_found_error", 405: "invalid_request_error", 401: "authentication_error"}


def status_of(error: BaseException) -> tuple[int, str, str]:
    """Status, type and code of an error."""
    found = ((status, kind, code) for known, status, kind, code in STATUS if isinstance(error, known))
    return next(found, FAILED)


def body_of(error: BaseException) -> dict[str, Any]:
    """An error as the protocol writes it. Of what is not memkv's own only that it happened."""
    _, kind, code = status_of(error)
    message = str(error)
    if not isinstance(error, MemkvError):
        message = "The model or the server failed; the session is as it was before this. The server's log says why."
    return problem(message, kind, code)


def problem(message: str, kind: str, code: str | None, param: str | None = None) -> dict[str, Any]:
    """The protocol's shape."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def respond(error: BaseException) -> JSONResponse:
    """The response to a request that ended in an error."""
    status, _, _ = status_of(error)
    headers: Mapping[str, str] = {}
    if status == 401:
        headers = {"WWW-Authenticate": "Bearer"}
    if isinstance(error, (Busy, Overloaded, errors.StoreBusy)):
        headers = {"Retry-After": str(RETRY_SECONDS)}
    return JSONResponse(body_of(error), status, headers)


def install(app: FastAPI) -> None:
    """Let all errors of an application take this shape."""

    def counted(request: Request, code: str | None) -> None:
        request.app.state.service.numbers.errors.labels(code or "none").inc()

    @app.exception_handler(MemkvError)
    async def ours(request: Request, error: MemkvError) -> JSONResponse:
        counted(request, status_of(error)[2])
        return respond(error)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        # Where a field may be one of several things, the one that came furthest is what was meant.
        first = max(error.errors(), key=lambda each: len(each["loc"]))
        place = [str(part) for part in first["loc"] if PLACE.fullmatch(str(part))]
        where = ".".join(place) or None
        said = where or "The body"
        said += f" {SIMPLER[first['type']]}" if first["type"] in SIMPLER else f": {first['msg']}"
        code = "invalid_input"
        if place and place[0] in NOT_DONE:
            said, code = f"{said}: anything else is not done here", "unsupported_parameter"
        counted(request, code)
        return JSONResponse(problem(f"{said}. See /openapi.json.", "invalid_request_error", code, where), 400)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        if isinstance(error.__cause__, TooLarge):  # FastAPI makes this of whatever is raised while a body is read
            return respond(error.__cause__)
        said = {
            404: f"There is no {request.url.path} here. See /openapi.json.",
            405: f"{request.url.path} does not take {request.method}.",
        }.get(error.status_code, str(error.detail))
        kind = NAMES.get(error.status_code, "invalid_request_error")
        headers = {"Allow": ", ".join(methods(request))} if error.status_code == 405 else error.headers
        return JSONResponse(problem(said, kind, None), error.status_code, headers)

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> JSONResponse:
        counted(request, FAILED[2])
        LOG.exception("%s %s", request.method, request.url.path, exc_info=error)
        return respond(error)


def methods(request: Request) -> list[str]:
    """What the path of a request takes: Starlette names the methods of the first route alone."""
    fitting = (route for route in request.app.routes if route.matches(request.scope)[0] != Match.NONE)
    return sorted({method for route in fitting for method in getattr(route, "methods", None) or ()})
