"""What the program says of a sweep that is done, here or elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sfumato.measure.axis import Axis, Value


@dataclass(frozen=True)
class Swept:
    """curve: as curve.csv has it. chosen: the value that is marked, rule: why; failed: errors of
    the cells that could not be made, of `cells`."""

    folder: Path
    curve: str
    chosen: Value | None
    rule: str
    cells: int
    failed: tuple[str, ...]


def swept_here(
    process: Any,
    over: Axis,
    values: Mapping[str, Any],
    seed: int,
    parents: tuple[str, ...],
    update: Callable[[int], None],
) -> Swept:
    """Sweep a process into the folder that was asked for."""
    from sfumato.measure.sweep import sweep

    done = sweep(
        process,
        over,
        values["folder"],
        seeds=values["seeds"],
        seed=seed,
        prompts=values["prompts"],
        choose=values["choose"],
        parents=parents,
        progress=lambda k, n: update(k),
    )
    failed = tuple(cell.error for cell in done.cells if cell.error)
    curve = done.curve
    return Swept(done.folder, curve.to_csv(), curve.chosen, curve.rule, len(done.cells), failed)
