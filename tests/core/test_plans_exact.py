"""Plans: the calls that are counted are those that are made, and a plan refuses what a run does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

import sfumato as sf
from helpers.plans import MASK, PIXELS, SCHEDULES, Counting, Window, process
from sfumato.core.denoiser import Cond, Denoiser
from sfumato.core.errors import SfumatoError
from sfumato.core.guides import Guide
from sfumato.core.mixture import Branch
from sfumato.core.process import Process
from sfumato.core.schedule import named
from sfumato.core.solvers import SOLVERS, solver
from sfumato.core.spaces import Affine
from sfumato.methods.cfg import CFG
from sfumato.methods.diffstyler import DiffStyler
from sfumato.methods.ilvr import ILVR
from sfumato.methods.inpaint import Inpaint
from sfumato.methods.sdedit import SDEdit
from sfumato.methods.threshold import Threshold


def words(width: int) -> Cond:
    return Cond({"c": torch.zeros(1, width)})


COMPOSED: dict[str, list[Any]] = {
    "plain": [],
    "guided": [CFG(3.0)],
    "guided in a window": [CFG(3.0, window=(0.2, 0.7))],
    "guidance of 1": [CFG(1.0)],
    "edited": [SDEdit(PIXELS, t0=0.6)],
    "edited twice": [SDEdit(PIXELS, t0=1.0, repeats=2)],
    "masked": [SDEdit(PIXELS, t0=0.7, mask=MASK), CFG(2.0)],
    "untouched": [SDEdit(PIXELS, t0=0.0)],
    "inpainted": [Inpaint(PIXELS, mask=MASK, resample=2, stretch=2), CFG(2.0, window=(0.0, 0.5))],
    "held": [ILVR(PIXELS, factor=4, stop=0.3)],
    "inverted": [DiffStyler(PIXELS, t_start=0.6, art="none")],
    "inverted beyond": [DiffStyler(PIXELS, t_start=0.6, t_invert=0.8, measure=True, art="none")],
    "moved in a window": [Window()],
}


@pytest.mark.parametrize("name", list(COMPOSED))
@pytest.mark.parametrize("steps", [1, 2, 7])
@pytest.mark.parametrize("ends", list(SCHEDULES))
def test_every_plan_is_what_is_run(ends: str, steps: int, name: str) -> None:
    """Over all solvers, with every method and window, on schedules that end with no signal too."""
    schedule = SCHEDULES[ends]
    for chosen in SOLVERS:
        given = process(schedule, solver=chosen, n_steps=steps)
        for method in COMPOSED[name]:
            given = given | method
        network: Any = given.denoiser.network
        planned = given.calls
        assert network.calls == 0, "a plan asks no network"
        run_calls = [step.calls for step in given.steps(seed=0)]
        assert planned == network.calls, f"{chosen}: {planned} planned"
        if run_calls:
            assert run_calls[-1] == planned


@pytest.mark.parametrize("chosen", list(SOLVERS))
@pytest.mark.parametrize("times", [(0.9, 0.5, 0.2), (1.0, 0.6, 0.1, 0.6, 0.3), (0.4, 0.0)])
def test_plans_of_given_times_are_what_is_run(chosen: str, times: tuple[float, ...]) -> None:
    """Also where they end above 0 or move back up."""
    given = process(named("cosine"), n_steps=None, spacing=times, solver=chosen)
    planned = given.calls
    list(given.steps(seed=0))
    assert planned == given.denoiser.network.calls  # type: ignore[attr-defined]


@pytest.mark.parametrize("faintest", [0.0, 0.02])
@pytest.mark.parametrize("chosen", ["heun", "edm", "plms", "plms2", "plms-prk", "pie", "prk"])
def test_plans_know_where_a_solver_begins(chosen: str, faintest: float) -> None:
    options = {"solver": chosen, "faintest": faintest}
    given = process(named("cosine"), n_steps=120, solver=options)
    planned = given.calls
    list(given.steps(seed=0))
    assert planned == given.denoiser.network.calls  # type: ignore[attr-defined]


def test_branches_of_several_conditions_and_networks_are_counted_by_the_calls_they_make() -> None:
    """Equal shapes share a call; another network or another shape takes one of its own."""
    other = Denoiser(Counting(), named("linear"), "v")
    given = process(named("cosine"), cond=words(2), null=words(2)).add(
        positives=(
            Branch("same", words(2)),
            Branch("wide", words(5), lambda t: 1.0 if t > 0.5 else 0.0),
            Branch("second", words(2), 0.5, other),
            Branch("made", lambda call: words(3 if call.t > 0.3 else 2), 0.1),
        )
    )
    planned = (given | CFG(2.0)).calls
    made = list((given | CFG(2.0)).steps(seed=0))
    networks: list[Any] = [given.denoiser.network, other.network]
    assert planned == sum(network.calls for network in networks) == made[-1].calls
    assert len(made) < planned


class Latents(Affine):
    """As an autoencoder's: cells of 2 pixels."""

    stride = 2  # type: ignore[misc]


def test_a_plan_refuses_what_the_run_refuses() -> None:
    latents = process(named("linear"), space=Latents())
    cases: list[tuple[Process, str]] = [
        (latents | Threshold("static"), "no bounds"),
        (latents | ILVR(PIXELS, factor=1), "less than a cell"),
        (process(named("linear")) | Misplaced(), "no branch 'nowhere'"),
        (process(named("linear"), n=3, cond=Cond({"c": torch.zeros(2, 1)})), "2 rows for 3"),
        (process(named("linear")).add(positives=(Branch("late", Cond(), late),)), "no positive"),
    ]
    for given, words_ in cases:
        for asked in (lambda given=given: given.calls, lambda given=given: given.sample()):
            with pytest.raises(SfumatoError, match=words_):
                asked()
        assert given.denoiser.network.calls <= 7  # type: ignore[attr-defined]


def late(t: float) -> float:
    return 1.0 if t > 0.5 else 0.0


class Misplaced(Guide):
    name = "misplaced"
    on = "nowhere"
    through = "prediction"

    def logp(self, x: Tensor, pred: Any, call: Any) -> Tensor:
        return x.flatten(1).sum(1)


class Wrapped:
    """A method that composes another one itself."""

    id = "wrapped"

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale

    def __call__(self, process: Process) -> Process:
        return process | CFG(self.scale)


def test_a_method_may_compose_others_which_count_as_there() -> None:
    given = process(named("linear")) | Wrapped(4.0)  # type: ignore[operator]
    assert [type(method) for method in given.methods] == [Wrapped]
    assert [type(method) for method in (*given.methods, *given.within)] == [Wrapped, CFG]
    assert [away.at(0.5) for away in given.aways] == [4.0]
    with pytest.raises(SfumatoError, match="already has cfg"):
        given | CFG(2.0)
    again = given.based(n=2)
    assert (len(again.aways), again.n, len((*again.methods, *again.within))) == (1, 2, 2)
    assert not given.without("wrapped").aways
    twice = process(named("linear")) | Nested()  # type: ignore[operator]
    assert [type(method) for method in (*twice.methods, *twice.within)] == [Nested, CFG, Wrapped]


class Nested:
    """A method that composes one that composes one."""

    id = "nested"

    def __call__(self, process: Process) -> Process:
        return process | Wrapped(2.0)  # type: ignore[operator]


def test_a_models_own_guidance_stays_away_where_a_method_composed_one() -> None:
    model = sf.load("emoji")
    for scale in (1.0, 2.0):
        made = (model.process("cat face", stages=1) | Wrapped(scale)).resolved()
        assert [away.at(0.5) for away in made.aways] == [scale]


def test_two_branches_of_one_name_are_refused_when_composed() -> None:
    given = process(named("linear")) | CFG(2.0)
    with pytest.raises(SfumatoError, match="branch 'away': there already is one"):
        given.add(aways=(Branch("away", Cond(), 3.0),))
    both = replace(given, aways=given.aways * 2)
    with pytest.raises(SfumatoError, match="branch 'away': there already is one"):
        both.begin()


def test_a_positive_set_that_is_silent_at_some_time_is_one_line() -> None:
    given = process(named("linear")).add(positives=(Branch("late", Cond(), late),))
    with pytest.raises(SfumatoError, match=r"no positive one gives x0 at t = 0\.4"):
        given.sample()
    apart = process(named("linear")).add(positives=(Branch("half", Cond(), role="x0"),))
    with pytest.raises(SfumatoError, match="no positive one gives eps at t"):
        apart.sample()


def test_the_bundled_cascades_plan_is_what_it_makes() -> None:
    picture = Image.new("RGB", (40, 30), "white")
    model = sf.load("emoji")
    for method in (None, SDEdit(picture, t0=0.5), Inpaint(picture, extend=(4, 0, 4, 0))):
        for chosen in ("dpmpp-2m", "heun"):
            given: Any = model.process("cat face", steps=3, size=32, solver=chosen)
            given = given if method is None else given | method
            result = given.sample()
            assert given.calls == result.calls


def test_a_planned_run_reads_pictures_but_no_start_needs_a_network() -> None:
    given = process(named("linear")) | DiffStyler(PIXELS, t_start=0.5, art="none")
    run, network = given.plan().run, given.denoiser.network
    assert (run.planned, run.times[0], network.calls) == (True, 0.5, 0)  # type: ignore[attr-defined]
    assert run.before == given.begin().run.before == network.calls  # type: ignore[attr-defined]


def test_sde_without_noise_is_deterministic_and_goes_both_ways() -> None:
    """eta 0 is dpmpp-2m, also from 0 upwards, where log(alpha/sigma) is infinite."""
    quiet = solver({"solver": "dpmpp-2m-sde", "eta": 0.0})
    assert not quiet.stochastic
    paths = [
        torch.stack(process(named("linear"), solver=chosen).invert(PIXELS[None], t=0.8))
        for chosen in (quiet, "dpmpp-2m")
    ]
    torch.testing.assert_close(*paths, rtol=1e-4, atol=1e-5)
