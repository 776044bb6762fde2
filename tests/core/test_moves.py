"""Moves, guides, branches and times: details that nothing else would notice if they broke."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import sfumato as sf
from conformance.sdedit import gaussian
from helpers.gaussians import process
from sfumato.core.mixture import Branch
from sfumato.core.noise import Tape
from sfumato.core.schedule import VE, VP, linear, squared_cosine
from sfumato.core.solvers import variances

TABLE = linear()


@pytest.mark.parametrize("schedule", [TABLE, squared_cosine(), VP()])
def test_states_have_the_marginal_law_after_every_move(schedule: Any) -> None:
    """Ancestral steps and forward jumps both keep N(0, a^2 v + s^2)."""
    v, times = 0.25, (1.0, 0.7, 0.4, 0.2, 0.25, 0.1, 0.0, 0.5, 0.2)
    fine = [t for a, b in itertools.pairwise(times) for t in cut(a, b)] + [times[-1]]
    made = sf.Process(
        gaussian(schedule, v), (1, 1, 40_000), spacing=tuple(fine), solver=sf.DDPM("large")
    )
    for step in made.steps(seed=2):
        if step.s in times and step.i >= 0:
            exact = math.sqrt(schedule.alpha(step.s) ** 2 * v + schedule.sigma(step.s) ** 2)
            assert float(step.x.std()) == pytest.approx(exact, rel=0.03), step


def cut(a: float, b: float, n: int = 40) -> list[float]:
    return [a] if b > a else [a + (b - a) * k / n for k in range(n)]


def test_an_upward_move_forgets_the_solvers_history() -> None:
    made = process(solver="dpmpp-2m", n_steps=None, spacing=(0.6, 0.4, 0.2, 0.5, 0.3))
    steps = list(made.steps(seed=1))
    fresh = list(process(solver="dpmpp-2m", n_steps=None, spacing=(0.5, 0.3)).steps(steps[3].x))
    assert torch.equal(fresh[1].x, steps[4].x)


class Pull(sf.Guide):
    """logp = -(x - 1)^2 / 2; counts its arrivals."""

    through = "prediction"
    name = "pull"

    def __init__(self, active: bool = True) -> None:
        self.on_duty = active

    def active(self, call: sf.Call) -> bool:
        return self.on_duty

    def logp(self, x: Tensor, pred: sf.Prediction, call: sf.Call) -> Tensor:
        return -((x - 1) ** 2 / 2).flatten(1).sum(1)

    def arrive(self, x: Tensor, t: float, call: sf.Call) -> Tensor:
        return x + 1e-3

    def edit(self, pred: sf.Prediction, x: Tensor, call: sf.Call) -> sf.Prediction:
        return replace(pred, x0=pred.x0 + 0.01)


def test_an_inactive_guide_does_nothing() -> None:
    assert torch.equal((process() | Pull(False)).sample(), process().sample())
    assert not torch.equal((process() | Pull()).sample(), process().sample())


def test_gradients_flow_through_guides() -> None:
    """d(last)/d(first) of guided steps, against finite differences."""
    x = torch.full((1, 1, 1, 1), 0.3, dtype=torch.float64, requires_grad=True)

    class Curved(Pull):
        through = "network"

        def logp(self, x: Tensor, pred: sf.Prediction, call: sf.Call) -> Tensor:
            return -8 * (pred.x0**4).flatten(1).sum(1)

    made = sf.Process(gaussian(TABLE, 0.25), (1, 1, 1), spacing=(0.6, 0.4, 0.2), solver="ddim")
    guided = made | Curved()

    def last(value: Tensor) -> Tensor:
        *_, step = guided.steps(value)
        return step.x.sum()

    # through a first operation, as a learned start would be
    (slope,) = torch.autograd.grad(last(x * 1.0), x)
    with torch.no_grad():
        numeric = (last(x + 1e-4) - last(x - 1e-4)) / 2e-4
    assert float(slope) == pytest.approx(float(numeric), rel=1e-4)


def test_mean_shift_is_the_variance_times_the_score() -> None:
    """DDPM moves its mean by Sigma g with the Sigma it samples with (arXiv 2105.05233, alg. 1)."""
    zero = Tape({(p, k): torch.zeros(1, 1, 1, 1) for p in ("prior", "step") for k in range(3)})
    for variance in ("small", "large"):
        base = sf.Process(
            gaussian(TABLE, 0.25), (1, 1, 1), spacing=(0.6, 0.4), solver=sf.DDPM(variance)
        )

        class Score(sf.Guide):
            through = "prediction"

            def logp(self, x: Tensor, pred: sf.Prediction, call: sf.Call) -> Tensor:
                return 0.5 * x.flatten(1).sum(1)

        start = torch.ones(1, 1, 1, 1)
        *_, plain = base.steps(start, noise=zero)
        *_, moved = (base | Score()).steps(start, noise=zero)
        large = (
            TABLE.sigma(0.6) ** 2 - (TABLE.alpha(0.6) / TABLE.alpha(0.4) * TABLE.sigma(0.4)) ** 2
        )
        small = large * (TABLE.sigma(0.4) / TABLE.sigma(0.6)) ** 2
        wanted = 0.5 * {"small": small, "large": large}[variance]
        assert float(moved.x - plain.x) == pytest.approx(wanted, rel=1e-4)


def test_learned_variance_of_a_pass_of_one_step() -> None:
    """With no pair before it in its own pass the last transition takes v, in every pass."""

    def network(x: Tensor, time: Tensor, cond: Any) -> Tensor:
        return torch.cat([0.9 * x, torch.full_like(x, -1.0)], 1)  # fraction 0: the small one

    denoiser = sf.Denoiser(network, TABLE, learned_range=True)
    solver = sf.DDPM("learned", last_noise=True)
    guide = torch.zeros(1, 1, 1)

    def spread(times: tuple[float, ...] | None, repeats: int) -> float:
        made = sf.Process(
            denoiser, (1, 1, 1), n_steps=None if times else 1, spacing=times, solver=solver
        ) | sf.SDEdit(guide, t0=0.5, repeats=repeats)
        ones = {
            (p, k): torch.ones(1, 1, 1, 1) if p == "step" else torch.zeros(1, 1, 1, 1)
            for p in ("start", "step")
            for k in range(9)
        }
        *_, last = made.steps(noise=Tape(ones))
        assert last.pred is not None
        return float(last.x - last.pred.x0)

    assert spread(None, 1) == pytest.approx(TABLE.sigma(0.5), rel=1e-5)
    assert spread(None, 2) == pytest.approx(TABLE.sigma(0.5), rel=1e-5)
    _, small = variances(TABLE, 0.5, 0.3)
    assert spread((0.5, 0.3, 0.0), 1) == pytest.approx(math.sqrt(small), rel=1e-5)


def test_a_branch_with_another_schedule_is_matched_at_equal_noise() -> None:
    """The same Gaussian told on two schedules: mixing them changes nothing."""
    plain = process()
    other = Branch("other", weight=0.6, denoiser=gaussian(VE(), 0.25))
    mixed = process().add(positives=(Branch("own", weight=0.4), other))
    assert torch.allclose(plain.sample(seed=4), mixed.sample(seed=4), atol=1e-4)


def test_time_is_clamped_above_too() -> None:
    seen = []

    def network(x: Tensor, time: Tensor, cond: Any) -> Tensor:
        seen.append(float(time[0]))
        return x

    sf.Denoiser(network, TABLE, t_max=0.5)(torch.zeros(1, 1, 1, 1), 0.9, sf.Cond())
    assert seen == [499]


def test_changing_conditions_are_not_kept() -> None:
    seen: list[float] = []

    def network(x: Tensor, time: Tensor, cond: Any) -> Tensor:
        seen.append(float(cond["c"][0]))
        return x

    made = sf.Process(sf.Denoiser(network, TABLE), (1, 1, 1), n_steps=4, solver="ddim").add(
        positives=(Branch("p", cond=lambda call: sf.Cond({"c": torch.tensor([call.t])})),)
    )
    made.sample()
    assert seen == pytest.approx([1.0, 0.75, 0.5, 0.25])


def test_inversion_is_unguided_unless_asked() -> None:
    calls: list[int] = []

    def network(x: Tensor, time: Tensor, cond: Any) -> Tensor:
        calls.append(len(x))
        return x * cond["c"].reshape(-1, 1, 1, 1)

    made = sf.Process(
        sf.Denoiser(network, TABLE),
        (1, 1, 1),
        cond=sf.Cond({"c": torch.ones(1, 1)}),
        null=sf.Cond({"c": torch.zeros(1, 1)}),
        n_steps=3,
        solver="ddim",
    ) | sf.CFG(3)
    made.invert(torch.ones(1, 1, 1, 1))
    made.invert(torch.ones(1, 1, 1, 1), guided=True)
    assert calls == [1] * 3 + [2] * 3
