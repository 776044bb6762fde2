"""The loop: a process bound to seed, sizes, times and parts, and the one walk along its times.

No other module holds a loop over transitions. The description that is executed is in process.py;
what solvers and guides do, in their own modules.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sfumato.core.context import Call, Run, Step
from sfumato.core.denoiser import Cond
from sfumato.core.errors import SfumatoError
from sfumato.core.lazy import torch
from sfumato.core.mixture import Branch, Mixture, Term, distinct
from sfumato.core.noise import Noise, Seeded
from sfumato.core.plan import evaluations
from sfumato.core.solvers import solver
from sfumato.core.spaces import Outline
from sfumato.core.spacing import Times, repeated
from sfumato.core.starts import BoundCanvas, BoundStart
from sfumato.core.steering import Steering

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.core.process import Process


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

        x: a first state instead of the Start's; detach: cut gradients between transitions.
        """
        run, steering = self.run, self.steering
        if steering is None:
            if run.paste is None:
                yield self._step(self.first() if x is None else x, run.call(-1, 0.0, 0.0))
            return
        times, state, last_up = run.times, None, 0
        call = run.call(-1, times[0], times[0])
        steering.begin(call)
        x = steering.arrive(self.first() if x is None else x, call)
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
        return Step(call.i, call.n, call.t, call.s, x, pred, scores, self.calls, stage, show)


def renoise(x: Tensor, call: Call) -> Tensor:
    """Forward kernel q(x_s | x_t) for s > t: (alpha_s/alpha_t) x + sqrt(rest) z."""
    schedule = call.schedule
    scale = schedule.alpha(call.s) / schedule.alpha(call.t)
    variance = schedule.sigma(call.s) ** 2 - (scale * schedule.sigma(call.t)) ** 2
    return torch.add(scale * x, call.noise("start", x), alpha=variance**0.5)


def times_of(process: Process) -> Times:
    """All times of a run: the spacing over [level, 0], the canvas's path, the start's passes."""
    level = process.start_or_noise.level(process)
    if level == 0 and not isinstance(process.spacing, tuple):
        return (0.0,)
    times = process.spaced(level)
    if process.canvas is not None:
        times = process.canvas.path(times)
    return repeated(times, process.start_or_noise.passes)


def bind(process: Process, seed: int, noise: Noise | None = None, planned: bool = False) -> Loop:
    """Bind a resolved process in a fixed order: size, times, start, canvas, branches, guides.

    planned: without the autoencoder, and without the calls that find a start.
    """
    frame, shape = process.frame(process.place)
    if process.solver is None:
        raise SfumatoError("solver: not given, and no model card here that would say")
    times = times_of(process)
    if process.source is not None:
        process.source.fits(process, frame, shape, times)
    run = Run(
        process=process,
        schedule=process.denoiser.schedule,
        space=Outline(process.space) if planned and process.space.stride > 1 else process.space,
        shape=shape,
        frame=frame,
        times=times,
        seed=seed,
        noise=Seeded(seed, process.stage) if noise is None else noise,
        solver=solver(process.solver),
        planned=planned,
    )
    loop = Loop(run, process.start_or_noise.bind_start(run))
    if process.canvas is not None:
        loop.canvas = process.canvas.bind_canvas(run)
    if run.untouched:
        return loop
    positives = process.positives or (Branch("positive"),)
    distinct((*positives, *process.aways))
    terms = [_term(loop, branch, False) for branch in positives]
    terms += [_term(loop, branch, True) for branch in process.aways]
    mixture = Mixture(terms, run.schedule, run.n, process.rows_max)
    run.tied = mixture.tied
    guides = [*(guide.bind_guide(run) for guide in process.guides), *run.guides]
    loop.steering = Steering(mixture, guides, run.solver.mean_shift)
    for moment in evaluations(run, loop.steering):
        mixture.check(moment.t)
    return loop


def _term(loop: Loop, branch: Branch, away: bool) -> Term:
    process = loop.run.process
    denoiser = branch.denoiser or process.denoiser
    cond = branch.cond
    if callable(cond):
        return Term(branch, denoiser, cond, away)
    if not isinstance(cond, Cond):
        cond = process.condition(cond, away, branch.source)
    if loop.canvas is not None:
        cond = loop.canvas.condition(cond, denoiser)
    return Term(branch, denoiser, denoiser.prepare(cond).rows(loop.run.n), away)


def invert(process: Process, x0: Tensor, times: Times) -> tuple[list[Tensor], int]:
    """States from x0 along rising times that begin at 0, and how many network calls that took."""
    assert process.solver is not None
    if solver(process.solver).stochastic:
        raise SfumatoError(f"invert: solver {process.solver} is stochastic; take ddim or dpmpp-2m")
    loop = bind(replace(process, n=len(x0)), 0)
    run, steering = loop.run, loop.steering
    assert steering is not None
    run.times = times
    path, state = [x0], None
    for i, (low, high) in enumerate(itertools.pairwise(times)):
        call = run.call(i, low, high)
        x, state = run.solver.step(path[-1], low, high, steering.begin(call), call, state)
        path.append(x)
    return path, loop.calls
