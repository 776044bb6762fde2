"""Digests of large files that were read before, kept for as long as the files are as they were.

Weights of gigabytes take seconds to read through, at every load. What is kept is named by a digest
of the file's path and of all that the file system says about it: place, size, and the times of its
last writing and of its last change, which any writing sets anew.
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
SETTLED = 2.0
"""Seconds after its last change from which on another one would have another time."""
MOST = 1000
"""Digests that are kept; the oldest go first."""


def find(file: Path, status: os.stat_result) -> str | None:
    """The digest of a large file that has not changed since `keep`."""
    if status.st_size < LARGE:
        return None
    try:
        digest = _place(file, status).read_text(encoding="ascii")
    except (OSError, ValueError):
        return None
    return digest if len(digest) == 64 and set(digest) <= set("0123456789abcdef") else None


def keep(file: Path, status: os.stat_result, digest: str) -> None:
    """Keep a digest for the next time; status: of the file, before it was read."""
    if status.st_size < LARGE or not storing():
        return
    place = _place(file, status)
    with suppress(OSError):  # a home that cannot be written to, or a file that is gone
        now = file.stat()
        if _place(file, now) == place and time.time() - max(now.st_mtime, now.st_ctime) > SETTLED:
            put(place, digest.encode())
            _drop_oldest(place.parent)


def _place(file: Path, status: os.stat_result) -> Path:
    known = (file.resolve(), status.st_dev, status.st_ino, status.st_size,
             status.st_mtime_ns, status.st_ctime_ns)  # fmt: skip
    return home() / FOLDER / sha256(repr(known).encode()).hexdigest()


def _drop_oldest(folder: Path) -> None:
    kept = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in kept[MOST:]:
        path.unlink(missing_ok=True)
