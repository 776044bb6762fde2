"""What a training shows while it is at work: its grids and the numbers of its curves."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sfumato.server.runner.meanwhile import meanwhile
from sfumato.server.runner.protocol import Made
from sfumato.server.runner.replaying import Tell

SHOWN = ("log.csv", "heldout.csv", "grid-*.png")
LOOKED_AT = 1.0  # seconds between looks at first
SLOWER = 1.02  # as often as that longer, since each look that finds something keeps a file


@contextmanager
def shown(run: Path, tell: Tell) -> Iterator[None]:
    """While active, files of a run that have changed are told again under their names."""

    def watch(ended: threading.Event) -> None:
        told: dict[Path, tuple[int, int]] = {}
        wait = LOOKED_AT
        while not ended.wait(wait):
            wait = min(wait * SLOWER, 60 * LOOKED_AT)
            for file, state in states(run).items():
                if told.get(file) != state:
                    told[file] = state
                    with suppress(OSError):  # put in its place anew just now
                        tell(Made(file.name, file.read_bytes()))

    with meanwhile(watch):
        yield


def states(run: Path) -> dict[Path, tuple[int, int]]:
    """Time and size of each file that is shown, by its path."""
    stamps = {}
    for pattern in SHOWN:
        for file in sorted(run.glob(pattern)):
            with suppress(OSError):
                status = file.stat()
                stamps[file] = (status.st_mtime_ns, status.st_size)
    return stamps
