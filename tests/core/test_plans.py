"""Plans and composition: calls are those made, and what a method composes itself is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from sfumato.core.denoiser import Cond, Denoiser
from sfumato.core.errors import SfumatoError
from sfumato.core.guides import Guide
from sfumato.core.mixture import Branch
from sfumato.core.process import Process
from sfumato.core.schedule import VP, named
from sfumato.core.solvers import SOLVERS
from sfumato.methods.cfg import CFG
from sfumato.methods.common.penalty import Penalty
from sfumato.methods.ilvr import ILVR
from sfumato.methods.sdedit import SDEdit
from sfumato.methods.threshold import Threshold

SCHEDULE = named("squaredcos_cap_v2")


def eps(x: Tensor, time: Tensor, cond: Any) -> Tensor:
    return 0.9 * x + (cond["c"].mean() if "c" in cond else 0.0)


def process(solver: Any = "ddim", steps: int = 6) -> Process:
    conds = [Cond({"c": torch.ones(1, 3)}), Cond({"c": torch.zeros(1, 3)})]
    denoiser = Denoiser(eps, SCHEDULE, t_min=0.0, code=float)
    return Process(denoiser, (3, 8, 8), *conds, solver=solver, n_steps=steps)


PICTURE = torch.zeros(3, 8, 8)
LONG = Branch("long", Cond({"c": torch.ones(1, 5)}), lambda t: 1.0 if t > 0.5 else 0.0)
KINDS: dict[str, Callable[[Process], Process]] = {
    "plain": lambda p: p,
    "window": lambda p: p | CFG(3.0, window=(0.3, 0.7)),
    "off": lambda p: p | CFG(1.0),
    "shapes": lambda p: p.add(positives=(Branch("positive", weight=0.5), LONG)),
    "ilvr": lambda p: p | ILVR(PICTURE, factor=2, stop=0.4),
    "passes": lambda p: p | SDEdit(PICTURE, t0=0.6, repeats=2) | Threshold("static"),
    "untouched": lambda p: p | SDEdit(PICTURE, t0=0.0),
}


@pytest.mark.parametrize("solver", list(SOLVERS))
@pytest.mark.parametrize("kind", list(KINDS))
def test_planned_calls_are_the_calls_made(kind: str, solver: str) -> None:
    for n in (1, 5):
        made = KINDS[kind](process(solver, n))
        assert made.calls == [step.calls for step in made.steps(seed=0)][-1]


class Inner:
    """Composes a guidance of its own."""

    id = "inner"
    slot = None

    def __call__(self, process: Process) -> Process:
        return process | CFG(1.0)


def test_what_a_method_composes_itself_takes_its_slot_and_is_composed_again_by_it() -> None:
    made = process() | Inner()
    assert [type(m).__name__ for m in made.methods] == ["Inner"]
    assert [type(m).__name__ for m in made.within] == ["CFG"]
    with pytest.raises(SfumatoError, match="already has"):
        made | CFG(4.0)
    assert len(made.refolded(made.methods).aways) == 1


def test_branches_of_one_name_and_moments_without_a_positive_are_refused() -> None:
    with pytest.raises(SfumatoError, match="'a': there already is one"):
        process().add(positives=(Branch("a"), Branch("a")))
    gap = process().add(positives=(Branch("a", weight=lambda t: float(t > 0.5)),))
    for ask in (lambda: gap.calls, gap.sample):
        with pytest.raises(SfumatoError, match=r"no positive one gives x0 at t = 0\.5"):
            ask()


class Towards(Guide):
    """A log-probability of the prediction, of the state, or of both."""

    name = "towards"

    def __init__(self, through: Any, on: str = "mixture") -> None:
        self.through, self.on = through, on

    def logp(self, x: Tensor, pred: Any, call: Any) -> Tensor:
        return -((x.square() + (pred.x0 - 0.3).square()) ** 2).flatten(1).sum(1) / 40


def pull(through: Any) -> Penalty:
    return Penalty(0.5, lambda view: (view.pixels - 0.3).pow(4).flatten(1).mean(1), through=through)


@pytest.mark.parametrize("solver", ["ddim", "dpmpp-2m", "ddpm"])
@pytest.mark.parametrize(
    "guide",
    [
        Towards("prediction"),
        Towards("network"),
        Towards("network", "positive"),
        pull("prediction"),
        pull("network"),
    ],
    ids=["input", "model", "branch", "loss of a constant", "loss"],
)
@pytest.mark.parametrize("leaf", [True, False])
def test_gradients_through_guided_steps_are_those_of_finite_differences(
    guide: Guide, leaf: bool, solver: str
) -> None:
    schedule = VP()

    def network(x: Tensor, time: Tensor, cond: Any) -> Tensor:
        return torch.tanh(x) * 0.7

    denoiser = Denoiser(network, schedule, t_min=0.0, code=float)
    given = replace(
        Process(denoiser, (1, 2, 2), solver=solver, spacing=(0.5, 0.3, 0.1)), guides=(guide,)
    )
    start = torch.tensor([0.3, -0.2, 0.5, 0.1], dtype=torch.float64).view(1, 1, 2, 2)
    way = torch.tensor([1.0, -0.5, 0.3, 0.8], dtype=torch.float64).view(1, 1, 2, 2)

    def out(x: Tensor) -> Tensor:
        return (list(given.steps(x, seed=0))[-1].x * way).sum()

    x = start.clone().requires_grad_()
    (found,) = torch.autograd.grad(out(x if leaf else x * 1.0), x)
    h = 1e-5
    for k in range(4):
        step = torch.zeros(4, dtype=torch.float64)
        step[k] = h
        step = step.view_as(start)
        slope = (out(start + step) - out(start - step)).detach() / (2 * h)
        assert float(found.flatten()[k]) == pytest.approx(float(slope), rel=2e-3, abs=1e-5)
