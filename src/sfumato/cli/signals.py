"""How the program is stopped: by SIGINT, SIGTERM or SIGHUP, at any moment, with an exit code."""

from __future__ import annotations

import _thread
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from sfumato.cli import early
from sfumato.core.interrupts import SIGNALS, Stopped, importing

AGAIN, LATER = 1.0, 0.05  # seconds


class _State:
    """working: a verb runs; patient: it has something to write down."""

    working = False
    patient = False


def listen() -> None:
    """Take over the signals that stop a program; those that are ignored stay so."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stop)


@contextmanager
def working() -> Iterator[None]:
    """While a verb runs a signal raises Stopped; before that it ends the program at once."""
    _State.working = True
    try:
        yield
    finally:
        _State.working = False


@contextmanager
def patient() -> Iterator[None]:
    """What runs in here writes down what it did: a signal always raises, if need be later."""
    _State.patient = True
    try:
        yield
    finally:
        _State.patient = False


def leave() -> None:
    """From now on signals change nothing: what is left to do is done in a moment.

    Python's own end gives a signal that has a handler back to the system, which would end the
    process by it; one that is ignored it leaves so.
    """
    for number in SIGNALS:
        if signal.getsignal(number) is _stop:
            signal.signal(number, signal.SIG_IGN)


def _stop(number: int, frame: FrameType | None) -> None:
    if not _State.working:
        early.end(number)
    if importing(frame):
        # an exception in the middle of an import may be lost, or end the process with a core dump
        if not _State.patient:
            early.end(number)
        _again(number, LATER)
        return
    _again(number, AGAIN)  # an exception in a destructor is lost too
    raise Stopped(number)


def _again(number: int, seconds: float) -> None:
    timer = threading.Timer(seconds, _send, (number,))
    timer.daemon = True
    timer.start()


def _send(number: int) -> None:
    """The signal once more, to the main thread, which a system call may hold."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, number)
    else:
        _thread.interrupt_main(signal.Signals(number))
