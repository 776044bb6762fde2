"""Where sfumato keeps files of its own, and how: whole ones, and only as long as it may."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

STALE = 3600  # seconds after which a part of a write that never ended is removed


def home() -> Path:
    """Where sfumato keeps its own files: SFUMATO_HOME, else the platform's data folder."""
    if folder := os.environ.get("SFUMATO_HOME"):
        return Path(folder)
    from platformdirs import user_data_path

    return user_data_path("sfumato", appauthor=False)


_storing = ContextVar("sfumato_storing", default=True)


@contextmanager
def unstored() -> Iterator[None]:
    """While active, runs keep no copies of their inputs."""
    token = _storing.set(False)
    try:
        yield
    finally:
        _storing.reset(token)


def storing() -> bool:
    """Whether runs may leave anything here: not while `unstored`, nor with SFUMATO_STORE=0."""
    return _storing.get() and os.environ.get("SFUMATO_STORE") != "0"


def put(path: Path, data: bytes) -> None:
    """A whole file in the place of what is there; nothing stays of a write that fails.

    Nor, after a while, of one whose program was killed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f"{path.stem}.*.part"):
        remove_stale(left)
    handle, part = tempfile.mkstemp(".part", f"{path.name}.", path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        Path(part).replace(path)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise


def remove_stale(part: Path) -> None:
    """Remove a part of a write that never ended, once it is old."""
    with suppress(OSError):  # another program may have done so
        if time.time() - part.stat().st_mtime > STALE:
            part.unlink(missing_ok=True)
