"""What a server is started with: its address, its folder, its limits, who may come in.

What a word of the command line sets as it stands says so in its field, which is its one place.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


def option(default: Any, flag: str, text: str) -> Any:
    """A field that an option of `sfumato serve` sets. text: what its help says."""
    return field(default=default, metadata={"flag": flag, "text": text})


@dataclass(frozen=True)
class Address:
    """Where it listens. certfile, keyfile: of TLS."""

    host: str = option("127.0.0.1", "--host", "address to listen on; others need --tokens")
    port: int = option(8642, "--port", "0 takes a free one")
    certfile: str | None = option(None, "--certfile", "TLS certificate")
    keyfile: str | None = option(None, "--keyfile", "its key")

    @property
    def loopback(self) -> bool:
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http{'s' if self.certfile else ''}://{host}:{self.port}"


@dataclass(frozen=True)
class Limits:
    """What a client may ask for; each refusal says which limit it was.

    upload: bytes of a picture; body: bytes of any other request; pixels and side: of a picture
    that comes in or is asked for; pictures: of one recipe; queued: jobs that wait, of a client and
    of all; streams: of a client; rate: requests a second, of which `burst` may come at once.
    """

    upload: int = 64 << 20
    body: int = 8 << 20
    pixels: int = 64_000_000
    side: int = 16_384
    pictures: int = 64
    queued: int = 20_000
    queued_all: int = 100_000
    streams: int = 300
    rate: float = 100.0
    burst: int = 400


@dataclass(frozen=True)
class Retention:
    """How long what has ended stays: days, and bytes of all pictures. None: for ever."""

    days: float | None = 90.0
    bytes: int | None = 50 << 30


@dataclass(frozen=True)
class Settings:
    """folder: of database and pictures. tokens: client -> token; none: whoever reaches the port.

    hosts: names that requests may give as Host, besides those of the loopback. floor: bytes free
    on the disk below which the server is not ready. secure: it is reached by https. drain: seconds
    that jobs get to end in when the server is asked to stop.
    """

    folder: Path
    tokens: Mapping[str, str] = field(default_factory=dict)
    hosts: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    retention: Retention = field(default_factory=Retention)
    floor: int = 256 << 20
    secure: bool = False
    root_path: str = option("", "--root-path", "path that a proxy puts in front")
    drain: float = option(30.0, "--drain", "seconds that running jobs get when it stops")
    heartbeat: float = 15.0
    patience: float = 20.0
    """Seconds that a listener may take to read what it is sent."""
