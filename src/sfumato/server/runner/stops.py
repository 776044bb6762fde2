"""How a task that must not be broken off anywhere is asked to end: a training, after its step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Listener = Callable[[bool], None]
"""Told, from any thread, that the task is to end; True: with what it has so far as its result."""

_listeners: list[Listener] = []  # at most one: a process does one task at a time


@contextmanager
def heard(listener: Listener) -> Iterator[None]:
    """While active, the task at work is told by this, and not by an exception."""
    _listeners[:] = [listener]
    try:
        yield
    finally:
        _listeners.clear()


def tell(keeps: bool) -> bool:
    """Whether the task at work listens; then it knows."""
    for listener in _listeners[:]:
        listener(keeps)
        return True
    return False
