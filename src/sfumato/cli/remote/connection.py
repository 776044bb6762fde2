"""Connection: requests to one server, which may be away for a while in the middle of a job."""

from __future__ import annotations

import ipaddress
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field

from sfumato import documents
from sfumato.cli import show
from sfumato.cli.remote.chosen import TOKEN_FILE, Chosen
from sfumato.core.errors import SfumatoError, one_line, quoted
from sfumato.server.events import ENDING, AnyEvent, JobEvent

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")

FIRST, MOST = 0.2, 5.0  # seconds between tries
SILENCE = 45.0  # seconds without a word after which a stream counts as lost; it pings each 15
AWAY = (502, 503, 504)  # a proxy without a server, a server that is being stopped
TOKEN_BYTES = 4096


class Problem(BaseModel):
    """What a server says of a request that it refuses."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    detail: Annotated[str, Field(max_length=20_000)]
    field: str | None = None


class RefusedError(SfumatoError):
    """A server's refusal, in its own sentence."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Connection:
    """One server as a client. Until it has answered once, it must be there; later it is waited for.

    away: it does not answer now, and that was said.
    """

    def __init__(self, chosen: Chosen) -> None:
        self.url = checked(chosen.url)
        self.token = None if chosen.token_file is None else read_token(Path(chosen.token_file))
        self.client = self._client()
        self.met = self.away = False
        self.private = self.url.startswith("https:") or loopback(self.url)
        self.back_again = 0
        """How often it was away and has come back."""

    def _client(self) -> httpx.Client:
        httpx = imported()
        headers = {} if self.token is None else {"Authorization": f"Bearer {self.token}"}
        return httpx.Client(  # type: ignore[no-any-return]  # a module that is imported late
            base_url=self.url, headers=headers, timeout=httpx.Timeout(60.0, connect=10.0),
            trust_env=not loopback(self.url),  # no proxy leads to this machine
        )  # fmt: skip

    def ask(self, method: str, path: str, missing: bool = False, **options: Any) -> httpx.Response:
        """The answer, asked for until there is one. RefusedError; missing: 404 is an answer too."""
        wait = FIRST
        while True:
            try:
                answer = self.client.request(method, path, **options)
            except imported().RequestError as error:
                self._lost(reason(error))
            else:
                if answer.status_code < 400 or (missing and answer.status_code == 404):
                    self._met()
                    return answer
                self._refused(answer)
            time.sleep(wait)
            wait = min(2 * wait, MOST)

    def get(self, kind: type[T], method: str, path: str, **options: Any) -> T:
        """The JSON of an answer as a value of `kind`."""
        return documents.parse_json(kind, self.ask(method, path, **options).content, self.url)

    def events(self, id: str) -> Iterator[AnyEvent]:
        """Events of a job and its children until it ends, each once, however often it is cut."""
        httpx, last, wait = imported(), 0, FIRST
        patient = httpx.Timeout(60.0, connect=10.0, read=SILENCE)
        while True:
            headers = {"Last-Event-ID": str(last)} if last else {}
            path, answered = f"/v1/jobs/{id}/events", False
            try:
                with self.client.stream("GET", path, headers=headers, timeout=patient) as answer:
                    answered = True
                    if answer.status_code == 204:
                        return
                    if answer.status_code >= 400:
                        answer.read()
                        self._refused(answer)
                    else:
                        self._met()
                    for number, data in frames(answer.iter_lines()):
                        last, wait = number or last, FIRST
                        event = documents.parse_json(JobEvent, data, self.url).root
                        yield event
                        if event.job == id and event.event in ENDING:
                            return
            except httpx.RequestError as error:
                if not answered:  # else it is only cut, which the next try shows
                    self._lost(reason(error))
            time.sleep(wait)
            wait = min(2 * wait, MOST)

    def _met(self) -> None:
        if self.away:
            show.errors.print(f"{self.url}: is back")
            self.away = False
            self.back_again += 1
        self.met = True

    def _lost(self, why: str) -> None:
        if not self.met:
            raise SfumatoError(
                f"{self.url}: no server answers there ({why}); check --server, or start one with "
                "`sfumato serve`"
            )
        if not self.away:
            self.away = True
            show.errors.print(f"{self.url}: does not answer ({why}); this goes on when it does")

    def _refused(self, answer: httpx.Response) -> None:
        """Raise what an answer says; return where it may be asked again."""
        status = answer.status_code
        if status in AWAY and self.met:
            self._lost(f"status {status}")
            return
        try:
            problem = documents.parse_json(Problem, answer.content, self.url)
        except SfumatoError:
            raise RefusedError(
                f"{self.url}: answers {status}, and not as a server of sfumato; check --server",
                status,
            ) from None
        if status == 429 and problem.field is None:  # too many at once
            with suppress(ValueError):
                time.sleep(min(float(answer.headers.get("Retry-After", "1")), MOST))
            return
        if status == 401:
            self._unknown(problem)
        raise RefusedError(f"{self.url}: {problem.detail}", status)

    def _unknown(self, problem: Problem) -> NoReturn:
        if self.token is None:
            raise RefusedError(
                f"{self.url}: needs a token; put yours into a file and give --token-file FILE, or "
                f"{TOKEN_FILE}",
                401,
            )
        raise RefusedError(f"{self.url}: {problem.detail}", 401)

    def once(self, path: str, seconds: float, **options: Any) -> httpx.Response | None:
        """Post once, by a connection of its own; None where that is not answered."""
        try:
            with self._client() as client:
                answer: httpx.Response = client.post(path, timeout=seconds, **options)
        except imported().RequestError:
            return None
        return answer if answer.status_code < 500 else None


def imported() -> Any:
    """httpx, where it is installed."""
    try:
        import httpx
    except ImportError:
        raise SfumatoError(
            "--server: httpx is not installed; pip install 'sfumato[remote]'"
        ) from None
    return httpx


def checked(url: str) -> str:
    """A server's address without the slash at its end."""
    try:
        parts = urlsplit(url)
        whole = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        whole = False
    if not whole or parts.query or parts.fragment or parts.username is not None:
        raise SfumatoError(f"--server {quoted(url)}: write it such as http://127.0.0.1:8642")
    return url.rstrip("/")


def loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def read_token(path: Path) -> str:
    """The token of a file, which nobody else may read."""
    file = documents.expanded(path)
    token = documents.read_text(file, TOKEN_BYTES).strip()
    if not token or not (token.isascii() and token.isprintable()) or " " in token:
        raise SfumatoError(f"{path}: holds no token; it must be one word alone")
    if os.name == "posix" and file.stat().st_mode & 0o077:
        raise SfumatoError(f"{path}: others may read it; chmod 600 {path}")
    return token


def reason(error: Exception) -> str:
    return one_line(str(error)) or type(error).__name__


def frames(lines: Iterator[str]) -> Iterator[tuple[int | None, str]]:
    """Number and data of each server-sent event."""
    number, data = None, ""
    for line in lines:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "id" and value.isdigit():
            number = int(value)
        elif name == "data":
            data = f"{data}\n{value}" if data else value
        elif not line and data:
            yield number, data
            number, data = None, ""
