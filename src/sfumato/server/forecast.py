"""Forecast: when jobs will have ended, by what such jobs took before on these devices.

Runners take what waits in the queue's own order; a runner whose job's time is unknown has no
forecast beyond it.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sfumato.server.kept import Kept
from sfumato.server.queue import Entry
from sfumato.server.works import Workload

FRESH = 1.0  # seconds that a forecast serves
SHARE = 20  # and so many times as long as it took to make


@dataclass
class Forecast:
    """devices: of every runner that is alive, by its name."""

    kept: Kept
    devices: Callable[[], Mapping[str, str]]
    clock: Callable[[], float] = time.monotonic
    ends: dict[str, float] = field(default_factory=dict)
    free: list[tuple[float, str, str]] = field(default_factory=list)
    costs: dict[tuple[Workload, str], float | None] = field(default_factory=dict)
    made: float = 0.0
    until: float = 0.0

    def seconds(self, entry: Entry) -> float | None:
        """Seconds until an open job has ended; None where that is not known."""
        now = self.clock()
        if now >= self.until:
            self._make(now)
        end = self.ends.get(entry.id)
        new = entry.runner is None and entry.phase != "children" and entry.added > self.made
        if end is None and new and self.free:
            free, _, device = self.free[0]  # it came since, and is the last so far
            cost = self.cost(entry, device)
            end = None if cost is None else free + cost
        return None if end is None else round(max(end - now, 0.0), 1)

    def cost(self, entry: Entry, device: str) -> float | None:
        """Seconds that a job takes there."""
        work = entry.work
        if work is None or not work.steps or entry.phase == "finish":
            return None
        if (work, device) not in self.costs:
            row = self.kept.db.one(
                "SELECT seconds FROM durations WHERE model = ? AND size = ? AND device = ?",
                (work.model, work.size, device),
            )
            step = None if row is None else float(row["seconds"])
            self.costs[work, device] = None if step is None else step * work.steps
        return self.costs[work, device]

    def _parents(self) -> None:
        """Parents end with their last child, if that is known of all that are open."""
        parents: dict[str, float | None] = {}
        for entry in self.kept.queue.open.values():
            if entry.parent is not None:
                end, so_far = self.ends.get(entry.id), parents.get(entry.parent, 0.0)
                known = end is not None and so_far is not None
                parents[entry.parent] = max(end or 0.0, so_far or 0.0) if known else None
        self.ends |= {id: end for id, end in parents.items() if end is not None}

    def _make(self, now: float) -> None:
        began = time.perf_counter()
        self.ends, self.free, self.costs = {}, [], {}
        at_work = {entry.runner: entry for entry in self.kept.queue.running()}
        for name, device in self.devices().items():
            if (entry := at_work.get(name)) is None:
                heapq.heappush(self.free, (now, name, device))
            elif (end := self._running(entry, self.cost(entry, device), now)) is not None:
                self.ends[entry.id] = end
                heapq.heappush(self.free, (end, name, device))
        for entry in self.kept.queue.coming():
            if not self.free:
                break
            end, name, device = heapq.heappop(self.free)
            if (seconds := self.cost(entry, device)) is not None:
                self.ends[entry.id] = end + seconds
                heapq.heappush(self.free, (end + seconds, name, device))
        self._parents()
        self.made = now
        self.until = now + max(FRESH, SHARE * (time.perf_counter() - began))

    def _running(self, entry: Entry, cost: float | None, now: float) -> float | None:
        left = None if entry.progress is None else entry.progress.eta_s
        if left is not None:
            return now + left
        return None if cost is None else max(now, entry.began + cost)
