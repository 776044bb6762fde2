"""Server: a folder, its runners and its service, from start to stop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

from sfumato.claims import claimed
from sfumato.core.errors import SfumatoError
from sfumato.server.dispatch import Dispatcher
from sfumato.server.kept import Kept
from sfumato.server.recovery import CLEAN, recover
from sfumato.server.retention import retain
from sfumato.server.runner.protocol import Runner
from sfumato.server.service import Service
from sfumato.server.settings import Settings
from sfumato.server.store import records
from sfumato.server.store.database import Database
from sfumato.server.store.files import Files
from sfumato.server.store.runs import Runs

log = logging.getLogger("sfumato.server")

TAKEN = "another server is at work in it; stop that one, or give another --folder"


class Server:
    """runners: made anew whenever it starts. resume: go on at once after a crash."""

    def __init__(
        self, settings: Settings, runners: Callable[[], Sequence[Runner]], resume: bool = False
    ) -> None:
        self.settings, self.runners, self.resume = settings, runners, resume
        self.service: Service | None = None
        try:
            settings.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SfumatoError(
                f"{settings.folder}: cannot be made ({error.strerror}); give another --folder"
            ) from None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Service]:
        """Hold the folder, go on with what is in it, and in the end drain."""
        folder = self.settings.folder
        with claimed(folder, TAKEN):
            kept = Kept(Database(folder), Files(folder / "pictures"), Runs(folder / "runs"))
            dispatcher = Dispatcher(kept, self.runners())
            try:
                await dispatcher.start()
                await recover(kept, dispatcher.states, self.resume)
                self.service = Service(self.settings, kept, dispatcher)
                dispatcher.begin()
                keeper = asyncio.create_task(retain(self.service))
                yield self.service
                keeper.cancel()
                await dispatcher.drain(self.settings.drain)
                await kept.surely(partial(records.fact, name=CLEAN, value="yes"))
            finally:
                await dispatcher.close()
                kept.hub.close()
                await asyncio.to_thread(kept.db.close)
                self.service = None
