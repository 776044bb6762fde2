"""What a run will ask of its networks, worked out from a bound run before any is called."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from sfumato.core.guides import Call, overrides
from sfumato.core.schedule import Schedule

if TYPE_CHECKING:
    from sfumato.core.run import Run
    from sfumato.core.solvers import Solver


def evaluations(run: Run) -> Iterator[Call]:
    """The moment of every evaluation, in order.

    A guide that acts on arrival is taken to move the state, which ends a history of eps.
    """
    arrivals = [guide for guide in run.guides if overrides(guide, "arrive")]
    known = last_up = 0
    for i, (t, s) in enumerate(itertools.pairwise(run.times)):
        if s > t:
            known, last_up = 0, i + 1
            continue
        call = run.begin(i, t, s, last_up)
        found, known = run.solver.evaluated(t, s, known, call.n, run.schedule)
        for k, at in enumerate(found):
            yield replace(call, t=at, eval=k)
        if known and run.solver.eps_history and any(guide.active(call) for guide in arrivals):
            known = 0


def calls(run: Run) -> int:
    """Network calls of a run, those made to find its start included."""
    if run.mixture is None:
        return run.before
    return run.before + sum(len(run.mixture.groups(at.t, at)[0]) for at in evaluations(run))


def calls_along(solver: Solver, times: tuple[float, ...], schedule: Schedule) -> int:
    """Evaluations along times in one direction, either one, without guides."""
    total = known = 0
    for t, s in itertools.pairwise(times):
        found, known = solver.evaluated(t, s, known, len(times) - 1, schedule)
        total += len(found)
    return total
