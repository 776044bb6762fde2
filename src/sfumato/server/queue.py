"""Queue: which job comes next. In turn over clients, of one by priority, then by age.

It is in memory, made anew of the table when the server starts; only the dispatcher changes it.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from bisect import insort
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count

from sfumato.server.jobs import Kind, Progress, State, When
from sfumato.server.works import Work


@dataclass(eq=False)
class Entry:
    """An open job: queued, or at work. runner: the name of the one that has it.

    phase: of a parent, `begin`, `children` (they are at work) or `finish`; else `begin`. open:
    children that have not ended; total: all of them. work: how much it is. asked_by: id of the
    request that it came by. added, began: seconds of the monotonic clock.
    """

    id: str
    number: int
    client: str
    kind: Kind
    phase: str
    parent: str | None
    priority: int
    position: float
    attempt: int = 0
    losses: int = 0
    state: State = State.QUEUED
    cancelling: When | None = None
    runner: str | None = None
    progress: Progress | None = None
    open: int = 0
    total: int = 0
    work: Work | None = None
    asked_by: str = ""
    added: float = field(default_factory=time.monotonic)
    began: float = 0.0

    @property
    def logged(self) -> dict[str, str]:
        """What a line of the log about it says."""
        return {"job": self.id, "request": self.asked_by}

    @property
    def rank(self) -> tuple[int, float, int]:
        return (-self.priority, self.position, self.number)


@dataclass
class Queue:
    """Open jobs by id, and of each client those that wait, in order. paused: clients that wait."""

    open: dict[str, Entry] = field(default_factory=dict)
    waiting: dict[str, list[Entry]] = field(default_factory=dict)
    paused: set[str] = field(default_factory=set)
    served: dict[str, int] = field(default_factory=dict)
    turns: count[int] = field(default_factory=lambda: count(1))
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, entry: Entry) -> None:
        """It waits now."""
        self.open[entry.id] = entry
        entry.state = State.QUEUED
        insort(self.waiting.setdefault(entry.client, []), entry, key=lambda e: e.rank)
        self.changed.set()

    def drop(self, entry: Entry) -> None:
        """It waits no more."""
        mine = self.waiting.get(entry.client, [])
        if entry in mine:
            mine.remove(entry)
        if not mine:
            self.waiting.pop(entry.client, None)

    def move(self, entry: Entry, position: float, priority: int) -> None:
        """Elsewhere in its client's order."""
        self.drop(entry)
        entry.position, entry.priority = position, priority
        self.add(entry)

    def close(self, entry: Entry) -> None:
        """It has ended. One of the same id that waits again meanwhile stays."""
        self.drop(entry)
        if self.open.get(entry.id) is entry:
            del self.open[entry.id]

    def take(self) -> Entry | None:
        """The next one, which is at work from now on; None where none may begin."""
        ready = [client for client in self.waiting if client not in self.paused]
        if not ready:
            return None
        client = min(ready, key=lambda name: self.served.get(name, 0))
        entry = self.waiting[client][0]
        self.drop(entry)
        self.served[client] = next(self.turns)
        entry.state = State.RUNNING
        return entry

    def coming(self) -> Iterator[Entry]:
        """What waits, in the order in which it will be taken as things are."""
        places = {client: 0 for client in self.waiting if client not in self.paused}
        turns = [(self.served.get(client, 0), k, client) for k, client in enumerate(places)]
        heapq.heapify(turns)
        turn = max((turn for turn, _, _ in turns), default=0)
        while turns:
            _, k, client = heapq.heappop(turns)
            yield self.waiting[client][places[client]]
            places[client] += 1
            if places[client] < len(self.waiting[client]):
                turn += 1
                heapq.heappush(turns, (turn, k, client))

    async def next(self) -> Entry:
        """The next one, as soon as there is one."""
        while (entry := self.take()) is None:
            self.changed.clear()
            await self.changed.wait()
        return entry

    def pause(self, client: str, value: bool) -> None:
        if value:
            self.paused.add(client)
        else:
            self.paused.discard(client)
            self.changed.set()

    def order(self, client: str) -> list[Entry]:
        """What waits of a client, the first to begin in front."""
        return list(self.waiting.get(client, ()))

    def ahead(self, entry: Entry) -> int | None:
        """How many jobs begin before it as things are; None where it does not wait."""
        if entry.state is not State.QUEUED:
            return None
        mine = self.waiting.get(entry.client, []).index(entry)
        others = (len(w) for c, w in self.waiting.items() if c != entry.client)
        return mine + sum(min(n, mine + 1) for n in others)

    def children(self, parent: str) -> list[Entry]:
        """A parent's open children."""
        return [entry for entry in self.open.values() if entry.parent == parent]

    def count(self, client: str | None = None) -> int:
        """Jobs that wait, of a client or of all."""
        if client is not None:
            return len(self.waiting.get(client, ()))
        return sum(map(len, self.waiting.values()))

    def running(self) -> Iterable[Entry]:
        return [entry for entry in self.open.values() if entry.runner is not None]
