"""Bodies: JSON read strictly by pydantic, so that 1 is no true and "3" no number."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

from sfumato import documents
from sfumato.core.errors import SfumatoError
from sfumato.server import requests
from sfumato.server.admission import RefusedError
from sfumato.server.api.problems import RefusedHere, explained
from sfumato.server.gallery import Chosen

T = TypeVar("T", bound=BaseModel)

BODY = "x-body"
"""Key of a route's openapi_extra that names the model of its body."""
MODELS: dict[str, type[BaseModel]] = {
    model.__name__: model
    for model in (
        requests.JobRequest,
        requests.CancelRequest,
        requests.ReorderRequest,
        requests.LoginRequest,
        Chosen,
    )
}


def described(model: type[BaseModel]) -> dict[str, Any]:
    """The openapi_extra of a route whose body is that model."""
    return {BODY: model.__name__}


def body(model: type[T]) -> Callable[[Request], Awaitable[T]]:
    """A dependency that reads it."""

    async def read(request: Request) -> T:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise RefusedHere(415, "send JSON, as Content-Type: application/json", "Content-Type")
        data = await request.body()
        try:
            value = model.model_validate_json(data)
        except ValidationError as error:
            text, field = explained(error)
            raise RefusedError(text or "body: cannot be read", field or "body") from None
        except SfumatoError as error:  # of a recipe
            raise RefusedError(str(error), "recipe") from None
        if (key := documents.repeated_key(data)) is not None:
            raise RefusedError(f"body: has {key!r:.80} twice; leave one out", "body")
        return value

    return read
