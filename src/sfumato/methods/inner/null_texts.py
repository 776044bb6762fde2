"""Null texts: what guidance leads away from, learned at each step so that it finds a path again.

For the transition t -> s the tensors that the away branch reads, theta_t, are moved by Adam to
lessen |step(x_t; theta_t) - x*_s|^2, x* the path of the picture's inversion; they begin as those of
the step before, and x_s = step(x_t; theta_t) goes on. Their rate is a part of the root mean square
of what the prompt has in their place, which is about 1 in a CLIP, as published.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sfumato.core.binding import bind
from sfumato.core.context import Call, Run
from sfumato.core.denoiser import Cond
from sfumato.core.errors import SfumatoError
from sfumato.core.guides import GuideBinder
from sfumato.core.inversion import distance, recalled
from sfumato.core.lazy import torch
from sfumato.core.loop import Loop
from sfumato.core.mixture import Branch
from sfumato.core.plan import calls
from sfumato.core.process import Process
from sfumato.core.solvers import solver_data
from sfumato.core.taps import Tap

if TYPE_CHECKING:
    from torch import Tensor

Texts = dict[str, "Tensor"]


@dataclass(eq=False)
class NullTexts(Tap):
    """by_time: where a transition begins -> the tensors (1 or B, ...) that the aways `on` read."""

    by_time: dict[float, Texts]
    on: Any
    texts: tuple[str, ...] = ()

    name = "null_text"

    def active(self, call: Call) -> bool:
        return call.times[call.i] in self.by_time

    def prepared(self, cond: Cond, call: Call) -> Cond:
        texts = dict(cond)
        for name, value in self.by_time[call.times[call.i]].items():
            rows = value if len(value) == 1 else value[call.pictures]
            texts[name] = rows.to(cond[name]).expand_as(cond[name])
        return Cond(texts)


@dataclass(frozen=True, eq=False)
class Learned:
    """calls: of the network; error: relative distance of the guided return to the picture."""

    tap: NullTexts
    calls: int
    error: float | None = None


@dataclass(frozen=True, eq=False)
class Learning:
    """How the null texts of a run are learned: its mixture without other guides and taps.

    process: of one picture, along the way down. nulls: its aways that read the negative prompt;
    texts: what those read at first; rates: of each tensor. inner: most gradient steps of a
    transition, at rates that fall to half over the run; fewer where the mean squared error is below
    stop + slack (share of the run). told: all that the result comes from, None where that cannot be
    told.
    """

    process: Process
    nulls: tuple[str, ...]
    texts: Texts
    rates: Mapping[str, float]
    inner: int
    stop: float
    slack: float
    told: Sequence[Any] | None

    def loop(self, tap: NullTexts) -> Loop:
        return bind(replace(self.process, taps=(tap,)), 0)

    @property
    def calls(self) -> int:
        """Most network calls for one picture: each gradient step's, one more, and the way on."""
        return (self.inner + 2) * calls(self.loop(NullTexts({}, self.nulls)))

    def remembered(self, run: Run, known: Tensor, path: Sequence[Tensor]) -> Learned:
        """`of`, unless the run's model remembers it; of a run that is only planned, its cost."""
        if run.planned:
            return Learned(NullTexts({}, self.nulls), self.calls * len(known))
        if run.source is None or self.told is None:
            return self.of(path)
        return recalled(run.source.memo, "null texts", self.told, known, lambda: self.of(path))

    def of(self, path: Sequence[Tensor]) -> Learned:
        """path: the states (B, C, H, W) of the way up, the picture's first. Each picture alone."""
        rows = [self.walked([x[k : k + 1] for x in path]) for k in range(len(path[0]))]
        times = rows[0][0]
        by_time = {
            t: {name: torch.cat([at[t][name] for at, _, _ in rows]) for name in times[t]}
            for t in times
        }
        back = torch.cat([x for _, x, _ in rows])
        total = sum(n for _, _, n in rows)
        return Learned(NullTexts(by_time, self.nulls), total, distance(back, path[0]))

    def walked(self, path: Sequence[Tensor]) -> tuple[dict[float, Texts], Tensor, int]:
        """Of one picture: its null texts by time, where the way down ends, and the calls."""
        tap = NullTexts({}, self.nulls)
        loop = self.loop(tap)
        run, steering = loop.run, loop.steering
        assert steering is not None
        x, state, texts = path[-1], None, self.texts
        for i, (t, s) in enumerate(itertools.pairwise(run.times)):
            call = run.call(i, t, s)

            def onward(call: Call = call, x: Tensor = x, state: Any = state) -> tuple[Tensor, Any]:
                return run.solver.step(x, call.t, call.s, steering.begin(call), call, state)

            if any(term.away and steering.mixture.acts(term, t) for term in steering.mixture.terms):
                texts = self.learned(tap, call, texts, path[-2 - i], lambda: onward()[0])
            with torch.no_grad():
                x, state = onward()
        return tap.by_time, x, loop.calls

    def learned(
        self, tap: NullTexts, call: Call, texts: Texts, target: Tensor, arrive: Callable[[], Tensor]
    ) -> Texts:
        """The texts of a transition that `arrive` at the target best, which the tap then gives."""
        done = call.i / call.transitions
        moved = {name: value.clone().requires_grad_() for name, value in texts.items()}
        groups = [{"params": [v], "lr": self.rates[k] * (1 - done / 2)} for k, v in moved.items()]
        adam, least = torch.optim.Adam(groups), torch.inf
        tap.by_time[call.t] = moved
        for step in range(self.inner + 1):
            with torch.enable_grad():
                error = (arrive() - target).square().mean()
            if error.item() < least:
                least = error.item()
                texts = {name: value.detach().clone() for name, value in moved.items()}
            if step == self.inner or error.item() < self.stop + self.slack * done:
                break
            for value, grad in zip(
                moved.values(), torch.autograd.grad(error, list(moved.values())), strict=True
            ):
                value.grad = grad
            adam.step()
        tap.by_time[call.t] = texts
        return texts


def learning(
    run: Run,
    caption: str,
    edits: Sequence[GuideBinder],
    inner: int,
    rate: float,
    stop: float,
    slack: float,
) -> Learning | None:
    """Of a run that begins from one picture that the caption describes; None where nothing is to
    be learned. edits: of its guides those that change its prediction wherever it comes from. rate:
    of the first steps, as a part of the prompt's own values."""
    beside = NullTexts({}, (), run.process.texts)  # one length with the run's
    process = replace(run.process, n=1, prompt=caption, prompts=(), shared=False, taps=(beside,))
    positives, aways = process.positives or (Branch("positive"),), process.aways
    down = process.spaced(process.start_or_noise.level(process))
    nulls = [branch for branch in aways if branch.cond is None]
    if not (inner and nulls):
        return None

    def fixed(branch: Branch, away: bool) -> Branch:
        if callable(branch.cond) or isinstance(branch.cond, Cond):
            return branch
        return replace(branch, cond=process.condition(branch.cond, away, branch.source))

    # one row a call, so that no gradient goes through the prompt's
    plain = Process(
        process.denoiser, run.shape, spacing=down, solver=run.solver, space=process.space,
        device=process.device, guides=tuple(edits), rows_max=1,
        positives=tuple(fixed(branch, False) for branch in positives),
        aways=tuple(fixed(branch, True) for branch in aways),
    )  # fmt: skip
    reader = nulls[0].denoiser or process.denoiser
    null, prompt = (
        reader.prepare(process.condition(None, away, nulls[0].source)) for away in (True, False)
    )
    texts = {name: v[:1].float() for name, v in null.items() if v.is_floating_point()}
    if not texts:
        raise SfumatoError("null_text: needs a model that reads text")
    rates = {
        name: rate * (float(prompt[name].float().square().mean()) ** 0.5 or 1) for name in texts
    }
    return Learning(
        plain, tuple(b.name for b in nulls), texts, rates, inner, stop, slack,
        _told(
            process,
            run,
            [*positives, *aways],
            down,
            [repr(edits), inner, rate, stop, slack, [list(v.shape) for v in texts.values()]],
        ),
    )  # fmt: skip


def _told(
    process: Process, run: Run, branches: Sequence[Branch], down: Sequence[float], more: list[Any]
) -> Sequence[Any] | None:
    """What tells the learned texts from others, as plain data; None where a branch cannot say."""
    sources = [process.source, *(b.source for b in branches if b.denoiser is not None)]
    if None in sources or not all(b.cond is None or isinstance(b.cond, str) for b in branches):
        return None
    said = [[b.name, b.cond, [(b.at(t), b.feeds(t)) for t in down]] for b in branches]
    identities = [source.identity for source in sources if source is not None]
    texts = [process.prompt, process.negative, process.label]
    return [list(down), texts, solver_data(run.solver), said, identities, more]
