"""How a process is bound to seed, sizes, times and parts: what it describes becomes a Loop.

In a fixed order: size, times, space, start, canvas, taps, branches, guides.
"""

from __future__ import annotations

import itertools
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sfumato.core.context import Call, Run
from sfumato.core.denoiser import Cond
from sfumato.core.errors import SfumatoError
from sfumato.core.frame import Frame
from sfumato.core.lazy import torch
from sfumato.core.loop import Loop
from sfumato.core.mixture import Branch, Mixture, Term, distinct
from sfumato.core.noise import Noise, Seeded, Shared
from sfumato.core.plan import evaluations
from sfumato.core.reuse import ASK_ALL, check_reuse
from sfumato.core.solvers import solver
from sfumato.core.spaces import Outline, SpaceBinder
from sfumato.core.spacing import Times, repeated
from sfumato.core.starts import Place, Routed
from sfumato.core.steering import Steering
from sfumato.core.taps import ordered

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.core.process import Process

log = logging.getLogger("sfumato")


def times_of(process: Process) -> Times:
    """All times of a run: the spacing over [level, 0], its parts' paths, the start's passes."""
    level = process.start_or_noise.level(process)
    if level == 0 and not isinstance(process.spacing, tuple):
        return (0.0,)
    times = process.spaced(level)
    for part in (process.canvas, *process.guides, *process.taps):
        if isinstance(part, Routed):
            times = part.path(times)
    return repeated(times, process.start_or_noise.passes)


def bind(process: Process, seed: int, noise: Noise | None = None, planned: bool = False) -> Loop:
    """Bind a resolved process.

    planned: without the autoencoder, and without the calls that find a start.
    """
    frame, shape = process.frame(process.place)
    if process.solver is None:
        raise SfumatoError("solver: not given, and no model card here that would say")
    times = times_of(process)
    if process.source is not None:
        process.source.fits(process, frame, shape, times)
    drawn = Seeded(seed, process.stage) if noise is None else noise
    run = Run(
        process=process,
        schedule=process.denoiser.schedule,
        space=Outline(process.space) if planned and process.space.stride > 1 else process.space,
        shape=shape,
        frame=frame,
        times=times,
        seed=seed,
        noise=Shared(drawn) if process.shared else drawn,
        solver=solver(process.solver),
        planned=planned,
    )
    if isinstance(run.space, SpaceBinder):
        run.space = run.space.bind_space(run)
    loop = Loop(run, process.start_or_noise.bind_start(run))
    if process.canvas is not None:
        loop.canvas = process.canvas.bind_canvas(run)
    if run.untouched:
        return loop
    run.taps = ordered([*(tap.bind_tap(run) for tap in process.taps), *run.taps])
    positives = process.positives or (Branch("positive"),)
    distinct((*positives, *process.aways))
    terms = [_term(loop, branch, False) for branch in positives]
    terms += [_term(loop, branch, True) for branch in process.aways]
    mixture = Mixture(terms, run.schedule, run.n, process.rows_max, run.taps, process.reuse)
    run.tied = mixture.tied
    guides = [guide.bind_guide(run) for guide in process.guides]
    guides.sort(key=lambda guide: guide.name)  # typing order changes no bit of their sum
    loop.steering = Steering(mixture, [*guides, *run.guides], run.solver.mean_shift)
    if not planned:
        for line in loop.steering.idle("" if process.source is None else process.negative):
            log.warning(line)
    guided, transitions = False, set()
    for moment in evaluations(run, loop.steering):
        mixture.check(moment.t)
        transitions.add(moment.i)
        guided = guided or any(term.away and mixture.acts(term, moment.t) for term in terms)
    networks = [term.denoiser.network for term in terms]
    check_reuse(process.reuse, run.taps, guided, networks, len(transitions))
    return loop


def _term(loop: Loop, branch: Branch, away: bool) -> Term:
    """The branch with its denoiser and what canvas and taps make of its condition."""
    run, canvas = loop.run, loop.canvas
    process = run.process
    denoiser = branch.denoiser or process.denoiser
    taps = [tap for tap in run.taps if tap.on_branch(branch.name, away)]

    def conditioned(cond: Cond) -> Cond:
        if canvas is not None:
            cond = canvas.condition(cond, denoiser)
        for tap in taps:
            cond = tap.condition(cond, branch, run)
        return cond

    own: Any = branch.cond
    if callable(own):

        def anew(call: Call) -> Cond:
            return conditioned(own(call))

        return Term(branch, denoiser, anew, away)
    if not isinstance(own, Cond):
        own = process.condition(own, away, branch.source)
    cond = conditioned(own)
    if process.prompts and len(next(iter(cond.values()), ())) == run.n:
        # one by one, so that a picture's words do not depend on its batch
        rows = [cond.map(lambda v, j=j: v[j : j + 1]) for j in range(run.n)]  # type: ignore[misc]
        prepared = Cond.cat([denoiser.prepare(row) for row in rows])
    else:
        prepared = denoiser.prepare(cond)
    return Term(branch, denoiser, prepared.rows(run.n), away)


def frame_of(process: Process, place: Place) -> tuple[Frame | None, tuple[int, ...]]:
    """Geometry and state shape of a run; a tensor given to the Start has the say."""
    if place.shape is not None:
        if process.size is not None:
            raise SfumatoError(f"size {process.size}: a tensor has its own; leave size out")
        side = 1 if process.source is None else process.source.multiple
        same = len(place.shape) == len(process.shape) and place.shape[0] == process.shape[0]
        if not same or any(length < 1 or length % side for length in place.shape[1:]):
            shape = "x".join(map(str, place.shape)) or "no sides"
            raise SfumatoError(
                f"tensor of {shape}: this process takes {process.shape[0]} channels, and sides "
                f"that are multiples of {side}"
            )
        return None, place.shape
    if process.source is None:
        unread = ("prompt", "prompts", "negative", "label", "size")
        if idle := [name for name in unread if getattr(process, name) not in ("", (), None)]:
            raise SfumatoError(
                f"{idle[0]}: a process without a model reads none; leave it out (cond and null "
                "are its conditions, shape its size)"
            )
        return process.geometry, process.shape
    return process.source.frame(process, place)


def check_state(process: Process, x: Any, name: str) -> None:
    """Refuse what is no tensor (B, C, ...) of floating point."""
    axes = len(process.shape) + 1
    real = isinstance(x, torch.Tensor) and x.is_floating_point() and not x.is_meta
    if not real or x.ndim != axes:
        what = f"shape {tuple(x.shape)}, {x.dtype}" if hasattr(x, "dtype") else f"{x!r:.60}"
        raise SfumatoError(
            f"{name}: got {what}; give a float tensor of {axes} axes, the batch first"
        )


def invert(process: Process, x0: Tensor, times: Times) -> tuple[list[Tensor], int]:
    """States from x0 along rising times that begin at 0, and how many network calls that took."""
    assert process.solver is not None
    if solver(process.solver).stochastic:
        raise SfumatoError(f"invert: solver {process.solver} is stochastic; take ddim or dpmpp-2m")
    loop = bind(replace(process, n=len(x0), reuse=ASK_ALL), 0)
    run, steering = loop.run, loop.steering
    assert steering is not None
    run.times = times
    path, state = [x0], None
    for i, (low, high) in enumerate(itertools.pairwise(times)):
        call = run.call(i, low, high)
        x, state = run.solver.step(path[-1], low, high, steering.begin(call), call, state)
        path.append(x)
    return path, loop.calls
