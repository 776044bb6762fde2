"""Room in the write-ahead log: blocks that are the file's before a commit needs them.

The sync of a commit that makes the log's file longer waits for the file system's own journal too,
and so for what other programs write; one that writes over what is there waits for its data alone.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

MORE = 4 << 20  # bytes that are added at once


class Room:
    """Of a log that is written in this thread. What lies behind its frames is read by nobody: a
    frame counts by its salt and checksum."""

    def __init__(self, log: Path) -> None:
        self.log, self.size = log, -1

    def make(self) -> None:
        """Between two transactions: more, where the last one has made the file longer."""
        with suppress(OSError):  # a full disk; the next commit says so
            size = self.log.stat().st_size
            if size <= self.size:
                return
            self.size = size
            with self.log.open("r+b") as stream:
                stream.seek(0, os.SEEK_END)
                self.size += stream.write(bytes(MORE))
                stream.flush()
                os.fsync(stream.fileno())
