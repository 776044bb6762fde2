"""What the program prints: progress with ETA, notices, errors on stderr; results on stdout."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from sfumato.core.errors import PictureWarning

if TYPE_CHECKING:
    from rich.progress import Progress

    from sfumato.core.run import Step

errors = Console(stderr=True, highlight=False, soft_wrap=True)


class Notices(logging.Handler):
    """The library's notices as lines on stderr, each said once."""

    def __init__(self) -> None:
        super().__init__()
        self.said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage() in self.said:
            return
        self.said.add(record.getMessage())
        errors.print(record.getMessage(), style="dim", markup=False)


def listen(quiet: bool) -> None:
    """Print the library's notices, warnings only when quiet."""
    log = logging.getLogger("sfumato")
    log.handlers = [Notices()]
    log.setLevel(logging.WARNING if quiet else logging.INFO)
    shown = warnings.showwarning

    def notice(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if issubclass(category, PictureWarning):
            log.info("%s", message)
        else:
            shown(message, category, *where, **more)

    warnings.showwarning = notice
    warnings.simplefilter("always", PictureWarning)


def bars() -> Progress:
    """Progress bars with ETA on stderr, gone when done."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    text = TextColumn("{task.description}")
    columns = (text, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=errors, transient=True)


@contextmanager
def progress(calls: int | Sequence[int], quiet: bool) -> Iterator[Any]:
    """A callback for sample(): one bar for each stage, with its own ETA; calls: the plan."""
    if quiet:
        yield None
        return
    stages = [calls] if isinstance(calls, int) else list(calls)
    with bars() as shown:
        names = ["base", *(f"upsampler {k}" for k in range(1, len(stages)))]
        tasks = [shown.add_task(f"{n} calls", total=c) for n, c in zip(names, stages, strict=True)]

        def update(step: Step) -> None:
            shown.update(tasks[step.stage], completed=step.calls)

        yield update


@contextmanager
def counted(what: str, total: int, quiet: bool) -> Iterator[Any]:
    """A bar over things; yields update(done)."""
    if quiet:
        yield lambda done: None
        return
    with bars() as shown:
        task = shown.add_task(what, total=total)
        yield lambda done: shown.update(task, completed=done)


def saved(paths: Sequence[Path], recipe: Any, as_json: bool) -> None:
    """The results on stdout: a path a line, or one JSON object."""
    if as_json:
        print(json.dumps({"paths": [str(p) for p in paths], "recipe": recipe.to_data()}))
    else:
        for path in paths:
            print(path)
