"""Pool: tasks that runners pull, for callers without a server; each is done once."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field

from sfumato.core.errors import SfumatoError
from sfumato.server.runner.protocol import (
    Failed,
    Made,
    Runner,
    RunnerLostError,
    Said,
    Stopped,
    Task,
)

LOSSES = 2  # times that a task may lose its runner and be begun again
BETWEEN = 1.0, 15.0  # seconds between tries of a runner that cannot begin, at first and at most
DESERTED = 120.0  # seconds without any runner, after which nothing is waited for


@dataclass(eq=False)
class Order:
    """A task that was asked for, and what comes of it: its files and its notes."""

    task: Task
    future: Future[tuple[list[Made], list[str]]] = field(default_factory=Future)
    losses: int = 0


class Pool:
    """Runners in a loop of their own, in a thread. Of each order's attempts the last one counts."""

    def __init__(self, runners: Sequence[Runner], deserted: float = DESERTED) -> None:
        self.runners, self.deserted = runners, deserted
        self.waiting: deque[Order] = deque()
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.changed = asyncio.Event()
        self.last_alive = 0.0
        self.unable: dict[str, str] = {}  # runner -> why it could not begin the last time
        self.tasks: list[asyncio.Task[None]] = []

    def __enter__(self) -> Pool:
        self.thread.start()
        asyncio.run_coroutine_threadsafe(self._begin(), self.loop).result()
        return self

    def __exit__(self, *error: object) -> None:
        """Stop what is at work, and end all runners."""
        with suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(self._end(), self.loop).result(60)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)

    def submit(self, task: Task) -> Future[tuple[list[Made], list[str]]]:
        """What the task makes, once a runner has done it; SfumatoError where it cannot be."""
        order = Order(task)
        self.loop.call_soon_threadsafe(self._add, order)
        return order.future

    def _add(self, order: Order) -> None:
        self.waiting.append(order)
        self.changed.set()

    async def _begin(self) -> None:
        self.last_alive = self.loop.time()
        work = [self._serve(runner) for runner in self.runners]
        self.tasks = [asyncio.create_task(one) for one in [*work, self._watch()]]

    async def _end(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await asyncio.gather(*(runner.close() for runner in self.runners))
        self._give_up("the pool was closed")

    async def _serve(self, runner: Runner) -> None:
        """Give tasks to one runner."""
        while True:
            if not runner.alive:
                await self._revive(runner)
            while not self.waiting:
                self.changed.clear()
                await self.changed.wait()
            if not runner.alive:
                continue
            order = self.waiting.popleft()
            try:
                await self._attempt(runner, order)
            except asyncio.CancelledError:
                order.future.cancel()
                raise
            except RunnerLostError as error:
                order.losses += 1
                if order.losses > LOSSES:
                    line = f"its runner was lost {order.losses} times ({error})"
                    order.future.set_exception(SfumatoError(line))
                else:
                    self.waiting.appendleft(order)
                    self.changed.set()

    async def _revive(self, runner: Runner) -> None:
        wait, most = BETWEEN
        while True:
            try:
                await runner.start()
                self.unable.pop(runner.name, None)
                return
            except (RunnerLostError, SfumatoError) as error:
                self.unable[runner.name] = str(error)
            await asyncio.sleep(wait)
            wait = min(wait * 2, most)

    async def _attempt(self, runner: Runner, order: Order) -> None:
        """One attempt, of which nothing counts before its end."""
        happenings: list[Made] = []
        notes: list[str] = []
        async for happening in runner.run(order.task):
            if isinstance(happening, Made):
                happenings.append(happening)
            elif isinstance(happening, Said):
                notes.append(happening.text)
            elif isinstance(happening, Failed):
                order.future.set_exception(SfumatoError(happening.line))
                return
            elif isinstance(happening, Stopped):
                order.future.set_exception(SfumatoError("was stopped"))
                return
        order.future.set_result((happenings, notes))

    async def _watch(self) -> None:
        """End all waiting where no runner has been there for long."""
        while True:
            await asyncio.sleep(min(1.0, self.deserted))
            if len(self.unable) < len(self.runners):
                self.last_alive = self.loop.time()
            elif self.loop.time() - self.last_alive > self.deserted:
                self._give_up(f"no runner can begin; {next(iter(self.unable.values()))}")

    def _give_up(self, why: str) -> None:
        while self.waiting:
            self.waiting.popleft().future.set_exception(SfumatoError(why))
