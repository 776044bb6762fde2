"""Digests of large files that were read before, kept for as long as the files are as they were.

Weights of gigabytes take seconds to read through, at every load. What is kept is named by a digest
of the file's path and of all that the file system says about it: place, size, and the times of its
last writing and of its last change, which the system sets at any writing, whatever a program says.
Nothing is kept where these times are not that fine (whole seconds: images made reproducibly, file
systems of other kinds) or mean something else (Windows).
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from sfumato.home import home, put, storing

FOLDER = "digests"
LARGE = 1 << 26
"""Bytes below which a file is read again as quickly."""
SETTLED = 60.0
"""Seconds since its last change from which on another one has another time, and clocks of another
machine that keeps it count as set right."""
MOST = 1000
"""Digests that are kept; the oldest go first."""


def find(file: Path, status: os.stat_result) -> str | None:
    """The digest of a large file that has not changed since `keep`."""
    if not _tells(status):
        return None
    try:
        digest = _place(file, status).read_text(encoding="ascii")
    except (OSError, ValueError):
        return None
    return digest if len(digest) == 64 and set(digest) <= set("0123456789abcdef") else None


def keep(file: Path, before: os.stat_result, after: os.stat_result, digest: str) -> None:
    """Keep a digest for the next time; before, after: of the open file, around its reading."""
    if not _tells(before) or not storing() or _state(before) != _state(after):
        return
    if time.time() - max(before.st_mtime, before.st_ctime) > SETTLED:
        with suppress(OSError):  # a home that cannot be written to
            place = _place(file, before)
            put(place, digest.encode())
            _drop_oldest(place.parent)


def _tells(status: os.stat_result) -> bool:
    """Whether it is worth it, and another content would have other times."""
    fine = os.name != "nt" and status.st_ctime_ns % 1_000_000_000 != 0
    return status.st_size >= LARGE and fine


def _state(status: os.stat_result) -> tuple[int, ...]:
    """Which file, and as it is."""
    return (
        status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
    )  # fmt: skip


def _place(file: Path, status: os.stat_result) -> Path:
    known = (str(file.resolve()), *_state(status))
    return home() / FOLDER / sha256(repr(known).encode()).hexdigest()


def _drop_oldest(folder: Path) -> None:
    kept = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in kept[MOST:]:
        with suppress(OSError):
            path.unlink(missing_ok=True)
