"""Signals that stop a run: what they raise, and how work that must be whole is shielded from them.

The program's own handlers, and its exit codes, are cli/signals.py.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


class Stopped(KeyboardInterrupt):
    """The program was asked to stop, by ctrl-C or by another signal; code: how it then exits."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    @property
    def code(self) -> int:
        return 128 + self.number


def importing(frame: FrameType | None) -> bool:
    """Whether a module is being imported: an exception from outside may be lost in there."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


class _Shield:
    """The signals that came while work is shielded, and what they would have done."""

    def __init__(self) -> None:
        self.came: list[int] = []
        handlers = {number: signal.getsignal(number) for number in SIGNALS}
        self.before = {n: h for n, h in handlers.items() if h not in (signal.SIG_IGN, None)}

    def note(self, number: int, frame: FrameType | None) -> None:
        self.came.append(number)
        if len(self.came) > 1:
            self.lower()
            signal.raise_signal(number)

    def lift(self) -> None:
        for number in self.before:
            signal.signal(number, self.note)

    def lower(self) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)


_shields: list[_Shield] = []  # at most one: what is inside another is shielded already


@contextmanager
def undisturbed() -> Iterator[None]:
    """What happens in here is done to its end; a signal takes effect after it, a second at once.

    In other threads than the main one nothing changes, as signals do not reach them.
    """
    if _shields or threading.current_thread() is not threading.main_thread():
        yield
        return
    shield = _Shield()
    _shields.append(shield)
    shield.lift()
    try:
        yield
    finally:
        shield.lower()
        _shields.clear()
        if len(shield.came) == 1:
            signal.raise_signal(shield.came[0])
