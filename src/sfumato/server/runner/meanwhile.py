"""A thread that looks on while the body of a `with` is at work."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def meanwhile(watch: Callable[[threading.Event], None]) -> Iterator[None]:
    """`watch` runs beside the body and returns soon after the event is set, at the body's end."""
    ended = threading.Event()
    thread = threading.Thread(target=watch, args=(ended,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
