"""The program's stdout and stderr: consoles that cannot show a letter, disks that are full."""

from __future__ import annotations

import io
import sys
from contextlib import suppress

from sfumato.core.errors import SfumatoError


class Unfailing(io.TextIOWrapper):
    """Messages that nobody can read any more do not end the work that they are about."""

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):
            return super().write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            super().flush()


def flush() -> None:
    """Bring stdout to where it goes, so that a full disk is known while it can be said."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise SfumatoError(f"stdout: {error.strerror}; what was made is kept") from None


def adapt() -> None:
    """Letters that a console lacks are written as escapes; stderr never fails."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr = Unfailing(
            sys.stderr.buffer, sys.stderr.encoding, "backslashreplace", line_buffering=True
        )
