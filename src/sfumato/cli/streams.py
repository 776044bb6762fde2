"""The program's stdout and stderr: consoles that cannot show a letter, disks that are full."""

from __future__ import annotations

import io
import sys
from contextlib import suppress


class Unfailing(io.TextIOWrapper):
    """Messages that nobody can read any more do not end the work that they are about."""

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):
            return super().write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            super().flush()


def adapt() -> None:
    """Letters that a console lacks are written as escapes; stderr never fails."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr = Unfailing(
            sys.stderr.buffer, sys.stderr.encoding, "backslashreplace", line_buffering=True
        )
