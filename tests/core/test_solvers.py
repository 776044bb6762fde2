"""Every solver against the exact flow of Gaussian data, its stated order, calls and composition."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from sfumato.core.denoiser import Denoiser
from sfumato.core.errors import SfumatoError
from sfumato.core.guides import Guide
from sfumato.core.process import Process
from sfumato.core.schedule import FAINTEST, VP, Cosine, named
from sfumato.core.solvers import SOLVERS, solver, solver_data

SCHEDULE = VP()
V = 0.25
END = 0.05


def eps(x: torch.Tensor, time: torch.Tensor, cond: Any) -> torch.Tensor:
    t = float(time[0])
    a, s = SCHEDULE.alpha(t), SCHEDULE.sigma(t)
    return s * x / (a**2 * V + s**2)


def process(name: Any, times: tuple[float, ...], n: int = 1) -> Process:
    denoiser = Denoiser(eps, SCHEDULE, code=float, t_min=0.0)
    return Process(denoiser, (1, 1, 4), n=n, solver=name, spacing=times)


def ladder(n: int, top: float, scale: Any, back: Any) -> tuple[float, ...]:
    """n transitions from top to END, even in a function of sigma/alpha."""
    high, low = (scale(SCHEDULE.sigma(t) / SCHEDULE.alpha(t)) for t in (top, END))
    return tuple(SCHEDULE.at(back(high + (low - high) * k / n)) for k in range(n + 1))


def error(name: Any, n: int, even: str) -> float:
    """Distance from the exact flow of the first state, relative."""
    scale, back = (math.log, math.exp) if even == "log" else (float, float)
    times = ladder(n, 0.9 if even == "log" else 0.4, scale, back)
    steps = list(process(name, times).steps(seed=0))
    first, last = steps[0].x.double(), steps[-1].x.double()
    spread = [SCHEDULE.alpha(t) ** 2 * V + SCHEDULE.sigma(t) ** 2 for t in (times[0], times[-1])]
    exact = first * math.sqrt(spread[1] / spread[0])
    return float((last - exact).norm() / exact.norm())


@pytest.mark.parametrize(
    ("name", "even", "order"),
    [
        ("ddim", "log", 1),
        ("heun", "log", 2),
        ("pie", "log", 2),
        ({"solver": "edm", "churn": 0.0}, "log", 2),
        ("dpmpp-2m", "log", 2),
        ({"solver": "dpmpp-2m-sde", "eta": 0.0}, "log", 2),
        ("plms2", "ratio", 2),
        ("iplms", "ratio", 4),
        ("plms", "ratio", 4),
        ("plms-prk", "ratio", 4),
    ],
    ids=str,
)
def test_the_measured_order_is_the_stated_one(name: Any, even: str, order: int) -> None:
    """Slope of the error over the number of transitions, at times even in what the method needs."""
    few, many = (8, 16) if order == 4 else (64, 256)  # above float32's rounding, below the start's
    slope = math.log(error(name, few, even) / error(name, many, even)) / math.log(many / few)
    assert slope == pytest.approx(order, abs=0.5 if order == 4 else 0.2)


def test_more_evaluations_are_more_exact_at_equal_steps() -> None:
    """prk's order is 2, since its middle is one of t; its error still is a fraction of Heun's."""
    assert error("prk", 32, "log") < 0.2 * error("heun", 32, "log")
    assert error("plms-prk", 32, "ratio") < 0.5 * error("plms2", 32, "ratio")


def test_every_solver_is_listed_once_and_is_made_again_from_its_record() -> None:
    assert list(SOLVERS) == (
        [
            "ddpm",
            "ddim",
            "euler-a",
            "heun",
            "edm",
            "dpmpp-2m",
            "dpmpp-2m-sde",
            "plms",
            "plms-prk",
            "plms2",
            "iplms",
            "pie",
            "prk",
            "lcm",
        ]
    )
    for name in SOLVERS:
        made = solver(name)
        assert made.id == ("ddim" if name == "euler-a" else name)
        assert solver(solver_data(made)) == made


@pytest.mark.parametrize("name", list(SOLVERS))
def test_plans_and_counts_of_calls_agree(name: str) -> None:
    for n in (1, 2, 7):
        run = process(name, tuple((n - k) / n for k in range(n + 1)))
        assert [step.calls for step in run.steps(seed=0)][-1] == run.calls


@pytest.mark.parametrize("name", [n for n in SOLVERS if not solver(n).stochastic])
def test_deterministic_solvers_go_up_and_come_back(name: str) -> None:
    x0 = torch.randn(2, 1, 1, 4, generator=torch.Generator().manual_seed(0)) * 0.5
    denoiser = Denoiser(eps, SCHEDULE, code=float, t_min=0.0)
    run = Process(denoiser, (1, 1, 4), n=2, solver=name, n_steps=50)
    top = run.invert(x0)[-1]
    down = list(run.steps(top, seed=0))[-1].x
    assert float((down - x0).norm() / x0.norm()) < (0.2 if name == "ddim" else 0.05)


def end(x: torch.Tensor, time: torch.Tensor, cond: Any) -> torch.Tensor:
    """Where the exact flow of a state ends: what consistency models give."""
    a, s = SCHEDULE.alpha(float(time[0])), SCHEDULE.sigma(float(time[0]))
    return x * math.sqrt(V / (a**2 * V + s**2))


@pytest.mark.parametrize("name", [n for n in SOLVERS if solver(n).stochastic])
def test_stochastic_solvers_keep_the_datas_spread_and_refuse_to_invert(name: str) -> None:
    walked = process(name, tuple((80 - k) / 80 for k in range(81)), n=1500)
    if name == "lcm":
        walked = replace(walked, denoiser=Denoiser(end, SCHEDULE, "x0", code=float, t_min=0.0))
    made = walked.sample(seed=0)
    assert float(made.std()) == pytest.approx(0.5, abs=0.04)
    again = process(name, (1.0, 0.5, 0.0)).sample(seed=3)
    assert torch.equal(again, process(name, (1.0, 0.5, 0.0)).sample(seed=3))
    assert not torch.equal(again, process(name, (1.0, 0.5, 0.0)).sample(seed=4))
    with pytest.raises(SfumatoError, match="is stochastic"):
        Process(Denoiser(eps, SCHEDULE), (1, 1, 4), solver=name, n_steps=4).invert(made[:1])


def test_options_that_do_not_exist_are_named() -> None:
    with pytest.raises(SfumatoError, match="no option 'eta'; its options: stages, full"):
        solver({"solver": "heun", "eta": 1.0})
    with pytest.raises(SfumatoError, match="order 5 must be 1 to 4"):
        solver({"solver": "plms", "order": 5})
    with pytest.raises(SfumatoError, match="stages 3 must be 2 or 4"):
        solver({"solver": "heun", "stages": 3})


class Apart(Guide):
    """Moves eps without x0, as a method with `needs` may."""

    id = "apart"
    needs = frozenset({"eps"})

    def edit(self, pred: Any, x: torch.Tensor, call: Any) -> Any:
        return replace(pred, eps=pred.eps * 0.9)


def test_a_method_that_a_solver_would_ignore_is_refused_when_composed() -> None:
    assert process("ddim", (1.0, 0.5)) | Apart()
    with pytest.raises(SfumatoError, match="apart: changes eps apart, which solver dpmpp-2m does"):
        process("dpmpp-2m", (1.0, 0.5)) | Apart()
    late = process(None, (1.0, 0.5)) | Apart()
    with pytest.raises(SfumatoError, match="take one of ddim, euler-a, heun"):
        late.add(solver=solver("ddpm"))


class Upwards(Guide):
    """A constant score: what a network's noise at t = 1 amounts to."""

    name = "upwards"
    through = "prediction"
    faintest = FAINTEST

    def logp(self, x: torch.Tensor, pred: Any, call: Any) -> torch.Tensor:
        return x.sum((1, 2, 3))


@pytest.mark.parametrize("name", ["ddim", "dpmpp-2m", "euler-a", "ddpm"])
def test_a_score_where_nothing_is_visible_does_not_blow_up_the_run(name: str) -> None:
    """At t = 1 of a cosine schedule sigma^2/alpha is 20,000: DDIM's x0 would move by that."""
    schedule = named("squaredcos_cap_v2", 1000)
    assert schedule.alpha(1.0) < 1e-4

    def exact(x: torch.Tensor, time: torch.Tensor, cond: Any) -> torch.Tensor:
        t = float(time[0])
        a, s = schedule.alpha(t), schedule.sigma(t)
        return s * x / (a**2 * V + s**2)

    denoiser = Denoiser(exact, schedule, code=float, t_min=0.0)
    plain = Process(denoiser, (1, 1, 4), solver=name, n_steps=20)
    states = [step.x for step in (plain | Upwards()).steps(seed=0)]
    free = [step.x for step in plain.steps(seed=0)]
    assert float((states[-1] - free[-1]).mean()) > 0.1, "it still steers"
    assert max(float((a - b).abs().max()) for a, b in zip(states, free, strict=True)) < 3


@pytest.mark.parametrize("name", ["iplms", "plms", "plms2", "plms-prk", "heun", "pie", "prk"])
def test_no_eps_can_be_stepped_where_no_signal_is_left(name: str) -> None:
    """At t = 1 of the cosine alpha is 0 but for rounding; dividing by it gave 1e22 in silence."""
    cosine = Cosine()

    def still(x: torch.Tensor, time: torch.Tensor, cond: Any) -> torch.Tensor:
        t = float(time[0])
        a, s = cosine.alpha(t), cosine.sigma(t)
        return a * s * (1 - V) / (a * a * V + s * s) * x

    given = Process(
        Denoiser(still, cosine, "v", code=float, t_min=0.0), (1, 1, 4), solver=name, n_steps=6
    )
    made = given.sample()
    assert float(made.abs().max()) < 10, "first order there"
    published = solver({**options(name), "faintest": 0.0})
    with pytest.raises(SfumatoError, match="time 1: nothing of the picture is left"):
        replace(given, solver=published).sample()
    lower = replace(given, spacing="v-spliced").sample()
    assert torch.isfinite(lower).all()
    assert float(replace(given, solver="ddim").sample().abs().max()) < 10


def options(name: str) -> dict[str, Any]:
    """The recorded form of a solver of that id."""
    data = solver_data(solver(name))
    return {"solver": data} if isinstance(data, str) else data


def test_a_reverse_sde_solver_without_noise_inverts_as_the_ode_solver_does() -> None:
    x0 = torch.randn(1, 1, 1, 4, generator=torch.Generator().manual_seed(0)) * 0.5
    denoiser = Denoiser(eps, SCHEDULE, code=float, t_min=0.0)
    tops = [
        Process(denoiser, (1, 1, 4), solver=name, n_steps=10).invert(x0)[-1]
        for name in ({"solver": "dpmpp-2m-sde", "eta": 0.0}, "dpmpp-2m")
    ]
    torch.testing.assert_close(*tops)


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in SOLVERS if not solver(n).stochastic])
def test_deterministic_solvers_draw_the_bundled_picture(name: str) -> None:
    """Near to 200 steps of dpmpp-2m at 8 steps, and nearer at 20: t = 1 is nearly all noise."""
    import numpy as np

    import sfumato as sf

    model = sf.load("emoji", device="cpu", dtype="float32")

    def drawn(chosen: str, steps: int) -> Any:
        process = model.process("red apple, 3d render", steps=steps, solver=chosen, stages=1)
        result = process.sample(seed=7)
        assert result.calls == [process.calls]
        return np.asarray(result.images[0].convert("RGB"), dtype=float)

    wanted = drawn("dpmpp-2m", 200)
    few, many = (abs(drawn(name, steps) - wanted).mean() for steps in (8, 20))
    assert many < few < 15


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in SOLVERS if not solver(n).stochastic])
def test_deterministic_solvers_draw_on_the_bundled_upsampler(name: str) -> None:
    """The base's picture enlarged, against 60 steps of dpmpp-2m."""
    import numpy as np

    import sfumato as sf

    model = sf.load("emoji", device="cpu", dtype="float32")
    cascade = model.process("red apple, 3d render", steps=10, stages=2)
    (upsampler,) = cascade.upsamplers

    def drawn(chosen: str, steps: int) -> Any:
        enlarged = replace(upsampler, solver=chosen, n_steps=steps)
        (image,) = replace(cascade, upsamplers=(enlarged,)).sample(seed=7).images
        return np.asarray(image.convert("RGB"), dtype=float)

    reference = drawn("dpmpp-2m", 60)
    few, many = (abs(drawn(name, steps) - reference).mean() for steps in (8, 20))
    assert many < few < 15


class Half:
    """A foreign solver that has forgotten what it must say besides its step."""

    id = "half"
    order = 1
    stochastic = False

    def step(self, x: Any, t: float, s: float, denoise: Any, call: Any, state: Any) -> Any:
        return x, None


def test_a_foreign_solver_that_lacks_a_part_is_refused_by_name() -> None:
    half: Any = Half()
    for make in (lambda: solver(half), lambda: process(half, (0.9, 0.5, 0.1))):
        with pytest.raises(SfumatoError) as refusal:
            make()
        lacks = "solver Half: lacks needs, mean_shift, evaluated, jumped; a solver has id, order"
        assert lacks in str(refusal.value)
