"""EventStream: server-sent events of a listener, as a response.

Everything that may be refused has been before it is made. A reader that does not take what it is
sent within the settings' patience is cut; it comes back with Last-Event-ID.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from sfumato.server.events import Sent
from sfumato.server.hub import Hub, Listener

PING = b": ping\n\n"
RETRY = b"retry: 1000\n\n"
HEADERS = {
    "cache-control": "no-store, no-transform",
    "x-accel-buffering": "no",  # proxies pass it on at once
}


class EventStream(Response):
    """missed: kept events since the listener was last here, in parts; last: number of its last.

    Ends with the event that ends the listener's job. heartbeat: seconds after which a silent one
    is pinged; patience: seconds that a write may take.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        hub: Hub,
        listener: Listener,
        missed: Iterator[list[Sent]],
        last: int,
        heartbeat: float,
        patience: float,
    ) -> None:
        super().__init__(None, 200, HEADERS, self.media_type)
        del self.headers["content-length"]
        self.hub, self.listener, self.missed, self.last = hub, listener, missed, last
        self.heartbeat, self.patience = heartbeat, patience
        self.limit = asyncio.timeout(None)
        self.begun: float | None = None  # when the write at work was
        self.sent = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gone = asyncio.create_task(self._gone(receive))
        watch = asyncio.create_task(self._watch())
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            with suppress(TimeoutError, OSError):  # too slow, or gone
                async with self.limit:
                    await self._send(send, [RETRY])
                    await self._tell(send, gone)
            with suppress(TimeoutError, OSError):
                async with asyncio.timeout(min(self.patience, 1)):
                    await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self.hub.leave(self.listener)
            gone.cancel()
            watch.cancel()

    async def _watch(self) -> None:
        """Ping a silent listener, and end one that does not take what it is sent.

        It looks now and then: a timer for each write would cost more than the write.
        """
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(min(self.heartbeat, self.patience) / 4)
            now = loop.time()
            if self.begun is not None and now - self.begun > self.patience:
                self.limit.reschedule(now)
                return
            if self.begun is None and now - self.sent > self.heartbeat:
                self.listener.woken.set()

    async def _gone(self, receive: Receive) -> None:
        """Until the client is gone; the stream then ends."""
        while (await receive())["type"] != "http.disconnect":
            pass
        self.listener.close()

    async def _tell(self, send: Send, gone: asyncio.Task[None]) -> None:
        over = False
        for part in self.missed:
            await self._send(send, [sent.frame for sent in part])
            self.last = part[-1].number or self.last
            over = self._over(part, over)
        if over:
            return
        now = self.hub.newest(self.listener.client, self.listener.job)
        if now:
            await self._send(send, [sent.frame for sent in now])
        while not gone.done():
            taken = await self.listener.take()
            if self.listener.cut:
                return
            new = [sent for sent in taken if sent.number is None or sent.number > self.last]
            if new or not taken:
                await self._send(send, [sent.frame for sent in new] or [PING])
            if self._over(new, False):
                return

    def _over(self, events: list[Sent], before: bool) -> bool:
        """Whether the listener's job has ended, and was not tried again; before: so far."""
        if self.listener.job is None:
            return False
        mine = [sent for sent in events if sent.job == self.listener.job and sent.number]
        return mine[-1].ends if mine else before

    async def _send(self, send: Send, frames: list[bytes]) -> None:
        loop = asyncio.get_running_loop()
        self.begun = loop.time()
        body = b"".join(frames)
        await send({"type": "http.response.body", "body": body, "more_body": True})
        self.begun, self.sent = None, loop.time()
