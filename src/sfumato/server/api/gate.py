"""Gate: what every request passes, before any route: Host, Origin, size, an id, a line in the log.

Plain ASGI, so that streams pass through it as they are.
"""

from __future__ import annotations

import ipaddress
import logging
import secrets
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sfumato.server.api.head import HEAD
from sfumato.server.api.problems import RefusedHere, problem
from sfumato.server.settings import Settings

log = logging.getLogger("sfumato.server.access")

LOOPBACK = ("localhost", "127.0.0.1", "::1")
SLACK = 64 << 10  # bytes of a multipart body beside its file
SAFE = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}

Seen = Callable[[str, str, int, float], None]


class Gate:
    """seen: told method, route, status and seconds of every request."""

    def __init__(self, app: ASGIApp, settings: Settings, seen: Seen) -> None:
        self.app, self.settings, self.seen = app, settings, seen
        self.hosts = {*LOOPBACK, *(host.lower() for host in settings.hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        id = scope["sfumato.request"] = secrets.token_hex(8)
        status = 500

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = id
                for name, value in SAFE.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            headers = Headers(scope=scope)
            refusal = self._refusal(headers, scope)
            if refusal is not None:
                await problem(*refusal, request=id)(scope, receive, answer)
            else:
                await self.app(scope, self._bounded(receive, scope), answer)
        finally:
            seconds = time.perf_counter() - began
            route = getattr(scope.get("route"), "path", "other")
            self.seen(scope["method"], route, status, seconds)
            log.info(
                "%s %s", scope["method"], scope["path"],
                extra={"request": id, "status": status, "seconds": round(seconds, 4),
                       "client": scope.get("sfumato.client")},
            )  # fmt: skip

    def _refusal(self, headers: Headers, scope: Scope) -> tuple[int, str, str] | None:
        """Status, sentence and field of what is refused at once."""
        if len(headers.getlist("host")) != 1:
            return 400, "give one Host header", "Host"
        size = sum(len(name) + len(value) for name, value in headers.raw)
        if size > HEAD:
            return 431, f"the headers have {size:,} bytes; at most {HEAD:,} here", "headers"
        host = headers["host"]
        if _name(f"//{host}") not in self.hosts:
            return (
                421,
                f"host {host!r:.80}: not this server's name; `serve --host-name` adds one",
                "Host",
            )
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return (
                403,
                f"origin {origin!r:.80}: pages of other servers may not ask this one",
                "Origin",
            )
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length) > self._most(scope):
            return (
                413,
                f"the body has {int(length):,} bytes; at most {self._most(scope):,} here",
                self._part(scope),
            )
        return None

    def _most(self, scope: Scope) -> int:
        limits = self.settings.limits
        return limits.upload + SLACK if _uploads(scope) else limits.body

    def _part(self, scope: Scope) -> str:
        return "file" if _uploads(scope) else "body"

    def _bounded(self, receive: Receive, scope: Scope) -> Receive:
        """A body of unknown length is counted as it comes."""
        most, got = self._most(scope), 0

        async def bounded() -> Message:
            nonlocal got
            message = await receive()
            if message["type"] == "http.request":
                got += len(message.get("body", b""))
                if got > most:
                    part = self._part(scope)
                    raise RefusedHere(413, f"the body is larger than {most:,} bytes", part)
            return message

        return bounded


def _uploads(scope: Scope) -> bool:
    path: str = scope["path"]
    return path.rstrip("/").endswith("/v1/images")


@lru_cache(maxsize=64)
def _name(address: str) -> str:
    """The host of //host:port, without its port, as it is compared."""
    try:
        name = (urlsplit(address).hostname or "").lower()
    except ValueError:
        return ""
    try:
        parsed: Any = ipaddress.ip_address(name)
    except ValueError:
        return name
    return str(parsed)
