"""The program's stdout and stderr: consoles that cannot show a letter, disks that are full."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress

from sfumato.core.errors import SfumatoError


class Output(io.TextIOWrapper):
    """Results that nobody takes any more are one error, and what is left of them goes nowhere."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError as error:
            raise self._lost(error) from None

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            raise self._lost(error) from None

    def _lost(self, error: OSError) -> Exception:
        if isinstance(error, BrokenPipeError):
            return error
        nowhere = os.open(os.devnull, os.O_WRONLY)  # else the buffer fails again at the end
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)
        return SfumatoError(f"stdout: {error.strerror}; what was made is kept")


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
    if sys.stdout is not None:
        sys.stdout.flush()


def adapt() -> None:
    """Letters that a console lacks are written as escapes; stderr never fails."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout = Output(
            sys.stdout.buffer, sys.stdout.encoding, "backslashreplace",
            line_buffering=sys.stdout.line_buffering,
        )  # fmt: skip
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr = Unfailing(
            sys.stderr.buffer, sys.stderr.encoding, "backslashreplace", line_buffering=True
        )
