"""Routes of sessions: a page's cookie for a token."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from sfumato.server import requests
from sfumato.server.api.bodies import body, described
from sfumato.server.api.callers import COOKIE, LASTS
from sfumato.server.api.shared import Client, TheCallers, TheService
from sfumato.server.jobs import View

router = APIRouter(prefix="/v1", tags=["session"])


class Session(View):
    """Who is logged in."""

    client: str


@router.post(
    "/session", operation_id="login", openapi_extra=described(requests.LoginRequest),
)  # fmt: skip
async def login(
    callers: TheCallers,
    service: TheService,
    request: Request,
    response: Response,
    wanted: Annotated[requests.LoginRequest, Depends(body(requests.LoginRequest))],
) -> Session:
    """Exchange a token for a cookie that no script can read."""
    address = request.client.host if request.client else ""
    client, session = callers.login(wanted.token, address)
    secure = service.settings.secure or request.headers.get("x-forwarded-proto") == "https"
    response.set_cookie(
        COOKIE, session, max_age=LASTS, path=service.settings.root_path or "/", httponly=True,
        samesite="strict", secure=secure,
    )  # fmt: skip
    return Session(client=client)


@router.get("/session", operation_id="whoAmI")
async def who(client: Client) -> Session:
    """Who is logged in."""
    return Session(client=client)


@router.delete("/session", status_code=204, operation_id="logout")
async def logout(service: TheService, response: Response) -> None:
    """Give the cookie back."""
    response.delete_cookie(
        COOKIE, path=service.settings.root_path or "/", httponly=True, samesite="strict",
        secure=service.settings.secure,
    )  # fmt: skip
