"""A run's plan as data: what it will call, where it will be, what it will take; nothing is run."""

from __future__ import annotations

from typing import Any

from sfumato import images
from sfumato.core.process import Process
from sfumato.core.solvers import solver, solver_data
from sfumato.methods import to_data
from sfumato.models import cost, memory
from sfumato.models.cascade import Cascade, base_of


def plan_data(process: Process | Cascade, seed: int) -> dict[str, Any]:
    """Calls, times, sizes, seconds, memory, methods, and the recipe that would run."""
    base = base_of(process)
    resolved = base.resolved()
    frame, shape = resolved.frame(resolved.place)
    assert resolved.solver is not None
    source: Any = base.source
    edit = edited(resolved)
    return {
        "prompt": resolved.prompt,
        "calls": process.calls,
        "times": list(process.times),
        "solver": solver_data(solver(resolved.solver)),
        "work_size": list(frame.work) if frame else list(shape[:0:-1]),
        "size": list(frame.target) if frame else None,
        "edited": None if edit is None else images.edit_share(edit),
        "seconds": cost.seconds(process, source.choice),
        "memory": memory.least_bytes(resolved, frame, shape, process.times),
        "methods": [to_data(method) for method in resolved.methods],
        "recipe": source.asked(base, seed).to_data(),
    }


def edited(process: Process) -> Any:
    """The edit mask of the picture that is begun from or kept, None where there is none."""
    for part in (process.start, process.canvas):
        if (edit := getattr(part, "edit", None)) is not None:
            return edit
    return None
