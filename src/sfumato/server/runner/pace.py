"""How far a run is and how long it will take, by network calls weighed with what they take."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

SMOOTH = 0.2  # weight of a new sample in the mean
SAMPLES = 2  # before them nothing is said


class Pace:
    """calls: of each stage; shares: what a call of each takes beside the others'.

    before: seconds of a whole call as they were in earlier runs, None where none is known.
    """

    def __init__(
        self,
        calls: Sequence[int],
        shares: Sequence[float],
        before: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.calls, self.shares, self.clock = calls, shares, clock
        self.total = sum(n * share for n, share in zip(calls, shares, strict=True))
        self.done = 0.0
        self.mean = before
        self.samples = SAMPLES if before is not None else 0
        self.last = clock()
        self.began, self.at_first = self.last, 0.0

    def step(self, stage: int, calls: int) -> None:
        """So many calls of the stage have been made."""
        now = self.clock()
        before = sum(n * share for n, share in zip(self.calls[:stage], self.shares, strict=False))
        done = min(before + calls * self.shares[stage], self.total)
        if done > self.done:
            taken = (now - self.last) / (done - self.done)
            self.mean = taken if self.mean is None else self.mean + SMOOTH * (taken - self.mean)
            self.samples += 1
            self.done, self.last = done, now
            if not self.at_first:  # the first call warms up
                self.began, self.at_first = now, done

    @property
    def left(self) -> float | None:
        """Seconds until all calls are made."""
        if self.mean is None or self.samples < SAMPLES:
            return None
        return round(max(self.total - self.done, 0.0) * self.mean, 3)

    @property
    def seconds(self) -> float | None:
        """Of a whole call of this run, its first one apart."""
        steps = self.done - self.at_first
        return (self.last - self.began) / steps if steps > 0 else None
