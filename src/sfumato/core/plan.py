"""What a run will ask of its networks, worked out from a bound run before any is called."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sfumato.core.context import Call, Run
from sfumato.core.schedule import Schedule
from sfumato.core.solvers import Solver
from sfumato.core.steering import Steering

if TYPE_CHECKING:
    from sfumato.core.loop import Loop


def evaluations(run: Run, steering: Steering) -> Iterator[Call]:
    """The moment of every evaluation, in order.

    A guide that acts on arrival is taken to move the state.
    """
    known = last_up = 0
    for i, (t, s) in enumerate(itertools.pairwise(run.times)):
        last_up = i + 1 if s > t else last_up
        call = run.call(i, t, s, last_up)
        if s <= t:
            times, known = run.solver.evaluated(t, s, known, call.transitions, run.schedule)
            for k, at in enumerate(times):
                yield replace(call, t=at, eval=k)
        if s > t or any(guide.active(call) for guide in steering.arrivals):
            known = run.solver.jumped(known, call) or 0


def calls(loop: Loop) -> int:
    """Network calls of a run, those made to find its start included."""
    return loop.run.before + len(asked(loop))


@dataclass(frozen=True)
class Asked:
    """A network call: its rows, and whether it takes the deep maps of an earlier one."""

    rows: int
    shallow: bool


def asked(loop: Loop) -> list[Asked]:
    """The network calls along the times of a bound run, in order."""
    run, steering = loop.run, loop.steering
    if steering is None:
        return []
    mixture, listed = steering.mixture, []
    for at in evaluations(run, steering):
        for group in mixture.groups(at.t, at)[0]:
            names = [term.branch.name for term in group]
            shallow = mixture.memory.keeps_deep(group[0].denoiser, names, at)
            listed.append(Asked(run.n * len(group), shallow))
    return listed


def calls_along(solver: Solver[Any], times: tuple[float, ...], schedule: Schedule) -> int:
    """Evaluations along times in one direction, either one, without guides."""
    total = known = 0
    for t, s in itertools.pairwise(times):
        evaluated, known = solver.evaluated(t, s, known, len(times) - 1, schedule)
        total += len(evaluated)
    return total
