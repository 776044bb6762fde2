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

from sfumato.core.errors import PictureWarning, one_line

if TYPE_CHECKING:
    from rich.progress import Progress

    from sfumato.core.context import Step

# what is printed came from somebody: neither markup nor ":b:" of it is ours to interpret
errors = Console(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)


class Notices(logging.Handler):
    """The library's notices as lines on stderr, each said once."""

    def __init__(self) -> None:
        super().__init__()
        self.printed: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage() in self.printed:
            return
        self.printed.add(record.getMessage())
        errors.print(record.getMessage(), style="dim")


def listen(quiet: bool) -> None:
    """Print the library's notices, warnings only when quiet."""
    log = logging.getLogger("sfumato")
    log.handlers = [Notices()]
    log.setLevel(logging.WARNING if quiet else logging.INFO)
    show_warning = warnings.showwarning

    def notice(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if issubclass(category, PictureWarning):
            log.info("%s", message)
        else:
            show_warning(message, category, *where, **more)

    warnings.showwarning = notice
    warnings.simplefilter("always", PictureWarning)


def bars(counts: bool = False) -> Progress:
    """Progress bars with ETA on stderr, gone when done. counts: of things that are all alike."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    text, done = TextColumn("{task.description}"), TaskProgressColumn()
    columns = (text, BarColumn(), MofNCompleteColumn() if counts else done, TimeRemainingColumn())
    return Progress(*columns, console=errors, transient=True)


@contextmanager
def progress(
    calls: int | Sequence[int], quiet: bool, shares: Sequence[float] = ()
) -> Iterator[Any]:
    """A callback for sample(): one bar over all stages, whose ETA is of all; calls: the plan.

    shares: what a call of each stage takes beside the others' (cost.shares).
    """
    if quiet:
        yield None
        return
    stages = [calls] if isinstance(calls, int) else list(calls)
    weights = list(shares) or [1.0] * len(stages)
    with bars() as bar:
        names = ["base", *(f"upsampler {k}" for k in range(1, len(stages)))]
        total = sum(n * weight for n, weight in zip(stages, weights, strict=True))
        task = bar.add_task(names[0], total=total or 1.0)

        def update(step: Step) -> None:
            before = sum(n * w for n, w in zip(stages[: step.stage], weights, strict=False))
            bar.update(
                task,
                description=f"{names[step.stage]} {step.calls}/{stages[step.stage]}",
                completed=before + step.calls * weights[step.stage],
            )

        yield update


@contextmanager
def counted(what: str, total: int, quiet: bool) -> Iterator[Any]:
    """A bar over things; yields update(done)."""
    if quiet:
        yield lambda done: None
        return
    with bars(counts=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)


@contextmanager
def followed(what: str, quiet: bool) -> Iterator[Any]:
    """A bar over work elsewhere; yields update(what, done, total)."""
    if quiet:
        yield lambda what, done, total: None
        return
    with bars() as shown:
        task = shown.add_task(what, total=None)
        yield lambda what, done, total: shown.update(
            task, description=what, completed=done, total=total
        )


def saved(paths: Sequence[Path], recipe: Any, as_json: bool) -> None:
    """The results on stdout: a path a line, then what else was found; or one JSON object."""
    if as_json:
        print(json.dumps({"paths": [str(p) for p in paths], "recipe": recipe.to_data()}))
    else:
        for path in paths:
            print(path)
        for name, answer in recipe.run.get("answers", {}).items():
            shown = answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)
            print(one_line(f"{name}: {shown}"))
