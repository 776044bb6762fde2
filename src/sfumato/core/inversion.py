"""Inversion: a picture's state at a noise level, by walking the deterministic path upwards.

Sampling back down the same path finds the picture again, up to the solver's and the network's
errors. Up to a level above the one that is wanted and back down to it (DiffStyler's T1 > T, arXiv
2211.10682) changes the state by those errors alone; `learn` removes them by gradient steps.
"""

from __future__ import annotations

import json
from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any, TypeVar

from sfumato.core.binding import invert
from sfumato.core.lazy import torch
from sfumato.core.plan import calls_along
from sfumato.core.solvers import solver

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.core.process import Process

Times = tuple[float, ...]
T = TypeVar("T")

KEPT = 8  # of each kind, that a model remembers


@dataclass(frozen=True, eq=False)
class Inverted:
    """x: the states (B, C, H, W) at times[0] of the way down; path: the states from 0 to the top.

    calls: of the network; error: relative root mean square distance of the unguided return to the
    picture, before and after learning, None where it was not walked.
    """

    x: Tensor
    path: tuple[Tensor, ...]
    calls: int
    error: tuple[float, float] | None = None


@dataclass(frozen=True, eq=False)
class Inversion:
    """process: unguided, with the solver of both ways and no start; down: the falling times that
    the pictures will be sampled along; top: where the way up ends, None: at the first of them."""

    process: Process
    down: Times
    top: float | None = None
    learn: int = 0
    measure: bool = False

    @property
    def above(self) -> Times:
        """Falling times from the top to down[0], about as dense as the way down; () without any."""
        start, n = self.down[0], len(self.down) - 1
        if self.top is None or self.top <= start:
            return ()
        m = max(round(n * (self.top - start) / start), 1)
        return tuple(self.top + (start - self.top) * k / m for k in range(m + 1))

    @property
    def up(self) -> Times:
        """Rising times from 0 to the top."""
        return (*self.down[::-1], *self.above[::-1][1:])

    @property
    def calls(self) -> int:
        """The plan for `of`; learning may stop a return or two earlier."""
        chosen: Any = solver(self.process.solver or "ddim")
        schedule = self.process.denoiser.schedule
        up, over, back = (
            calls_along(chosen, times, schedule) for times in (self.up, self.above, self.down)
        )
        returns = 3 + self.evaluations if self.learn else int(self.measure)
        return up + over + returns * back

    @property
    def evaluations(self) -> int:
        """Most returns that learning asks for: one a step and a quarter for line searches."""
        return self.learn * 5 // 4

    def of(self, known: Tensor) -> Inverted:
        """known: the pictures' clean states (B, C, H, W)."""
        path, calls = invert(self.process, known, self.up)
        x = path[-1]
        if self.above:
            x, more = self.walked(x, self.above)
            calls += more
        if not (self.learn or self.measure):
            return Inverted(x, tuple(path), calls)
        back, more = self.walked(x, self.down)
        first, calls = distance(back, known), calls + more
        if not self.learn:
            return Inverted(x, tuple(path), calls, (first, first))
        learned = [
            self.learned(*pair)
            for pair in zip(torch.split(x, 1), torch.split(known, 1), strict=True)
        ]
        x, calls = torch.cat([row for row, _ in learned]), calls + sum(n for _, n in learned)
        back, more = self.walked(x, self.down)
        return Inverted(x, tuple(path), calls + more, (first, distance(back, known)))

    def remembered(
        self, known: Tensor, memo: MutableMapping[Any, Any], asked: Sequence[Any]
    ) -> Inverted:
        """`of`, unless it is among the last few of the model's memo.

        asked: what else tells inversions apart: condition and weights. One that is remembered
        counts its calls again, so that the same run records the same.
        """
        told = [self.down, self.top, self.learn, self.measure, *asked]
        return recalled(memo, "inversions", told, known, lambda: self.of(known))

    def walked(self, x: Tensor, times: Times) -> tuple[Tensor, int]:
        """The state at times[-1], from x at times[0], and the network calls."""
        process = replace(self.process, spacing=times, n_steps=None, n=len(x))
        for step in process.steps(x):
            last = step
        return last.x, last.calls

    def learned(self, x: Tensor, known: Tensor) -> tuple[Tensor, int]:
        """The start whose return is nearest to the picture after `learn` steps of L-BFGS, and the
        network calls that took."""
        start = x.detach().clone().requires_grad_()
        descent: Any = torch.optim.LBFGS(
            [start], max_iter=self.learn, max_eval=self.evaluations, line_search_fn="strong_wolfe",
            tolerance_grad=0, tolerance_change=0,
        )  # fmt: skip
        calls = 0

        def loss() -> Any:
            nonlocal calls
            with torch.enable_grad():
                back, n = self.walked(start, self.down)
                value = (back - known).square().sum()
            (start.grad,) = torch.autograd.grad(value, start)
            calls += n
            return value

        descent.step(loss)
        return start.detach(), calls


def recalled(
    memo: MutableMapping[Any, Any],
    what: str,
    told: Sequence[Any],
    known: Tensor,
    find: Callable[[], T],
) -> T:
    """What `find` gives, unless it is among the last few of its kind in a model's memo.

    told: plain data that tells it from others of the same states `known`.
    """
    digest = sha256(json.dumps([list(known.shape), *told], default=dict).encode())
    digest.update(known.detach().cpu().numpy().tobytes())
    key, kept = digest.hexdigest(), memo.setdefault(what, {})
    if key not in kept:
        kept[key] = find()
        for old in list(kept)[:-KEPT]:
            del kept[old]
    value: T = kept[key]
    return value


def distance(a: Tensor, b: Tensor) -> float:
    """|a - b| / |b|."""
    return float((a - b).norm() / b.norm().clamp_min(1e-12))
