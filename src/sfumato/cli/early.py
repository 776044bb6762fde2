"""The program's first act: from here on a signal ends it with an exit code and one line.

Imports next to nothing; signals.py takes over when the rest is there.
"""

# what `signal` is made of, which itself takes 8 ms; type checkers do not know it
import _signal as signal  # type: ignore[import-not-found]
import os
import sys

LINE = "cancelled; what was finished is kept"

_SHOW_CURSOR = "\x1b[?25h"  # which a progress bar hides


def hear() -> None:
    """Listen to ctrl-C and to requests to end, unless they are ignored here."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # a closed stream's number must not become a picture's
            os.open(os.devnull, os.O_RDWR)
    hangup = getattr(signal, "SIGHUP", signal.SIGTERM)  # Windows has none
    for number in (signal.SIGINT, signal.SIGTERM, hangup):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, end)


def end(number: int, frame: object = None) -> None:
    """End here and now: nothing was begun that could be lost."""
    try:
        cursor = _SHOW_CURSOR if os.isatty(2) else ""
        os.write(2, f"{cursor}{LINE}\n".encode())
        sys.stdout.flush()
    except (OSError, RuntimeError, AttributeError):
        pass  # closed, full, or in the middle of a write
    os._exit(128 + number)
