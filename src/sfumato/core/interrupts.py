"""Signals that stop a run: what they raise, and how work that must be whole is shielded from them.

The program's own handlers, and its exit codes, are cli/signals.py.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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


@contextmanager
def undisturbed() -> Iterator[None]:
    """What happens in here is done to its end; a signal takes effect after it, a second at once.

    In other threads than the main one nothing changes, as signals do not reach them.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {n: signal.getsignal(n) for n in SIGNALS}
    before = {n: old for n, old in before.items() if old not in (signal.SIG_IGN, None)}

    def restore() -> None:
        for number, old in before.items():
            signal.signal(number, old)

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)
        if len(came) > 1:
            restore()
            signal.raise_signal(number)

    with suppress(ValueError):  # another interpreter of this process, which has no signals
        for number in before:
            signal.signal(number, note)
    try:
        yield
    finally:
        if before:
            with suppress(ValueError):
                restore()
        if len(came) == 1:
            signal.raise_signal(came[0])
