"""A run: a process bound to seeds, size, times, branches and guides, and the loop that walks it.

Only this module holds a loop. The description it executes is in process.py.
"""

from __future__ import annotations

import itertools
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from sfumato.core.branches import Branch, Mixture, Term, distinct
from sfumato.core.denoiser import Cond, Prediction
from sfumato.core.errors import SfumatoError
from sfumato.core.guides import Call, Guide, overrides
from sfumato.core.lazy import torch
from sfumato.core.noise import Noise, Seeded
from sfumato.core.plan import evaluations
from sfumato.core.schedule import Schedule, ratio
from sfumato.core.solvers import Solver, solver
from sfumato.core.spaces import Outline, Space
from sfumato.core.spacing import Times, repeated
from sfumato.core.starts import BoundCanvas, BoundStart, Place, PriorNoise, Start

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.core.process import Process


@dataclass(frozen=True, eq=False)
class Step:
    """One transition, done.

    i of n transitions (-1: the start), t -> s, x: state on arrival at s, pred: the prediction used
    (None on upward moves and at the start), scores: (B,) log-probability of each guide, calls:
    network calls so far, stage: 0 base, 1 first upsampler.
    """

    i: int
    n: int
    t: float
    s: float
    x: Tensor = field(repr=False)
    pred: Prediction | None = field(repr=False)
    scores: Mapping[str, Tensor]
    calls: int
    stage: int = 0
    show: Callable[[Step], Any] | None = field(default=None, repr=False)

    def preview(self) -> Any:
        """What the picture looks like now: a Picture, or without a model its pixels in [-1, 1]."""
        return self.show(self) if self.show else self.pixels()

    def _repr_html_(self) -> str:
        """In a notebook: how far the run is, and the preview where there is a model to make one."""
        stage = f"upsampler {self.stage}, " if self.stage else ""
        done = max(self.i + 1, 0)
        line = f"{stage}step {done} of {self.n}, t = {self.s:.3f}"
        made = getattr(self.preview(), "_repr_png_", None)
        style = "width:160px;image-rendering:pixelated"
        shown = (
            f'<img style="{style}" src="data:image/png;base64,{b64encode(made()).decode()}">'
            if made
            else ""
        )
        bar = f'<progress value="{done}" max="{self.n}"></progress>'
        return f"<figure>{shown}<figcaption>{bar} {line}</figcaption></figure>"

    def pixels(self) -> Tensor:
        """The predicted clean state, or the state itself where nothing was predicted."""
        return self.x if self.pred is None else self.pred.x0


@dataclass(eq=False)
class Run:
    """Everything of one run that is bound when it begins.

    shape: of the state without its batch axis; frame: geometry of a picture's size against the work
    size, made by the source; paste: (picture in uint8, edit mask, alpha) when a Start had one;
    finishers: what methods do to the decoded pixels (n, 3, H, W) in [-1, 1]; before: network calls
    made to find the start; report: what parts of the run have to say of it, kept in the recipe;
    planned: bound for its plan, not to be run.
    """

    process: Process
    schedule: Schedule
    space: Space
    shape: tuple[int, ...]
    frame: Any
    times: Times
    level: float
    n: int
    seed: int
    noise: Noise
    solver: Solver
    memo: dict[Any, Any] = field(default_factory=dict)
    paste: Any = None
    finishers: list[Callable[[Tensor], Tensor]] = field(default_factory=list)
    before: int = 0
    report: dict[str, Any] = field(default_factory=dict)
    start: BoundStart | None = None
    canvas: BoundCanvas | None = None
    guides: tuple[Guide, ...] = ()
    mixture: Mixture | None = None
    planned: bool = False

    @property
    def device(self) -> Any:
        return self.process.device

    @property
    def untouched(self) -> bool:
        """t0 = 0: the input is the result; neither network nor autoencoder is called."""
        return self.times == (0.0,)

    @property
    def calls(self) -> int:
        return self.before + (self.mixture.calls if self.mixture else 0)

    @property
    def counts(self) -> dict[str, int]:
        """Backward passes, and what guides looked at pictures with, so far."""
        return dict(self.memo.get("counts", {}))

    def decode(self, x: Tensor) -> Tensor:
        """The pixels of a last state."""
        pixels = self.space.decode(x)
        for finish in self.finishers:
            pixels = finish(pixels)
        return pixels

    def begin(self, i: int, t: float, s: float, last_up: int) -> Call:
        return Call(t, s, i, self.times, self.schedule, last_up, self.noise, self.memo)


def times_of(process: Process, start: Start, level: float) -> Times:
    """All times of a run: the spacing over [level, 0], the canvas's path, the start's passes."""
    if level == 0:
        return (0.0,)
    times = process.spaced(level)
    if process.canvas is not None:
        times = process.canvas.path(times)
    return repeated(times, start.passes)


def place_of(process: Process) -> Place:
    """Where the run's picture is: the start's, else the canvas's, else a reference's."""
    for part in (process.start or PriorNoise(), process.canvas, *process.guides):
        ask = getattr(part, "place", None)
        place: Place = ask() if ask is not None else Place()
        if place.size is not None or place.shape is not None:
            return place
    return Place()


def bind(process: Process, seed: int, noise: Noise | None, planned: bool = False) -> Run:
    """Bind in a fixed order: size, start level, times, branches, guides.

    planned: without the autoencoder, and without the calls that find a start.
    """
    start = process.start or PriorNoise()
    schedule = process.denoiser.schedule
    place = place_of(process)
    frame, shape = process.frame(place)
    level = start.level(schedule)
    if process.solver is None:
        raise SfumatoError("solver: not given, and no model card here that would say")
    times = times_of(process, start, level)
    run = Run(
        process=process,
        schedule=schedule,
        space=Outline(process.space) if planned and process.space.stride > 1 else process.space,
        shape=shape,
        frame=frame,
        times=times,
        level=times[0],
        n=process.n,
        seed=seed,
        noise=Seeded(seed, process.stage) if noise is None else noise,
        solver=solver(process.solver),
        planned=planned,
    )
    run.start = start.bind(run)
    run.canvas = None if process.canvas is None else process.canvas.bind(run)
    if not run.untouched:
        positives = process.positives or (Branch("positive"),)
        distinct((*positives, *process.aways))
        terms = [_term(run, b, False) for b in positives]
        terms += [_term(run, b, True) for b in process.aways]
        run.mixture = Mixture(terms, schedule, run.n, process.rows_max)
        run.guides = tuple(_checked(guide.bind(run), terms) for guide in process.guides)
        for moment in evaluations(run):
            run.mixture.check(moment.t)
    return run


def _term(run: Run, branch: Branch, away: bool) -> Term:
    process = run.process
    denoiser = branch.denoiser or process.denoiser
    cond = branch.cond
    if callable(cond):
        return Term(branch, denoiser, cond, away)
    if not isinstance(cond, Cond):
        cond = process.condition(cond, away, branch.source)
    if run.canvas is not None:
        cond = run.canvas.condition(cond, denoiser)
    return Term(branch, denoiser, denoiser.prepare(cond).rows(run.n), away)


def _checked(guide: Guide, terms: Sequence[Term]) -> Guide:
    if overrides(guide, "logp") and guide.through is None:
        raise SfumatoError(f"guide {guide.name}: has logp, so `through` must say input or model")
    names = [term.branch.name for term in terms]
    if guide.on != "mixture" and guide.on not in names:
        known = ", ".join(["mixture", *names])
        raise SfumatoError(f"guide {guide.name}: no branch {guide.on!r}; there are {known}")
    return guide


class Loop:
    """Walks a bound run; each guide's hooks are sorted once, by rank."""

    def __init__(self, run: Run, detach: bool = False) -> None:
        self.run = run
        self.detach = detach
        edits = [g for g in run.guides if overrides(g, "edit")]
        edits.sort(key=lambda g: g.edit_rank)  # stable: equals keep list order
        self.edits = [g for g in edits if not g.after]
        self.after = [g for g in edits if g.after]
        self.arrivals = [g for g in run.guides if overrides(g, "arrive")]
        self.arrivals.sort(key=lambda g: g.arrive_rank)
        self.scorers = [g for g in run.guides if overrides(g, "logp")]
        self.weighers = [g for g in run.guides if overrides(g, "weigh")]
        self.scores: dict[str, Tensor] = {}
        self.pred: Prediction | None = None
        self.kept = False  # whether a caller differentiates through the steps

    def steps(self, x: Tensor | None) -> Iterator[Step]:
        """The start as i = -1, then every transition; none where a picture stays untouched."""
        run = self.run
        if run.untouched and run.paste is not None:
            return
        times = run.times
        call = run.begin(-1, times[0], times[0], 0)
        if x is None:
            assert run.start is not None
            like = torch.empty((run.n, *run.shape), device=run.device, dtype=torch.float32)
            x = run.start.state(call, like)
        x = self.arrive(x, call)
        yield self.step(x, call)
        carry: Any = None
        last_up = 0
        for i, (t, s) in enumerate(itertools.pairwise(times)):
            if self.detach:
                x = x.detach()
            self.pred, self.scores = None, {}
            if s > t:
                last_up, carry = i + 1, None
                call = run.begin(i, t, s, last_up)
                x = renoise(x, call)
            else:
                call = run.begin(i, t, s, last_up)
                x, carry = run.solver.step(x, t, s, self.denoiser(call), call, carry)
            arrived = self.arrive(x, call)
            if arrived is not x and run.solver.eps_history:
                carry = None
            x = arrived
            yield self.step(x, call)

    def step(self, x: Tensor, call: Call) -> Step:
        run = self.run
        source = run.process.source
        show = None if source is None else lambda step: source.preview(step, run)
        stage = run.process.stage
        return Step(
            call.i, call.n, call.t, call.s, x, self.pred, self.scores, run.calls, stage, show
        )

    def arrive(self, x: Tensor, call: Call) -> Tensor:
        for guide in self.arrivals:
            if guide.active(call):
                x = guide.arrive(x, call.s, call)
        return x

    def denoiser(self, call: Call) -> Callable[[Tensor, float], Prediction]:
        """The closure a solver calls: mixture, gradients and edits are inside."""
        evaluation = iter(range(1_000_000))

        def denoise(x: Tensor, t: float) -> Prediction:
            here = replace(call, t=t, eval=next(evaluation))
            self.pred = self.evaluate(x, t, here)
            return self.pred

        return denoise

    def evaluate(self, x: Tensor, t: float, call: Call) -> Prediction:
        """Branches, branch guides, mixture, edits, one gradient (design: canonical order)."""
        run = self.run
        assert run.mixture is not None
        alpha, sigma = run.schedule.alpha(t), run.schedule.sigma(t)
        shifts_mean = run.solver.mean_shift
        there = {"mixture", *(m.branch.name for m in run.mixture.terms if m.active(t))}
        scorers = [
            g
            for g in self.scorers
            if g.on in there
            and g.active(call)
            and (alpha >= g.faintest or (shifts_mean and g.on == "mixture"))
        ]
        self.kept = torch.is_grad_enabled() and (x.requires_grad or run.mixture.trainable)
        leaf = x if x.requires_grad or not scorers else x.detach().requires_grad_()
        through = any(g.through == "model" for g in scorers)
        with torch.enable_grad() if through else nullcontext():
            parts = run.mixture.parts(leaf if through else x, t, call)
            for name, part in parts.items():
                if own := [g for g in scorers if g.on == name]:
                    score = self.gradient(own, leaf, part, call)
                    parts[name] = part.shifted(score, alpha, sigma)
            mixed = run.mixture.mix(parts, t)
        call = replace(call, parts=parts)
        pred = mixed
        if leaf is not x and not self.kept:
            pred = mixed.map(lambda v: v.detach())
        for guide in self.edits:
            if guide.active(call):
                pred = guide.edit(pred, x, call)
        on_mixture = [g for g in scorers if g.on == "mixture"]
        if on_mixture:
            score = self.gradient(on_mixture, leaf, mixed, call)
            pred = replace(pred, grad=score) if shifts_mean else pred.shifted(score, alpha, sigma)
        for guide in self.after:
            if guide.active(call):
                pred = guide.edit(pred, x, call)
        return pred

    def gradient(self, guides: Sequence[Guide], x: Tensor, pred: Prediction, call: Call) -> Tensor:
        """Gradient in x of the sum of the guides' log-probabilities, shaped like x."""
        if self.kept:
            return self.differentiable(guides, x, pred, call)
        bare = pred.map(lambda v: v.detach())
        with torch.enable_grad():
            total: Any = 0.0
            for guide in guides:
                seen = pred if guide.through == "model" else bare
                logp = guide.logp(x, seen, call)
                self.scores[guide.name] = logp.detach()
                total = total + logp.sum()
            (score,) = torch.autograd.grad(total, x, retain_graph=True)
        return self.weighed(score, bare, call)

    def differentiable(
        self, guides: Sequence[Guide], x: Tensor, pred: Prediction, call: Call
    ) -> Tensor:
        """The same score as a function of x, for a caller who differentiates through the steps.

        Guides through "input" hold the prediction constant in their own gradient, never in the
        caller's, so theirs is taken in an offset of x.
        """
        offset = torch.zeros_like(x, requires_grad=True)
        moved, near = x + offset, replace(call, held=x)
        same = pred.map(lambda v: v)  # its own views of losses
        score = torch.zeros_like(x)
        for guide in guides:
            whole = guide.through == "model"
            seen, wanted = (pred, x) if whole else (same, offset)
            logp = guide.logp(x if whole else moved, seen, near)
            self.scores[guide.name] = logp.detach()
            (part,) = torch.autograd.grad(logp.sum(), wanted, create_graph=True)
            score = score + part
        return self.weighed(score, pred, call)

    def weighed(self, score: Tensor, pred: Prediction, call: Call) -> Tensor:
        call.count("backward")
        for weigher in self.weighers:
            if weigher.active(call):
                score = weigher.weigh(score, pred, call)
        return score


def renoise(x: Tensor, call: Call) -> Tensor:
    """Forward kernel q(x_s | x_t) for s > t: (alpha_s/alpha_t) x + sqrt(rest) z."""
    schedule = call.schedule
    scale = schedule.alpha(call.s) / schedule.alpha(call.t)
    variance = schedule.sigma(call.s) ** 2 - (scale * schedule.sigma(call.t)) ** 2
    return torch.add(scale * x, call.noise("start", x), alpha=variance**0.5)


def reported(run: Run) -> dict[str, float]:
    """The start level in all three units: t0, ratio = sigma/alpha, alpha_bar = alpha^2."""
    if run.level == 0:
        return {"t0": 0.0, "ratio": 0.0, "alpha_bar": 1.0}
    return {
        "t0": run.level,
        "ratio": ratio(run.schedule, run.level),
        "alpha_bar": run.schedule.alpha(run.level) ** 2,
    }


def invert(process: Process, x0: Tensor, times: Times) -> tuple[list[Tensor], int]:
    """States from x0 along rising times that begin at 0, and how many network calls that took."""
    assert process.solver is not None
    if solver(process.solver).stochastic:
        raise SfumatoError(f"invert: solver {process.solver} is stochastic; take ddim or dpmpp-2m")
    process = replace(process, n=len(x0))
    run = bind(process, 0, None)
    run.times = times
    loop = Loop(run)
    path, carry = [x0], None
    for i, (low, high) in enumerate(itertools.pairwise(times)):
        call = run.begin(i, low, high, 0)
        x, carry = run.solver.step(path[-1], low, high, loop.denoiser(call), call, carry)
        path.append(x)
    return path, run.calls
