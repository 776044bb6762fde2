"""Hub: tells listeners of events as they happen, from memory; the newest step of each job.

What happens within a moment is told together. One clock serves all listeners, and they are woken a
few at a time, so that however many there are, requests are answered in between. A listener that
does not keep up is cut: it comes back with the number of the last event it has seen, and is told
the rest from the table.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from dataclasses import dataclass, field

from sfumato.server.events import Sent

BEHIND = 1000  # kept events that a listener may be behind
TOGETHER, EACH, MOST = 0.02, 1e-4, 0.04
"""Seconds in which what happens is told together: with one listener, more for each, at most."""
SLICE = 16  # listeners that are woken at once


@dataclass(eq=False)
class Listener:
    """One stream. job: whose events (and its children's), None for all of the client's.

    Of steps only the newest of each job waits. due: it will be woken soon.
    """

    client: str
    job: str | None
    waiting: deque[Sent] = field(default_factory=deque)
    steps: OrderedDict[str, Sent] = field(default_factory=OrderedDict)
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    cut: bool = False
    due: bool = False

    def hears(self, sent: Sent) -> bool:
        if self.client != sent.client:
            return False
        return self.job is None or self.job in (sent.job, sent.parent)

    def offer(self, sent: Sent) -> None:
        if self.cut:
            return
        if sent.number is None:
            self.steps[sent.job] = sent
        else:
            self.steps.pop(sent.job, None)  # it is older than this
            self.waiting.append(sent)
            if len(self.waiting) > BEHIND:
                self.close()

    def close(self) -> None:
        self.cut = True
        self.waiting.clear()
        self.steps.clear()
        self.woken.set()

    async def take(self) -> list[Sent]:
        """What has happened since, when it is woken; empty where nothing has, or when it is cut."""
        await self.woken.wait()
        self.woken.clear()
        taken = [*self.waiting, *self.steps.values()]
        self.waiting.clear()
        self.steps.clear()
        return taken


class Hub:
    """All listeners, and the newest step of each job that runs."""

    def __init__(self) -> None:
        self.listeners: set[Listener] = set()
        self.steps: dict[str, Sent] = {}
        self.due: list[Listener] = []
        self.clock: asyncio.TimerHandle | None = None
        self.last = 0.0

    def listen(self, client: str, job: str | None) -> Listener:
        listener = Listener(client, job)
        self.listeners.add(listener)
        return listener

    def leave(self, listener: Listener) -> None:
        self.listeners.discard(listener)

    def publish(self, *events: Sent) -> None:
        for sent in events:
            if sent.number is None:
                self.steps[sent.job] = sent
            elif sent.ends or sent.event == "queued":
                self.steps.pop(sent.job, None)
            for listener in self.listeners:
                if listener.hears(sent):
                    listener.offer(sent)
                    if not listener.due:
                        listener.due = True
                        self.due.append(listener)
        if self.due and self.clock is None:
            loop = asyncio.get_running_loop()
            moment = min(TOGETHER + EACH * len(self.listeners), MOST)
            self.clock = loop.call_at(max(loop.time(), self.last + moment), self._wake_all)

    def _wake_all(self) -> None:
        due, self.due, self.clock = self.due, [], None
        self.last = asyncio.get_running_loop().time()
        self._wake(due, 0)

    def _wake(self, due: list[Listener], first: int) -> None:
        """A few, and the others when these and whatever else waits have had their turn."""
        for listener in due[first : first + SLICE]:
            listener.due = False
            listener.woken.set()
        if first + SLICE < len(due):
            asyncio.get_running_loop().call_soon(self._wake, due, first + SLICE)

    def newest(self, client: str, job: str | None) -> list[Sent]:
        """Steps that a new listener is told at once."""
        asks = Listener(client, job)
        return [sent for sent in self.steps.values() if asks.hears(sent)]

    def count(self, client: str) -> int:
        """Streams of a client."""
        return sum(listener.client == client for listener in self.listeners)

    def close(self) -> None:
        for listener in list(self.listeners):
            listener.close()
