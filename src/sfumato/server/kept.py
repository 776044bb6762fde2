"""Kept: the table, the files, the queue in memory and the listeners of one server, together."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeVar

from sfumato.server.events import Sent
from sfumato.server.hub import Hub
from sfumato.server.queue import Queue
from sfumato.server.secrecy import Secrets
from sfumato.server.store.database import Database
from sfumato.server.store.files import Files
from sfumato.server.store.runs import Runs
from sfumato.server.store.trouble import StoreError

T = TypeVar("T")

AGAIN = 0.2, 5.0  # seconds between tries of a write that has to be made, at first and at most

log = logging.getLogger("sfumato.server")


@dataclass(eq=False)
class Kept:
    """closing: nothing new begins. trouble: why what has happened cannot be written, if so."""

    db: Database
    files: Files
    runs: Runs
    hub: Hub = field(default_factory=Hub)
    queue: Queue = field(default_factory=Queue)
    secrets: Secrets = field(default_factory=Secrets)
    clock: Callable[[], float] = time.time
    closing: bool = False
    trouble: str = ""
    latest: float = 0.0
    ended: Callable[[str, str, float], None] = lambda kind, state, seconds: None
    """Told kind, state and seconds of every job that ends."""

    def now(self) -> float:
        """Seconds since 1970; where the clock was set back, what it has shown before."""
        self.latest = max(self.latest, self.clock())
        return self.latest

    def moment(self) -> datetime:
        return datetime.fromtimestamp(self.now(), UTC)

    async def surely(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Write what has happened: tried until the disk takes it, as it is true already."""
        return await self.patiently(lambda: self.db.write(work, hurry=False))

    async def seen(self, read: Callable[[], T]) -> T:
        """Read what the queue needs to go on, however long the disk refuses."""

        async def act() -> T:
            return read()

        return await self.patiently(act)

    async def patiently(self, act: Callable[[], Awaitable[T]]) -> T:
        """Do it until no StoreError comes of it; meanwhile the server is not ready."""
        wait, most = AGAIN
        while True:
            try:
                result = await act()
            except StoreError as error:
                if str(error) != self.trouble:
                    log.error("the queue waits: %s", error)
                self.trouble = str(error)
                await asyncio.sleep(wait)
                wait = min(wait * 2, most)
            else:
                self.trouble = ""
                return result

    async def tell(self, work: Callable[[sqlite3.Connection], Sent]) -> None:
        """Write an event surely, then tell listeners."""
        self.hub.publish(await self.surely(work))
