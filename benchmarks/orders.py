"""Claim: every deterministic solver has its order where theory gives one; default times cost some.

The slope of the error over the number of steps, against the exact flow of Gaussian data: from
t = 0.9 (0.4 for the plms family) to t = 0.05 on times even in what the method needs, and on the
default times, even in t from 1 to 0. `python benchmarks/orders.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from sfumato.core.denoiser import Denoiser
from sfumato.core.process import Process
from sfumato.core.schedule import VP
from sfumato.core.solvers import SOLVERS, solver

SCHEDULE, V, LOW = VP(), 0.25, 0.05
FAMILY = ("plms", "plms-prk", "plms2", "iplms")  # multistep in eps: on times even in sigma/alpha


def eps(x: torch.Tensor, time: torch.Tensor, cond: Any) -> torch.Tensor:
    """The exact prediction for data N(0, V)."""
    t = float(time[0])
    a, s = SCHEDULE.alpha(t), SCHEDULE.sigma(t)
    return s * x / (a**2 * V + s**2)


def error(name: Any, times: tuple[float, ...]) -> float:
    """Relative distance from the exact flow."""
    denoiser = Denoiser(eps, SCHEDULE, code=float, t_min=0.0)
    process = Process(denoiser, (1, 1, 64), solver=name, spacing=times)
    states = [step.x.double() for step in process.steps(seed=0)]
    first, last = (math.sqrt(SCHEDULE.alpha(t) ** 2 * V + SCHEDULE.sigma(t) ** 2)
                   for t in (times[0], times[-1]))  # fmt: skip
    exact = states[0] * (last / first)
    return float((states[-1] - exact).norm() / exact.norm())


def even(
    n: int, top: float, scale: Callable[[float], float], back: Callable[[float], float]
) -> Any:
    """n transitions from top to LOW, even in a function of sigma/alpha."""
    high, low = (scale(SCHEDULE.sigma(t) / SCHEDULE.alpha(t)) for t in (top, LOW))
    return tuple(SCHEDULE.at(back(high + (low - high) * k / n)) for k in range(n + 1))


def uniform(n: int) -> tuple[float, ...]:
    return tuple((n - k) / n for k in range(n + 1))


def main() -> None:
    names = [name for name in SOLVERS if not solver(name).stochastic]
    print("| solver | times | slope | default times: slope | error at 10 | 20 | 40 steps |")
    print("|---|---|---|---|---|---|---|")
    chosen: list[tuple[str, Any]] = [(name, name) for name in names]
    chosen.append(("edm, churn 0", {"solver": "edm", "churn": 0.0}))
    for shown, name in chosen:
        if shown in FAMILY:
            few, many = (8, 16) if shown != "plms2" else (64, 256)
            a, b = (error(name, even(n, 0.4, float, float)) for n in (few, many))
            times = "even in sigma/alpha"
        else:
            few, many = 64, 256
            a, b = (error(name, even(n, 0.9, math.log, math.exp)) for n in (few, many))
            times = "even in log(sigma/alpha)"
        slope = math.log(a / b) / math.log(many / few)
        found = [error(name, uniform(n)) for n in (10, 20, 40)]
        default = math.log(found[0] / found[2]) / math.log(4)
        errors = " | ".join(f"{value:.2g}" for value in found)
        print(f"| {shown} | {times} | {slope:.2f} | {default:.2f} | {errors} |")


if __name__ == "__main__":
    main()
