"""What a server is started with: its folder, its limits, who may come in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


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
    root_path: str = ""
    drain: float = 30.0
    heartbeat: float = 15.0
    patience: float = 20.0
    """Seconds that a listener may take to read what it is sent."""
