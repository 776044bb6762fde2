"""Details of the promises in docs/decisions that nothing else would notice if they broke."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from torch import Tensor

import sfumato as sf
from conformance.sdedit import gaussian
from sfumato.core.errors import SfumatoError
from sfumato.core.mixture import Branch
from sfumato.core.noise import Seeded, Tape
from sfumato.core.schedule import VE, VP, linear, squared_cosine
from sfumato.core.solvers import variances
from sfumato.core.spaces import UNIT
from sfumato.models import devices
from sfumato.models.cascade import Cascade, Walk
from sfumato.recipe import store

TABLE = linear()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SFUMATO_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="module")
def model() -> sf.Model:
    return sf.load("emoji", dtype="float32")


def process(**values: Any) -> sf.Process:
    made = {"n_steps": 8, "solver": "ddim"}
    return sf.Process(gaussian(TABLE, 0.25), (1, 1, 400), **{**made, **values})


# --- the loop


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

    through = "input"
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
        through = "model"

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
            through = "input"

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


# --- methods


def test_threshold_knows_the_range_of_pixels_in_the_state() -> None:
    made = sf.Process(gaussian(TABLE, 4.0), (1, 1, 400), space=UNIT, n_steps=4, solver="ddim")
    x = [step.x for step in (made | sf.Threshold("static")).steps()][-1]
    assert (float(x.min()), float(x.max())) == (0, 1)


def test_start_level_one_noises_the_guide_under_reference() -> None:
    guide = torch.full((1, 1, 400), 3.0)
    plain = next(iter((process() | sf.SDEdit(guide, t0=1)).steps()))
    noised = next(iter((process() | sf.SDEdit(guide, t0=1, composite="reference")).steps()))
    assert torch.equal(plain.x, Seeded(0).draw("prior", 0, 0, plain.x))
    start = Seeded(0).draw("start", 0, 0, plain.x)
    assert torch.allclose(noised.x, TABLE.alpha(1) * guide + TABLE.sigma(1) * start, atol=1e-6)


@pytest.mark.parametrize(("solver", "purpose"), [("ddpm", "step"), ("ddim", "start")])
def test_noise_of_the_kept_part_follows_the_solver(solver: str, purpose: str) -> None:
    guide, mask = torch.zeros(1, 1, 400), torch.zeros(1, 1, 400)
    mask[..., :10] = 1
    made = process(solver=solver) | sf.SDEdit(guide, t0=0.8, mask=mask)
    step = list(made.steps(seed=3))[2]
    drawn = Seeded(3).draw(purpose, 2 if purpose == "step" else 0, 0, step.x)
    kept = (step.x / TABLE.sigma(step.s))[..., 10:]
    assert torch.allclose(kept, drawn[..., 10:], atol=1e-5)


def test_match_colour_takes_the_edited_part_alone() -> None:
    guide = torch.cat([torch.full((1, 1, 200), 0.5), torch.full((1, 1, 200), -0.5)], -1)
    mask = (guide > 0).float()
    edit = sf.SDEdit(guide, t0=0.9, mask=mask, match_colour=True)
    x = (process() | edit).sample()[0]
    assert float(x[guide > 0].mean()) == pytest.approx(0.5, abs=1e-4)
    assert torch.equal(x[guide < 0], guide[guide < 0])


def test_rescaled_guidance_keeps_the_spread_of_x0() -> None:
    def network(x: Tensor, time: Tensor, cond: Any) -> Tensor:
        return x * cond["c"].reshape(-1, 1, 1, 1)

    made = sf.Process(
        sf.Denoiser(network, TABLE, kind="x0"),
        (1, 1, 400),
        cond=sf.Cond({"c": torch.tensor([[0.5]])}),
        null=sf.Cond({"c": torch.tensor([[0.1]])}),
        spacing=(0.5, 0.4),
        solver="ddim",
    )

    def spread(method: Any) -> float:
        *_, last = (made | method).steps(seed=0)
        assert last.pred is not None
        return float(last.pred.x0.std())

    plain = spread(sf.CFG(1))
    assert spread(sf.CFG(5)) > 2 * plain
    assert spread(sf.CFG(5, rescale=1)) == pytest.approx(plain, rel=1e-4)


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


# --- the package


def test_a_method_file_may_be_the_first_thing_imported() -> None:
    for first in ("sfumato.methods.sdedit", "sfumato.images", "sfumato.cli.main"):
        program = f"import {first}, sfumato; assert sfumato.SDEdit and sfumato.CFG"
        subprocess.run([sys.executable, "-c", program], check=True)


# --- the bundled model and its recipes


def test_negative_prompt_steers_and_is_recorded(model: sf.Model) -> None:
    plain = model.process("red apple", steps=2, stages=1).sample()
    other = model.process("red apple", negative="red heart", steps=2, stages=1).sample()
    assert (np.asarray(plain.images[0]) != np.asarray(other.images[0])).any()
    assert other.recipe.negative == "red heart"
    assert "Negative prompt: red heart" in other.recipe.parameters()


def test_stages_have_their_own_noise_and_rows(model: sf.Model) -> None:
    cascade = model.process("red apple", n=2, steps=1)
    assert isinstance(cascade, Cascade)
    with torch.no_grad():
        walk = Walk(cascade, 5, None)
        steps = list(walk.steps())
    assert walk.loops[0].run.noise == Seeded(5, 0)
    assert walk.loops[1].run.noise == Seeded(5, 1)
    low = walk.loops[1].run.process.cond
    assert low is not None
    assert low["low_res"].shape == (2, 3, 32, 32)
    assert walk.loops[2].run.noise == Seeded(5, 2)
    assert steps[-1].x.shape == (2, 3, 256, 256)
    assert not torch.equal(low["low_res"][0], low["low_res"][1])


def test_transparency_stays_as_it_was(model: sf.Model) -> None:
    image = PIL.Image.new("RGBA", (32, 32), (200, 30, 30, 255))
    image.putalpha(PIL.Image.linear_gradient("L").resize((32, 32)))
    mask = PIL.Image.new("L", (32, 32), 255)
    edit = sf.SDEdit(image, t0=0.3, mask=mask)
    made = (model.process("x", steps=1, stages=1) | edit).sample().images[0]
    assert (np.asarray(made.getchannel("A")) == np.asarray(image.getchannel("A"))).all()


def test_inputs_are_checked_against_their_hash(home: Path, tmp_path: Path) -> None:
    assert store.keep(b"picture")
    digest = "0" * 64
    stored = home / "store" / digest[:2] / digest
    stored.parent.mkdir(parents=True)
    stored.write_bytes(b"another")
    with pytest.raises(SfumatoError, match="put it there"):
        store.fetch(digest, "a.png", {digest: store.encoded(b"other")}, [tmp_path])


def test_the_store_is_bounded(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "STORE_BYTES", 2500)
    for k in range(5):
        assert store.keep(bytes([k]) * 1000)
    kept = [f for f in (home / "store").glob("*/*") if f.is_file()]
    assert 1 <= len(kept) <= 2
    assert kept[0].read_bytes()[0] >= 0
    assert any(f.read_bytes() == bytes([4]) * 1000 for f in kept), "the newest stays"


def test_replay_takes_the_recorded_dtype_and_warns_of_other_weights(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = sf.load("emoji", dtype="float32")
    result = model.process("rose", steps=2, stages=1).sample()
    again = sf.run(result.recipe)
    assert again.recipe.run["dtype"] == "float32"
    assert not caplog.records or "weights" not in caplog.text
    sf.run(replace(result.recipe, versions={"weights": "sha256 0"}))
    assert "weights of emoji differ" in caplog.text


def test_devices_are_taken_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_available", lambda kind: kind in ("mps", "cpu"))
    assert devices.choose().device == "mps"
    assert devices.choose(device="cpu").device == "cpu"
    with pytest.raises(SfumatoError, match="not available"):
        devices.choose(device="cuda")


def test_presets_set_fields_and_given_values_win() -> None:
    guide = torch.zeros(1, 1, 1)
    assert sf.SDEdit.preset("compositing", image=guide).t0 == 0.35
    assert sf.SDEdit.preset("compositing", image=guide, t0=0.2).t0 == 0.2
