"""Who calls: clients by token or session, and how often each may."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from fastapi import Request

from sfumato.server.api.problems import RefusedHere
from sfumato.server.settings import Limits, Settings

COOKIE = "sfumato_session"
LASTS = 30 * 24 * 3600  # seconds of a session
ANYONE = "local"
"""Name of all clients where there are no tokens."""
GUESSES = 10  # wrong tokens of an address at once, and so many a minute
REMEMBERED = 10_000  # addresses and clients whose rates are known
SMALL = 0.1  # of a request, for a thumbnail: a gallery that is scrolled asks for hundreds a second


@dataclass
class Bucket:
    """Requests that may still come: `rate` more a second, at most `burst`."""

    rate: float
    burst: float
    left: float
    at: float

    def take(self, now: float, weight: float) -> float:
        """Take one, or a part of one; seconds until there is one, 0 where there was."""
        self.left = min(self.burst, self.left + (now - self.at) * self.rate)
        self.at = now
        if self.left >= weight:
            self.left -= weight
            return 0.0
        return (weight - self.left) / self.rate


@dataclass
class Rates:
    """Of every client, or address; the oldest are forgotten."""

    rate: float
    burst: float
    clock: Callable[[], float] = time.monotonic
    buckets: dict[str, Bucket] = field(default_factory=dict)

    def take(self, who: str, weight: float = 1.0) -> float:
        now = self.clock()
        bucket = self.buckets.pop(who, None) or Bucket(self.rate, self.burst, self.burst, now)
        self.buckets[who] = bucket
        if len(self.buckets) > REMEMBERED:
            del self.buckets[next(iter(self.buckets))]
        return bucket.take(now, weight)


class Callers:
    """tokens: client -> token, of which only digests are kept."""

    def __init__(self, tokens: Mapping[str, str], limits: Limits, secret: bytes) -> None:
        self.digests = {_digest(token): name for name, token in tokens.items()}
        self.secret = secret
        self.rates = Rates(limits.rate, limits.burst)
        self.guesses = Rates(GUESSES / 60, GUESSES)

    @classmethod
    def of(cls, settings: Settings) -> Callers:
        return cls(settings.tokens, settings.limits, secret_of(settings))

    @property
    def open(self) -> bool:
        """Whether whoever reaches the port is let in."""
        return not self.digests

    def named(self, token: str) -> str | None:
        """Whose token it is."""
        digest, owner = _digest(token), None
        for known, name in self.digests.items():
            if hmac.compare_digest(known, digest):
                owner = name
        return owner

    def login(self, token: str, address: str) -> tuple[str, str]:
        """Client and session of a token; RefusedHere where it is none."""
        name = ANYONE if self.open else self.named(token)
        if name is None:
            raise self._unknown(address, "token")
        until = int(time.time()) + LASTS
        text = json.dumps([name, until, _short(token)])
        body = base64.urlsafe_b64encode(text.encode()).decode()
        return name, f"{body}.{self._signed(body)}"

    def _signed(self, body: str) -> str:
        return hmac.new(self.secret, body.encode(), hashlib.sha256).hexdigest()

    def of_session(self, cookie: str) -> str | None:
        """The client of a session, as long as its token is one."""
        body, _, signature = cookie.partition(".")
        if not signature.isascii() or not hmac.compare_digest(self._signed(body), signature):
            return None
        name, until, token = json.loads(base64.urlsafe_b64decode(body))
        current = {_short_digest(digest) for digest, known in self.digests.items() if known == name}
        if until < time.time() or (not self.open and token not in current):
            return None
        return str(name)

    def caller(self, request: Request) -> str:
        """The client of a request; RefusedHere where it is nobody's, or comes too often."""
        name = self._caller(request)
        small = request.method == "GET" and request.url.path.endswith("/thumbnail")
        wait = self.rates.take(name, SMALL if small else 1.0)
        if wait:
            raise RefusedHere(
                429, "too many requests; wait a little", Retry_After=str(max(1, round(wait)))
            )
        return name

    def _caller(self, request: Request) -> str:
        if self.open:
            return ANYONE
        address = request.client.host if request.client else ""
        header = request.headers.get("authorization", "")
        kind, _, token = header.partition(" ")
        if header:
            name = self.named(token.strip()) if kind.lower() == "bearer" else None
            if name is None:
                raise self._unknown(address, "Authorization")
            return name
        cookie = request.cookies.get(COOKIE)
        name = None if cookie is None else self.of_session(cookie)
        if name is None:
            raise RefusedHere(
                401, "no token; send `Authorization: Bearer TOKEN`, or log in by POST /v1/session",
                "Authorization", WWW_Authenticate="Bearer",
            )  # fmt: skip
        return name

    def _unknown(self, address: str, part: str) -> RefusedHere:
        wait = self.guesses.take(address)
        if wait:
            return RefusedHere(
                429,
                "too many wrong tokens; wait a minute",
                part,
                Retry_After=str(max(1, round(wait))),
            )
        return RefusedHere(
            401,
            "that token is unknown; ask whoever runs this server",
            part,
            WWW_Authenticate="Bearer",
        )


def secret_of(settings: Settings) -> bytes:
    """What sessions are signed with; kept, so that they outlive the server."""
    file = settings.folder / "session.key"
    try:
        key = file.read_bytes()
    except OSError:
        key = b""
    if len(key) != 32:
        key = secrets.token_bytes(32)
        file.touch(mode=0o600)
        file.write_bytes(key)
    return key


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="replace")).digest()


def _short(token: str) -> str:
    return _short_digest(_digest(token))


def _short_digest(digest: bytes) -> str:
    return hashlib.sha256(b"session" + digest).hexdigest()[:16]
