"""The process of a runner: its main thread does tasks, others hear what the server says.

A cancelled task is stopped by a signal, which takes effect as soon as the operation at work
returns, so within a network call.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from sfumato.core.errors import error_line
from sfumato.core.interrupts import Stopped as Interrupt
from sfumato.core.interrupts import importing
from sfumato.server import logs
from sfumato.server.runner import stops
from sfumato.server.runner.protocol import LAST, Happening, Ready, Stopped, Task

STOP = getattr(signal, "SIGUSR1", signal.SIGINT)
AGAIN = 0.02  # seconds after which a task is told again to stop, as an exception may be lost


@dataclass(frozen=True)
class Cancel:
    id: str


@dataclass(frozen=True)
class Finish:
    """The task is to end soon, with what it has."""

    id: str


@dataclass(frozen=True)
class Ask:
    """A plan is wanted; number: which answer is to it."""

    number: int
    request: str
    inputs: Mapping[str, Path]


@dataclass(frozen=True)
class Answer:
    """plan: or else why there is none."""

    number: int
    plan: dict[str, Any] | None
    refusal: str = ""


@dataclass(frozen=True)
class Unable:
    """The runner cannot begin."""

    line: str


@dataclass(frozen=True)
class Told:
    """What happened in a task."""

    happening: Happening
    memory: int = 0


class Work(Protocol):
    """What a process does tasks with: the library, or in tests something small."""

    def ready(self) -> Ready: ...

    def perform(self, task: Task, tell: Callable[[Happening], None]) -> None: ...

    def plan(self, request: str, inputs: Mapping[str, Path]) -> dict[str, Any]: ...


class Child:
    """The state of the process: the task at work, and the one that is to stop."""

    def __init__(self, pipe: Connection, work: Work) -> None:
        self.pipe, self.work = pipe, work
        self.tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self.plans: queue.SimpleQueue[Ask] = queue.SimpleQueue()
        self.sending = threading.Lock()
        self.task: Task | None = None
        self.current: str | None = None
        self.stopping: str | None = None
        self.shielded = False  # the main thread is sending

    def send(self, message: Any) -> None:
        """Whole, whatever is cancelled meanwhile."""
        mine = threading.current_thread() is threading.main_thread()
        self.shielded = self.shielded or mine
        try:
            with self.sending:
                self.pipe.send(message)
        finally:
            self.shielded = self.shielded and not mine

    def tell(self, happening: Happening) -> None:
        last = isinstance(happening, LAST)
        if last:
            self.current = None  # from here on nothing is stopped any more
        self.send(Told(happening, resident() if last else 0))

    def live(self) -> None:
        """Do tasks until the server closes the pipe."""
        signal.signal(STOP, self.stop)
        for target in (self.hear, self.answer):
            threading.Thread(target=target, daemon=True).start()
        while (task := self.tasks.get()) is not None:
            try:
                self.task, self.current = task, task.id
                if self.stopping != task.id:
                    self.work.perform(task, self.tell)
                else:
                    self.tell(Stopped())
            except Interrupt:  # between the task's end and the word of it
                if self.current is not None:
                    self.tell(Stopped())
            finally:
                self.task = self.current = self.stopping = None

    def known(self) -> dict[str, str]:
        """What its log lines are about."""
        task = self.task
        return {} if task is None else {"job": task.id, "request": task.asked_by}

    def stop(self, number: int, frame: FrameType | None) -> None:
        """Raise in the main thread, if the task that was meant is still at work."""
        if self.current is None or self.current != self.stopping:
            return
        if self.shielded or importing(frame):  # it will be told again
            return
        if stops.tell(False):
            return
        raise Interrupt(number)

    def hear(self) -> None:
        """What the server says; the process ends with the pipe."""
        while True:
            try:
                message = self.pipe.recv()
            except (EOFError, OSError):
                os._exit(0)
            if isinstance(message, Task):
                self.tasks.put(message)
            elif isinstance(message, Ask):
                self.plans.put(message)
            elif isinstance(message, Cancel):
                self.stopping = message.id
                threading.Thread(target=self.insist, args=(message.id,), daemon=True).start()
            elif isinstance(message, Finish):
                threading.Thread(target=self.ask, args=(message.id,), daemon=True).start()

    def insist(self, id: str) -> None:
        """Signal until the task has stopped: an exception in a destructor is lost."""
        main = threading.main_thread().ident or 0
        while self.stopping == id:
            if self.current == id and not stops.tell(False):
                signal.pthread_kill(main, STOP)
            time.sleep(AGAIN)

    def ask(self, id: str) -> None:
        """Until the task listens, which a training does not at once, or is over."""
        while self.current == id and not stops.tell(True):
            time.sleep(AGAIN)

    def answer(self) -> None:
        """Make plans, beside the task at work."""
        while True:
            ask = self.plans.get()
            try:
                plan = self.work.plan(ask.request, ask.inputs)
                self.send(Answer(ask.number, plan))
            except Exception as error:  # whatever it is, it is this plan's alone
                self.send(Answer(ask.number, None, error_line(error)))


def resident() -> int:
    """Bytes of memory that the process holds; 0 where that is unknown."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def main(
    pipe: Connection, make: Callable[[], Work], folder: str, errors: Connection | None = None
) -> None:
    """Where the process begins. folder: an empty one, so that recipes find no file by its name.

    errors: where all goes that would be on stderr, whoever writes it.
    """
    if errors is not None:
        os.dup2(errors.fileno(), 2)
    faulthandler.enable()
    for number in (signal.SIGINT, signal.SIGTERM):  # meant for the server, which says what to do
        signal.signal(number, signal.SIG_IGN)
    os.chdir(folder)
    logging.getLogger("sfumato").addHandler(logging.NullHandler())
    child: Child | None = None
    logs.of_process(lambda: {} if child is None else child.known())
    try:
        work = make()
        ready = work.ready()
    except Exception as error:  # said by the server, in a line
        pipe.send(Unable(error_line(error)))
        return
    child = Child(pipe, work)
    child.send(ready)
    child.live()
