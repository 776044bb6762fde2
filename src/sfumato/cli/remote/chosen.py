"""Which server the command line names, and how; help reads this, so it imports next to nothing."""

from __future__ import annotations

import os
from contextvars import ContextVar
from dataclasses import dataclass

SERVER, TOKEN_FILE = "SFUMATO_SERVER", "SFUMATO_TOKEN_FILE"


@dataclass(frozen=True, eq=False)
class Chosen:
    """A server's address, once for each command line.

    typed: there, rather than by the environment. token_file: holds the token. detach: submit, and
    do not wait.
    """

    url: str
    token_file: str | None = None
    detach: bool = False
    typed: bool = True


class Detached(Exception):  # noqa: N818  (not an error)
    """All is submitted and said, and nothing more is waited for."""


_chosen: ContextVar[Chosen | None] = ContextVar("sfumato_server", default=None)


def choose(url: str | None, token_file: str | None, detach: bool) -> str:
    """Take what the command line says, else the environment; what is wrong with it, or nothing."""
    typed, url = url is not None, url if url is not None else os.environ.get(SERVER) or None
    token = token_file if token_file is not None else os.environ.get(TOKEN_FILE) or None
    _chosen.set(None if url is None else Chosen(url, token, detach, typed))
    if url is None and (detach or token_file is not None):
        option = "--detach" if detach else "--token-file"
        return f"{option}: goes with --server URL, or {SERVER}; give that too"
    return ""


def chosen() -> Chosen | None:
    """The server that does what a verb asks for; None where this machine does."""
    return _chosen.get()
