"""Exact answers that need no network: Gaussian and mixture data, orders of convergence, guides."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from conformance.sdedit import gaussian, law
from sfumato.core.context import Call
from sfumato.core.denoiser import Denoiser, Prediction
from sfumato.core.guides import Guide
from sfumato.core.noise import Tape
from sfumato.core.process import Process
from sfumato.core.schedule import VE, VP, Schedule, linear, ratio, squared_cosine
from sfumato.core.solvers import DDIM, DDPM, DPMpp2M
from sfumato.methods.sdedit import SDEdit

TABLE = linear()
SCHEDULES = {"linear": TABLE, "cosine": squared_cosine(), "vp": VP(), "ve": VE()}


def rho(schedule: Schedule, t: float, v: float) -> float:
    """Correlation of guide and result: a^2 v / (a^2 v + s^2)."""
    a2, s2 = schedule.alpha(t) ** 2, schedule.sigma(t) ** 2
    return a2 * v / (a2 * v + s2)


@pytest.mark.parametrize("steps", [1, 2, 4])
@pytest.mark.parametrize("variance", ["small", "large"])
def test_ancestral_chain_without_noise_is_the_denoiser(steps: int, variance: str) -> None:
    guide = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    noise = Tape({("start" if k == 0 else "step", k): torch.zeros(1, 1, 1, 1) for k in range(9)})
    process = Process(gaussian(TABLE, 0.25), (1, 1, 1), n_steps=steps, solver=DDPM(variance))
    *_, last = (process | SDEdit(guide, t0=0.5)).steps(noise=noise)
    assert float(last.x) == pytest.approx(0.0208773295466, abs=1e-10)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("v", [1.0, 0.25, 0.04])
def test_law_of_sdedit_with_the_sde(name: str, v: float) -> None:
    schedule = SCHEDULES[name]
    t0 = 0.4
    coef, std = law(schedule, v, None, DDPM("large"), 300, t0=t0)
    exact = rho(schedule, t0, v)
    assert coef == pytest.approx(exact, abs=1e-9)
    assert std == pytest.approx(math.sqrt(v * (1 - exact**2)), rel=0.02)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("solver", [DDIM(), DPMpp2M()], ids=["ddim", "dpmpp-2m"])
def test_law_of_sdedit_with_the_ode(name: str, solver: Any) -> None:
    schedule, v, t0 = SCHEDULES[name], 0.25, 0.4
    coef, std = law(schedule, v, None, solver, 300, t0=t0)
    exact = rho(schedule, t0, v)
    assert coef == pytest.approx(math.sqrt(exact), rel=0.02)
    assert std == pytest.approx(math.sqrt(v * (1 - exact)), rel=0.02)


def test_repeats_multiply_the_correlation() -> None:
    guide = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    zero = torch.zeros(1, 1, 1, 1)
    noise = Tape({(p, k): zero for p in ("start", "step") for k in range(40)})
    process = Process(gaussian(TABLE, 0.25), (1, 1, 1), n_steps=10, solver=DDPM())
    for repeats in (1, 2, 3):
        made = process | SDEdit(guide, t0=0.2, repeats=repeats)
        *_, last = made.steps(noise=noise)
        assert float(last.x) == pytest.approx(rho(TABLE, 0.2, 0.25) ** repeats, abs=1e-8)
        assert made.calls == 10 * repeats


@pytest.mark.parametrize(("solver", "order"), [(DDIM(), 1), (DPMpp2M(), 2)], ids=["ddim", "2m"])
def test_order_of_convergence(solver: Any, order: int) -> None:
    """On [t0, t_min > 0], times even in log-SNR, against the exact flow of the mixture's scale."""
    v, high, low = 0.25, 0.6, 0.05
    logs = [math.log(ratio(TABLE, t)) for t in (high, low)]

    def spread(t: float) -> float:  # the flow scales x by this
        return math.sqrt(TABLE.alpha(t) ** 2 * v + TABLE.sigma(t) ** 2)

    errors = []
    for steps in (10, 20, 40, 80):
        grid = [logs[0] + (logs[1] - logs[0]) * k / steps for k in range(steps + 1)]
        times = (high, *(TABLE.at(math.exp(g)) for g in grid[1:-1]), low)
        process = Process(gaussian(TABLE, v), (1, 1, 1), spacing=times, solver=solver)
        *_, last = process.steps(torch.ones(1, 1, 1, 1, dtype=torch.float64))
        errors.append(abs(float(last.x) - spread(low) / spread(high)))
    slopes = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert slopes[-1] == pytest.approx(order, abs=0.2), (errors, slopes)


def test_mixture_flow_is_its_quantile_map() -> None:
    """x0 = Q0(F_t(x_t)), exact for every deterministic solver on one-dimensional data."""
    m, s0, t0 = 0.5, 0.1, 0.5
    a, s = TABLE.alpha(t0), TABLE.sigma(t0)

    def cdf(x: Tensor, alpha: float, width: float) -> Tensor:
        root = width * math.sqrt(2)
        return 0.25 * (2 + torch.erf((x - alpha * m) / root) + torch.erf((x + alpha * m) / root))

    def network(x: Tensor, time: Tensor, cond: Any) -> Tensor:
        t = float(time[0].double())
        al, si = TABLE.alpha(t), TABLE.sigma(t)
        spread = al * al * s0 * s0 + si * si
        plus = torch.sigmoid(2 * al * m * x / spread)
        x0 = x * al * s0 * s0 / spread + (2 * plus - 1) * m * si * si / spread
        return (x - al * x0) / si

    x = torch.linspace(-2.5, 2.5, 41, dtype=torch.float64).reshape(1, 1, 1, 41)
    times = (t0, *(t0 * (1 - k / 2000) for k in range(1, 2000)), 0.0)
    process = Process(
        Denoiser(network, TABLE, code=lambda t: t), (1, 1, 41), spacing=times, solver=DPMpp2M()
    )
    *_, last = process.steps(x)
    goal = cdf(x, a, math.sqrt(a * a * s0 * s0 + s * s))
    low, high = torch.full_like(x, -2.0), torch.full_like(x, 2.0)
    for _ in range(60):
        middle = (low + high) / 2
        below = cdf(middle, 1.0, s0) < goal
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    assert float((last.x - low).abs().max()) < 2e-3


class Observation(Guide):
    """log p(y | x_t) for y = x0 + noise, exact on Gaussian data N(0, v)."""

    through = "prediction"
    name = "observation"

    def __init__(self, y: float, noise: float, v: float) -> None:
        self.y, self.noise, self.v = y, noise, v

    def logp(self, x: Tensor, pred: Prediction, call: Call) -> Tensor:
        a, s = call.schedule.alpha(call.t), call.schedule.sigma(call.t)
        spread = a * a * self.v + s * s
        mean = a * self.v / spread * x
        variance = self.v * s * s / spread + self.noise**2
        return (-((self.y - mean) ** 2) / (2 * variance)).flatten(1).sum(1)


class ThroughTheModel(Observation):
    """The same likelihood, with D(x_t) taken from the network."""

    through = "network"

    def logp(self, x: Tensor, pred: Prediction, call: Call) -> Tensor:
        a, s = call.schedule.alpha(call.t), call.schedule.sigma(call.t)
        variance = self.v * s * s / (a * a * self.v + s * s) + self.noise**2
        return (-((self.y - pred.x0) ** 2) / (2 * variance)).flatten(1).sum(1)


@pytest.mark.parametrize("guide", [Observation, ThroughTheModel])
@pytest.mark.parametrize("solver", [DDPM(), DDIM(), DPMpp2M()], ids=["ddpm", "ddim", "2m"])
@pytest.mark.parametrize("on", ["mixture", "positive"])
def test_guided_samples_have_the_posterior_law(guide: Any, solver: Any, on: str) -> None:
    v, y, noise, count = 0.25, 0.8, 0.4, 20_000
    made = guide(y, noise, v)
    made.on = on
    process = Process(gaussian(TABLE, v), (1, 1, count), n_steps=100, solver=solver) | made
    x = process.sample(seed=3).flatten()
    mean = v / (v + noise**2) * y
    std = math.sqrt(v * noise**2 / (v + noise**2))
    bias = 0.02  # of 100 steps
    assert float(x.mean()) == pytest.approx(mean, abs=4 * std / math.sqrt(count) + bias)
    assert float(x.std()) == pytest.approx(std, abs=4 * std / math.sqrt(2 * count) + bias)


def test_inversion_comes_back() -> None:
    process = Process(gaussian(TABLE, 0.25), (1, 1, 64), n_steps=400, solver=DPMpp2M())
    x0 = torch.linspace(-1, 1, 64, dtype=torch.float64).reshape(1, 1, 1, 64)
    path = process.invert(x0, t=0.7)
    assert len(path) == 401
    times = tuple(0.7 * (400 - k) / 400 for k in range(401))
    back = Process(gaussian(TABLE, 0.25), (1, 1, 64), spacing=times, solver=DPMpp2M())
    *_, last = back.steps(path[-1])
    assert float((last.x - x0).abs().max()) < 5e-3
