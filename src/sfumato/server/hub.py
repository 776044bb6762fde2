"""Hub: tells listeners of events as they happen, from memory; the newest step of each job.

A listener that does not keep up is cut: it comes back with the number of the last event it has
seen, and is told the rest from the table.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from dataclasses import dataclass, field

from sfumato.server.events import Sent

BEHIND = 1000  # kept events that a listener may be behind


@dataclass(eq=False)
class Listener:
    """One stream. job: whose events (and its children's), None for all of the client's.

    Of steps only the newest of each job waits.
    """

    client: str
    job: str | None
    waiting: deque[Sent] = field(default_factory=deque)
    steps: OrderedDict[str, Sent] = field(default_factory=OrderedDict)
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    cut: bool = False

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
        self.woken.set()

    def close(self) -> None:
        self.cut = True
        self.waiting.clear()
        self.steps.clear()
        self.woken.set()

    async def take(self, seconds: float) -> list[Sent]:
        """What has happened since; empty after so long without anything, or when it is cut."""
        if not self.woken.is_set():
            try:
                async with asyncio.timeout(seconds):
                    await self.woken.wait()
            except TimeoutError:
                return []
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
