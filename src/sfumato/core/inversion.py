"""Inversion: a picture's state at a noise level, by walking the deterministic path upwards.

Sampling back down the same path finds the picture again, up to the solver's and the network's
errors. Up to a level above the one that is wanted and back down to it (DiffStyler's T1 > T, arXiv
2211.10682) changes the state by those errors alone; `learn` removes them by gradient steps.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sfumato.core.lazy import torch
from sfumato.core.run import invert
from sfumato.core.solvers import solver

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.core.process import Process

Times = tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Inverted:
    """x: the state (1, C, H, W) at times[0] of the way down; path: the states from 0 to the top.

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
    the picture will be sampled along; top: where the way up ends, times[0] or above it."""

    process: Process
    down: Times
    top: float
    learn: int = 0
    measure: bool = False

    @property
    def above(self) -> Times:
        """Falling times from the top to down[0], about as dense as the way down; () without any."""
        start, n = self.down[0], len(self.down) - 1
        if self.top <= start:
            return ()
        m = max(round(n * (self.top - start) / start), 1)
        return tuple(self.top + (start - self.top) * k / m for k in range(m + 1))

    @property
    def calls(self) -> int:
        """What `of` will make; learning stops earlier where it has converged."""
        chosen: Any = solver(self.process.solver or "ddim")
        back, over = chosen.calls(len(self.down) - 1), len(self.above) - 1
        total: int = chosen.calls(len(self.down) - 1 + max(over, 0))
        if over > 0:
            total += chosen.calls(over)
        returns = 2 + self.evaluations if self.learn else int(self.measure)
        return total + returns * int(back)

    @property
    def evaluations(self) -> int:
        """Most returns that learning walks: one for each step and a quarter for line searches."""
        return self.learn * 5 // 4

    def of(self, known: Tensor) -> Inverted:
        """known: the picture's clean state (1, C, H, W)."""
        chosen: Any = solver(self.process.solver or "ddim")
        rising = (*self.down[::-1], *self.above[::-1][1:])
        path = invert(self.process, known, rising)
        x, calls = path[-1], chosen.calls(len(rising) - 1)
        if self.above:
            x = self.walked(x, self.above)
            calls += chosen.calls(len(self.above) - 1)
        if not (self.learn or self.measure):
            return Inverted(x, tuple(path), calls)
        first = distance(self.walked(x, self.down), known)
        last, returns = first, 1
        if self.learn:
            x, walked = self.learned(x, known)
            last, returns = distance(self.walked(x, self.down), known), walked + 2
        calls += returns * chosen.calls(len(self.down) - 1)
        return Inverted(x, tuple(path), calls, (first, last))

    def walked(self, x: Tensor, times: Times) -> Tensor:
        """The state at times[-1], from x at times[0]."""
        process = replace(self.process, spacing=times, n_steps=None, n=len(x))
        for step in process.steps(x):
            found = step.x
        return found

    def learned(self, x: Tensor, known: Tensor) -> tuple[Tensor, int]:
        """The start whose return is nearest to the picture after `learn` steps of L-BFGS, and how
        many returns that took."""
        made = x.detach().clone().requires_grad_()
        descent = torch.optim.LBFGS(
            [made], max_iter=self.learn, max_eval=self.evaluations, line_search_fn="strong_wolfe",
            tolerance_grad=0, tolerance_change=0,
        )  # fmt: skip
        returns = 0

        def loss() -> Any:
            nonlocal returns
            returns += 1
            descent.zero_grad()
            with torch.enable_grad():
                value = (self.walked(made, self.down) - known).square().sum()
                value.backward()  # type: ignore[no-untyped-call]
            return value

        descent.step(loss)  # type: ignore[no-untyped-call]
        return made.detach(), returns


def distance(a: Tensor, b: Tensor) -> float:
    """|a - b| / |b|."""
    return float((a - b).norm() / b.norm().clamp_min(1e-12))
