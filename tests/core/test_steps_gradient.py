"""Gradients through steps(), against finite differences: every kind of guide, leaf start or not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from sfumato.core.denoiser import Cond, Denoiser
from sfumato.core.errors import SfumatoError
from sfumato.core.guides import Guide
from sfumato.core.mixture import Branch
from sfumato.core.process import Process
from sfumato.core.schedule import linear
from sfumato.methods.common.penalty import Penalty
from sfumato.methods.gradient import Gradient

SHAPE = (1, 2, 2)
TARGET = torch.linspace(-1, 1, 4, dtype=torch.float64).view(1, *SHAPE)


def denoiser(weight: Tensor | None = None) -> Denoiser:
    """A smooth nonlinear network in double precision, with one weight that may want a gradient."""
    factor = torch.tensor(0.7, dtype=torch.float64) if weight is None else weight

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            if weight is not None:
                self.weight = torch.nn.Parameter(weight)

        def forward(self, x: Tensor, time: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
            used = self.weight if weight is not None else factor
            shift = cond["c"].view(-1, 1, 1, 1) if "c" in cond else 0.0
            mixed = x + 0.3 * x.flip(-1) + shift
            return torch.tanh(used * mixed) + 0.1 * time.double().view(-1, 1, 1, 1) / 1000

    return Denoiser(Network().requires_grad_(weight is not None), linear(), "eps")


class Direct(Guide):
    """A log-probability of the state and of the prediction, cubic in both."""

    name = "direct"

    def __init__(self, through: Literal["prediction", "network"], on: str = "mixture") -> None:
        self.through, self.on = through, on

    def logp(self, x: Tensor, pred: Any, call: Any) -> Tensor:
        return -((x - 0.2 * pred.x0 - TARGET) ** 2 + 0.1 * x**3).flatten(1).sum(1)


def penalty(through: Literal["prediction", "network"], **values: Any) -> Penalty:
    def measure(view: Any) -> Tensor:
        error = view.pixels - TARGET
        found: Tensor = (error**2 + 0.2 * error**3).flatten(1).sum(1)
        return found

    return Penalty(0.05, measure, through=through, **values)


GUIDES: dict[str, list[Any]] = {
    "none": [],
    "input": [Direct("prediction")],
    "model": [Direct("network")],
    "both": [Direct("prediction"), penalty("network")],
    "loss of the prediction": [penalty("prediction")],
    "loss through the network": [penalty("network")],
    "both losses": [penalty("prediction"), penalty("network")],
    "on a branch": [Direct("prediction", "positive"), penalty("network", on="positive")],
    "of a set length": [penalty("prediction"), Gradient(0.2)],
}


def final(process: Process, x: Tensor) -> Tensor:
    *_, last = process.steps(x, seed=1)
    return (last.x * TARGET).sum() + last.x.square().sum()


def process_of(guides: list[Any], solver: str, weight: Tensor | None = None) -> Process:
    process = Process(denoiser(weight), SHAPE, solver=solver, spacing=(0.8, 0.5, 0.2))
    away = Branch("away", Cond({"c": torch.ones(1, dtype=torch.float64)}), 1.5)
    process = process.add(aways=(away,))
    for guide in guides:
        process = process | guide
    return process


def differences(value: Any, at: Tensor, step: float = 1e-5) -> Tensor:
    found = torch.zeros_like(at)
    for k in range(at.numel()):
        unit = torch.zeros_like(at)
        unit.view(-1)[k] = step
        with torch.no_grad():
            found.view(-1)[k] = (value(at + unit) - value(at - unit)) / (2 * step)
    return found


@pytest.mark.parametrize("solver", ["ddim", "ddpm", "heun", "dpmpp-2m"])
@pytest.mark.parametrize("leaf", [True, False], ids=["leaf", "made"])
@pytest.mark.parametrize("name", list(GUIDES))
def test_gradients_through_steps_are_those_of_finite_differences(
    name: str, leaf: bool, solver: str
) -> None:
    process = process_of(GUIDES[name], solver)
    start = torch.tensor([0.3, -0.8, 1.1, 0.4], dtype=torch.float64).view(1, *SHAPE)
    wanted = differences(lambda x: final(process, x), start)
    with torch.enable_grad():
        x = start.clone().requires_grad_()
        (found,) = torch.autograd.grad(final(process, x if leaf else 1.0 * x), x)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["input", "loss through the network"])
def test_gradients_reach_a_networks_own_weights(name: str) -> None:
    weight = torch.tensor([0.7], dtype=torch.float64)
    start = torch.tensor([0.3, -0.8, 1.1, 0.4], dtype=torch.float64).view(1, *SHAPE)
    wanted = differences(lambda w: final(process_of(GUIDES[name], "ddim", w), start), weight)
    with torch.enable_grad():
        process = process_of(GUIDES[name], "ddim", weight.clone())
        (parameter,) = process.denoiser.network.parameters()  # type: ignore[attr-defined]
        (found,) = torch.autograd.grad(final(process, start), parameter)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-7)


def test_a_masked_loss_is_refused_where_a_caller_differentiates() -> None:
    process = process_of([penalty("network", mask=torch.ones(1, 2, 2))], "ddim")
    start = torch.zeros(1, *SHAPE, dtype=torch.float64)
    assert torch.isfinite(final(process, start))
    with torch.enable_grad(), pytest.raises(SfumatoError, match="cannot be differentiated through"):
        final(process, start.requires_grad_())
