"""The loop: a bound run and the one walk along its times.

No other module walks a run. What goes the other way or learns of single transitions has a walk of
its own: `invert` in binding.py, null texts, the tuner of Asyrp. The description that is executed is
in process.py; how it is bound, in binding.py; what solvers, guides and taps do, in their own
modules.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sfumato.core.context import Call, Restart, Run, Step
from sfumato.core.errors import SfumatoError
from sfumato.core.lazy import torch
from sfumato.core.starts import BoundCanvas, BoundStart
from sfumato.core.steering import Steering

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(eq=False)
class Loop:
    """A bound run, ready to be walked; steering: None where the run leaves its picture as it is."""

    run: Run
    start: BoundStart
    canvas: BoundCanvas | None = None
    steering: Steering | None = None

    @property
    def calls(self) -> int:
        """Network calls so far."""
        return self.run.before + (self.steering.mixture.calls if self.steering else 0)

    def steps(self, x: Tensor | None = None, *, detach: bool = False) -> Iterator[Step]:
        """The start as i = -1, then every transition; none where a picture stays untouched.

        x: a first state instead of the Start's; detach: cut gradients between transitions. A run
        that a guide or tap restarts comes again from i = -1.
        """
        run, steering = self.run, self.steering
        if x is not None and len(x) != run.n:
            raise SfumatoError(f"x: has {len(x)} rows for n = {run.n}; give as many")
        if steering is None:
            if run.paste is None:
                yield self._step(self.first() if x is None else x, run.call(-1, 0.0, 0.0))
            return
        bound, start = dict(run.memo), x
        while True:
            times, state, last_up = run.times, None, 0
            try:
                call = run.call(-1, times[0], times[0])
                steering.begin(call)
                x = steering.arrive(self.first() if start is None else start, call)
                yield self._step(x, call)
                for i, (t, s) in enumerate(itertools.pairwise(times)):
                    if detach:
                        x = x.detach()
                    last_up = i + 1 if s > t else last_up
                    call = run.call(i, t, s, last_up)
                    denoise = steering.begin(call)
                    if s > t:
                        x, state = renoise(x, call), run.solver.jumped(state, call)
                    else:
                        x, state = run.solver.step(x, t, s, denoise, call, state)
                    arrived = steering.arrive(x, call)
                    if arrived is not x:
                        x, state = arrived, run.solver.jumped(state, call)
                    yield self._step(x, call)
                return
            except Restart as restart:
                run.restarted(restart.loss, bound)

    def walk(self) -> Tensor | None:
        """The last state; None where a picture stays untouched."""
        x = None
        for step in self.steps():
            x = step.x
        return x

    def first(self) -> Tensor:
        """The Start's state."""
        run = self.run
        like = torch.empty((run.n, *run.shape), device=run.device, dtype=torch.float32)
        return self.start.state(run.call(-1, run.level, run.level), like)

    def _step(self, x: Tensor, call: Call) -> Step:
        source, steering = self.run.source, self.steering
        show = None if source is None else lambda step: source.preview(step, self.run)
        pred, scores = (steering.pred, steering.scores) if steering else (None, {})
        stage = self.run.process.stage
        return Step(
            call.i, call.transitions, call.t, call.s, x, pred, scores, self.calls, stage, show
        )


def renoise(x: Tensor, call: Call) -> Tensor:
    """Forward kernel q(x_s | x_t) for s > t: (alpha_s/alpha_t) x + sqrt(rest) z."""
    schedule = call.schedule
    scale = schedule.alpha(call.s) / schedule.alpha(call.t)
    variance = schedule.sigma(call.s) ** 2 - (scale * schedule.sigma(call.t)) ** 2
    return torch.add(scale * x, call.noise("start", x), alpha=variance**0.5)
