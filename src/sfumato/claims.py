"""A folder in which one run is at work: another is refused until that one has ended.

The system holds the claim, so that a process that is killed lets go of it too.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sfumato.core.errors import SfumatoError

FILE = ".claimed"
"""Stays in the folder of a run that was killed, where it says nothing and stops nobody."""


@contextmanager
def claimed(
    folder: Path,
    refusal: str = "another run is at work in it; wait for it, or stop it, or give another -o",
) -> Iterator[None]:
    """Hold an existing folder; SfumatoError while another run, here or elsewhere, holds it.

    refusal: what that error says of the folder.
    """
    held = _held(folder, refusal)
    try:
        yield
    finally:
        with suppress(OSError):
            (folder / FILE).unlink()
        os.close(held)


def _held(folder: Path, refusal: str) -> int:
    path = folder / FILE
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        except OSError as error:
            raise SfumatoError(f"{path}: cannot be written ({error.strerror})") from None
        if not _locked(descriptor):
            os.close(descriptor)
            raise SfumatoError(f"{folder}: {refusal}")
        with suppress(OSError):
            if os.path.samestat(os.fstat(descriptor), path.lstat()):
                return descriptor
        os.close(descriptor)  # who held it has just ended and removed the file


def _locked(file: int) -> bool:
    """Whether the file is ours now; true also where the file system knows no locks."""
    try:
        import fcntl
    except ImportError:
        return _locked_by_windows(file)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _locked_by_windows(file: int) -> bool:
    import msvcrt

    try:
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]  # not on this system
    except OSError:
        return False
    return True
