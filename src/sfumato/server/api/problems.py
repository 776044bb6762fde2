"""Problem (RFC 9457): every error that a client gets, one sentence and the field it is about."""

from __future__ import annotations

import logging
import re
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse

from sfumato import documents
from sfumato.core.errors import SfumatoError, one_line
from sfumato.server.admission import RefusedError
from sfumato.server.store.trouble import StoreError

log = logging.getLogger("sfumato.server")

MEDIA = "application/problem+json"
RETRY = "5"  # seconds after which what was refused for now may be asked again


class Problem(BaseModel):
    """What is wrong, in one sentence, and what to do about it."""

    model_config = ConfigDict(frozen=True)

    type: str = Field(
        default="about:blank", description="of the problem; about:blank, as its status says"
    )
    title: str = Field(description="what the status means")
    status: int
    detail: str = Field(description="one sentence: what is wrong, and what to do")
    field: str | None = Field(default=None, description="the part of the request that it is about")
    request: str | None = Field(
        default=None, description="id of the request, as the server's log has it"
    )


def problem(
    status: int, detail: str, field: str | None = None, request: str | None = None, **headers: str
) -> JSONResponse:
    """The answer."""
    title = HTTPStatus(status).phrase
    body = Problem(
        title=title, status=status, detail=one_line(detail), field=field or None, request=request
    )
    if status in (429, 503, 507):
        headers.setdefault("Retry-After", RETRY)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    content = body.model_dump(exclude_none=True)
    return JSONResponse(content, status, media_type=MEDIA, headers=named)


class RefusedHere(HTTPException):  # an answer
    """A refusal of the face itself, with headers."""

    def __init__(self, status: int, detail: str, field: str = "", **headers: str) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        super().__init__(status, detail, named)
        self.field = field


def install(app: FastAPI) -> None:
    """Make every error of the app a Problem."""

    @app.exception_handler(SfumatoError)
    async def refused(request: Request, error: SfumatoError) -> JSONResponse:
        status, field = 422, ""
        if isinstance(error, RefusedError):
            status, field = error.status, error.field
        elif isinstance(error, StoreError):
            status = 507 if "full" in str(error) else 503
        return problem(status, str(error), field, id_of(request))

    @app.exception_handler(RequestValidationError)
    async def unreadable(request: Request, error: RequestValidationError) -> JSONResponse:
        first: Any = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:])
        value = "" if first["type"] == "missing" else f" = {first.get('input')!r:.60}"
        message = first["msg"].removeprefix("Value error, ")
        text = f"{where}{value}: {message[:1].lower()}{message[1:]}"
        return problem(422, text, where, id_of(request))

    @app.exception_handler(HTTPException)
    async def other(request: Request, error: HTTPException) -> JSONResponse:
        detail, field = error.detail, getattr(error, "field", "")
        if error.status_code == 404 and detail == "Not Found":
            detail = f"{request.url.path}: no such route; /openapi.json lists them"
            field = "path"
        headers = {k.replace("-", "_"): v for k, v in (error.headers or {}).items()}
        if error.status_code == 405 and detail == "Method Not Allowed":
            headers = {"Allow": allowed(app, request.url.path)}
            detail = f"{request.url.path}: does not take {request.method}; /openapi.json says what"
            field = "method"
        elif error.status_code == 400 and not isinstance(error, RefusedHere):  # of a form
            detail, field = "the body is not multipart with a file; send one field `file`", "file"
        return problem(error.status_code, str(detail), field, id_of(request), **headers)

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, error: ClientDisconnect) -> JSONResponse:
        return problem(400, "the client went away in the middle of its request", None)

    @app.exception_handler(Exception)
    async def bug(request: Request, error: Exception) -> JSONResponse:
        log.exception("request failed", exc_info=error, extra={"request": id_of(request)})
        line = f"internal error of the server ({type(error).__name__}); its log says more"
        return problem(500, line, None, id_of(request))


def allowed(app: FastAPI, path: str) -> str:
    """Methods that a path takes; routes know of their own alone."""
    methods: set[str] = set()
    for template, operations in app.openapi()["paths"].items():
        form = re.escape(template).replace(r"\{name\}", ".+")
        form = re.sub(r"\\\{[a-z0-9]+\\\}", "[^/]+", form)
        if re.fullmatch(form, path):
            methods |= {method.upper() for method in operations}
    return ", ".join(sorted(methods))


def id_of(request: Request) -> str | None:
    request_id: str | None = request.scope.get("sfumato.request")
    return request_id


def explained(error: Any) -> tuple[str, str]:
    """What is wrong with a body, and where; kinds of the union are no part of that."""
    first = error.errors(include_url=False)[0]
    place = [str(part) for part in first["loc"]]
    if place and place[0] in ("recipe", "sweep", "batch", "train", "compare"):
        place = place[1:]
    text = documents.explained(error)
    if first["type"] == "json_invalid":
        return f"body: {text}", "body"
    if first["type"] == "kind":
        return text, "kind"
    tag = str(first["loc"][0]) if first["loc"] else ""
    if tag in ("recipe", "sweep", "batch", "train", "compare"):
        text = text.replace(f"{tag}.", "", 1)
    return text, ".".join(place)
