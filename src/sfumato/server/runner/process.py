"""A runner that is a process of this machine, spawned anew when it dies or has grown."""

from __future__ import annotations

import asyncio
import atexit
import itertools
import multiprocessing
import os
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from sfumato.core.errors import SfumatoError
from sfumato.server import logs
from sfumato.server.runner import child
from sfumato.server.runner.protocol import (
    LAST,
    Happening,
    Made,
    Ready,
    RunnerLostError,
    Stopped,
    Task,
)

GROWN = 2 << 30  # bytes more than after its first task, at which a process is replaced
STUBBORN = 30.0  # seconds after which a process that does not stop is killed
STARTS_IN = 600.0  # seconds, in which models are loaded

Arrived = Any  # of child.py's messages; None: the process is gone


class ProcessRunner:
    """One process. make: gives what it does tasks with, in that process; it is pickled."""

    def __init__(self, name: str, make: Callable[[], child.Work], grown: int = GROWN) -> None:
        self.name, self.make, self.grown = name, make, grown
        self.folder = tempfile.TemporaryDirectory(prefix="sfumato-runner-")
        self.process: Any = None
        self.pipe: Connection | None = None
        self.arrived: asyncio.Queue[Arrived] = asyncio.Queue()
        self.answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.numbers = itertools.count(1)
        self.at_work: str | None = None
        self.known: dict[str, str] = {}
        """What lines on the process's stderr are about."""
        self.first_memory = 0
        self.wants_anew = False
        self.made = float("-inf")  # when it last told a file
        self.early: str | None = None  # cancelled before its process was there
        atexit.register(self._kill)  # it hears no SIGTERM, for which multiprocessing would wait

    def _kill(self) -> None:
        if self.process is not None:
            self.process.kill()

    @property
    def alive(self) -> bool:
        return self.process is not None and bool(self.process.is_alive())

    async def start(self) -> Ready:
        """Spawn the process, and wait until its models are loaded."""
        await self.close()
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        said, errors = context.Pipe(duplex=False) if os.name == "posix" else (None, None)
        self.process = context.Process(
            target=child.main, args=(other, self.make, self.folder.name, errors),
            name=f"sfumato-{self.name}", daemon=True,
        )  # fmt: skip
        await asyncio.to_thread(self.process.start)
        other.close()
        if said is not None and errors is not None:
            errors.close()
            threading.Thread(target=self._log, args=(said,), daemon=True).start()
        self.arrived = asyncio.Queue()
        self.first_memory, self.wants_anew = 0, False
        loop = asyncio.get_running_loop()
        arguments = (self.pipe, self.arrived, loop)
        threading.Thread(target=self._read, args=arguments, daemon=True).start()
        try:
            first = await asyncio.wait_for(self.arrived.get(), STARTS_IN)
        except TimeoutError:
            first = child.Unable(f"was not ready within {STARTS_IN:.0f} s")
        if isinstance(first, Ready):
            return first
        await self.close()
        why = first.line if isinstance(first, child.Unable) else "its process died at its start"
        raise SfumatoError(f"runner {self.name}: {why}")

    def _read(
        self, pipe: Connection, arrived: asyncio.Queue[Arrived], loop: asyncio.AbstractEventLoop
    ) -> None:
        """In a thread: what the process says, until it is gone."""
        message: Arrived = True
        while message is not None:
            try:
                message = pipe.recv()
            except Exception:  # cut in the middle, it is no message
                message = None
            with suppress(RuntimeError):  # the loop has ended before
                if isinstance(message, child.Answer):
                    loop.call_soon_threadsafe(self._answered, message)
                else:
                    loop.call_soon_threadsafe(arrived.put_nowait, message)
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(self._forget_answers)

    def _log(self, said: Connection) -> None:
        """In a thread: lines of the process's stderr, until it is gone."""
        with said, os.fdopen(os.dup(said.fileno()), errors="replace") as stream:
            for line in stream:
                if line.strip():
                    logs.pass_on(line.rstrip(), {"runner": self.name, **self.known})

    async def run(self, task: Task) -> AsyncIterator[Happening]:
        """What happens while the task is done."""
        self.at_work, self.early = task.id, None
        self.known = {"job": task.id, "request": task.asked_by}
        try:
            if self.wants_anew:
                await self._anew()
            if self.early == task.id:
                yield Stopped()
                return
            self._send(task)
            while True:
                message = await self.arrived.get()
                if not isinstance(message, child.Told):
                    raise RunnerLostError(self.name)
                if isinstance(message.happening, Made):
                    self.made = asyncio.get_running_loop().time()
                if isinstance(message.happening, LAST):
                    self.first_memory = self.first_memory or message.memory
                    self.wants_anew = message.memory > self.first_memory + self.grown
                    self.at_work = None
                yield message.happening
                if isinstance(message.happening, LAST):
                    return
        finally:
            self.at_work = None  # `known` stays until the next: its last lines may still come

    async def _anew(self) -> None:
        try:
            await self.start()
        except SfumatoError as error:
            raise RunnerLostError(str(error)) from None

    def cancel(self, id: str) -> None:
        """Stop the task; a process that does not within a while is killed."""
        if self.at_work == id:
            self.early = id
            with suppress(RunnerLostError):
                self._send(child.Cancel(id))
            asyncio.get_running_loop().call_later(STUBBORN, self._kill_at, id)

    def finish(self, id: str) -> None:
        """Let the task end with what it has, if it is one that can."""
        if self.at_work == id:
            with suppress(RunnerLostError):
                self._send(child.Finish(id))

    def _kill_at(self, id: str) -> None:
        if self.at_work != id:
            return
        loop = asyncio.get_running_loop()
        silent = loop.time() - self.made
        if silent < STUBBORN:  # it brings what it has
            loop.call_later(STUBBORN - silent, self._kill_at, id)
        else:
            self._kill()

    async def plan(self, request: str, inputs: Mapping[str, Path]) -> dict[str, Any]:
        """What a request would do."""
        if self.process is None:
            raise SfumatoError("plan: the runner is not there now; ask again in a while")
        number = next(self.numbers)
        self.answers[number] = asyncio.get_running_loop().create_future()
        try:
            self._send(child.Ask(number, request, inputs))
            return await self.answers[number]
        except RunnerLostError:
            raise SfumatoError("plan: the runner is gone; ask again in a while") from None
        finally:
            self.answers.pop(number, None)

    def _answered(self, answer: child.Answer) -> None:
        future = self.answers.get(answer.number)
        if future is not None and not future.done():
            if answer.plan is None:
                future.set_exception(SfumatoError(answer.refusal))
            else:
                future.set_result(answer.plan)

    def _forget_answers(self) -> None:
        for future in self.answers.values():
            if not future.done():
                future.set_exception(RunnerLostError(self.name))

    def _send(self, message: Any) -> None:
        try:
            if self.pipe is None:
                raise OSError
            self.pipe.send(message)
        except (OSError, ValueError):
            raise RunnerLostError(self.name) from None

    async def close(self) -> None:
        """End the process."""
        process, pipe = self.process, self.pipe
        self.process = self.pipe = None
        if pipe is not None:
            pipe.close()
        if process is not None:
            if process.is_alive():
                process.kill()
            await asyncio.to_thread(process.join)
