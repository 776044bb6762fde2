"""What composing and running a process promises, on tiny exact networks."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from conformance.sdedit import gaussian
from sfumato.core.context import Call
from sfumato.core.denoiser import Cond, Denoiser, Prediction
from sfumato.core.errors import SfumatoError
from sfumato.core.guides import Guide
from sfumato.core.mixture import Branch
from sfumato.core.noise import Seeded
from sfumato.core.process import Process
from sfumato.core.schedule import VE, VP, Table, level, linear, ratio, squared_cosine
from sfumato.core.solvers import DDIM, DDPM, solver
from sfumato.core.spacing import materialise
from sfumato.methods.cfg import CFG
from sfumato.methods.sdedit import SDEdit
from sfumato.methods.threshold import Threshold

TABLE = linear()


class Counting:
    """eps = mean of the condition, plus a little of x; counts calls and rows."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.times: list[float] = []

    def __call__(self, x: Tensor, time: Tensor, cond: Any) -> Tensor:
        self.rows.append(len(x))
        self.times.append(float(time[0]))
        shift = cond["c"].reshape(-1, 1, 1, 1) if "c" in cond else 0.0
        return 0.9 * x + 0.1 * torch.tanh(x + shift)


def process(network: Any = None, **values: Any) -> Process:
    made = {
        "cond": Cond({"c": torch.tensor([[1.0]])}),
        "null": Cond({"c": torch.tensor([[0.0]])}),
        "n_steps": 6,
        "solver": "ddim",
    }
    return Process(Denoiser(network or Counting(), TABLE), (3, 4, 4), **{**made, **values})


class Tint(Guide):
    """A user's own guide: pulls the channel means to zero, and counts."""

    through = "prediction"
    name = "tint"

    def logp(self, x: Tensor, pred: Prediction, call: Call) -> Tensor:
        return -(pred.x0.mean((2, 3)) ** 2 + 0.1 * x.mean((2, 3)) ** 2).sum(1)

    def edit(self, pred: Prediction, x: Tensor, call: Call) -> Prediction:
        return Prediction(pred.x0 * 1.01, pred.eps, pred.frac)

    def arrive(self, x: Tensor, t: float, call: Call) -> Tensor:
        return x * 0.999


@pytest.mark.parametrize("steps", [1, 2, 7, 50])
@pytest.mark.parametrize("t0", [0.01, 0.29, 0.57, 0.58, 1.0])
def test_steps_is_the_number_of_network_calls(steps: int, t0: float) -> None:
    network = Counting()
    made = process(network, n_steps=steps) | SDEdit(torch.zeros(3, 4, 4), t0=t0) | CFG(3)
    made.sample()
    assert len(network.rows) == steps == made.calls
    assert set(network.rows) == {2}  # guidance is one batch of both branches
    assert made.times[0] == t0
    assert len(made.times) == steps + 1


def test_t0_is_continuous() -> None:
    guide = torch.linspace(-1, 1, 48).reshape(3, 4, 4)
    a, b = ((process() | SDEdit(guide, t0=t0)).sample(seed=1) for t0 in (0.5, 0.5001))
    assert 0 < float((a - b).abs().max()) < 0.01


def test_t0_zero_returns_the_guide_without_a_call() -> None:
    network = Counting()
    guide = torch.randn(3, 4, 4)
    made = process(network) | SDEdit(guide, t0=0) | CFG(3)
    assert torch.equal(made.sample()[0], guide)
    assert network.rows == []
    assert made.calls == 0


def test_t0_one_starts_from_pure_noise() -> None:
    guides = [torch.full((3, 4, 4), value) for value in (-1.0, 1.0)]
    a, b = ((process() | SDEdit(guide, t0=1)).sample(seed=4) for guide in guides)
    assert torch.equal(a, b)
    assert torch.equal(a, process().sample(seed=4))


def test_composition_is_canonical() -> None:
    """SDEdit with a mask, guidance, a threshold and a user's guide, in every order of `|`."""
    guide = torch.linspace(-1, 1, 48).reshape(3, 4, 4)
    mask = (torch.arange(16).reshape(1, 4, 4) % 3 != 0).float()
    methods = [
        SDEdit(guide, t0=0.6, mask=mask),
        CFG(3, rescale=0.5, window=(0.1, 0.9)),
        Threshold("static"),
        Tint(),
    ]
    for kind in (DDIM(), DDPM()):
        results = []
        for order in itertools.permutations(methods):
            made = process(solver=kind, n=2)
            for method in order:
                made = made | method
            results.append(made.sample(seed=5))
        assert all(torch.equal(results[0], other) for other in results[1:])
        assert torch.isfinite(results[0]).all()


def test_kept_pixels_are_the_guide_at_the_end() -> None:
    guide = torch.linspace(-1, 1, 48).reshape(3, 4, 4)
    mask = (torch.arange(16).reshape(1, 4, 4) % 2).float()
    for kind in ("ddim", "ddpm", "dpmpp-2m"):
        x = (process(solver=kind) | SDEdit(guide, t0=0.6, mask=mask)).sample()[0]
        assert torch.equal(x[:, mask[0] == 0], guide[:, mask[0] == 0])
        assert not torch.equal(x[:, mask[0] == 1], guide[:, mask[0] == 1])


def test_soft_masks_blend_and_reference_edits_above_zero() -> None:
    guide = torch.zeros(3, 4, 4)
    results = {}
    for name, value in (("soft", 0.5), ("hard", 1.0)):
        for composite in ("level", "reference"):
            mask = torch.full((1, 4, 4), value)
            made = process() | SDEdit(guide, t0=0.9, mask=mask, composite=composite)
            results[name, composite] = made.sample(seed=2)
    assert torch.equal(results["soft", "reference"], results["hard", "reference"])
    soft, hard = results["soft", "level"].abs().mean(), results["hard", "level"].abs().mean()
    assert 0 < soft < 0.8 * hard


def test_noise_does_not_depend_on_the_batch() -> None:
    like = torch.empty(8, 3, 4, 4)
    whole = Seeded(11).draw("step", 3, 0, like)
    for j in range(8):
        alone = Seeded(11 + j).draw("step", 3, 0, like[:1])
        assert torch.equal(whole[j], alone[0])
    assert torch.equal(whole.half(), Seeded(11).draw("step", 3, 0, like.half()))
    others = [
        Seeded(11).draw("step", 4, 0, like),
        Seeded(11).draw("start", 3, 0, like),
        Seeded(11, stage=1).draw("step", 3, 0, like),
        Seeded(11).draw("step", 3, 1, like),
    ]
    for other in others:
        assert abs(float((whole * other).mean())) < 0.2  # another key, independent noise


def test_pictures_do_not_depend_on_the_batch() -> None:
    whole = process(n=8, solver="ddpm").sample(seed=20)
    for j in range(8):
        alone = process(solver="ddpm").sample(seed=20 + j)
        assert float((whole[j] - alone[0]).abs().max()) < 1 / 255


def test_reusing_the_seed_of_the_input_gives_other_noise() -> None:
    """The input's own start noise must not come back as the noise it is edited with."""
    made = process(solver="ddpm")
    generated = [step.x for step in made.steps(seed=9)]
    edited = made | SDEdit(generated[-1][0], t0=0.5)
    start = next(iter(edited.steps(seed=9))).x
    t = 0.5
    noise = (start - TABLE.alpha(t) * generated[-1]) / TABLE.sigma(t)
    assert torch.equal(generated[0], Seeded(9).draw("prior", 0, 0, start))
    assert abs(float((noise * generated[0]).mean())) < 0.5


def test_second_method_of_a_slot_names_the_way_out() -> None:
    made = process() | CFG(3)
    with pytest.raises(SfumatoError, match=r"process\.without\('cfg'\)"):
        made | CFG(4)
    with pytest.raises(SfumatoError, match=r"process\.without\('sdedit'\)"):
        process() | SDEdit(torch.zeros(3, 4, 4)) | SDEdit(torch.zeros(3, 4, 4))


def test_without_refolds() -> None:
    guide = torch.zeros(3, 4, 4)
    a = (process() | SDEdit(guide, t0=0.5) | CFG(3) | Tint()).without("cfg")
    b = process() | SDEdit(guide, t0=0.5) | Tint()
    assert torch.equal(a.sample(), b.sample())
    assert [type(m).__name__ for m in a.methods] == ["SDEdit", "Tint"]
    with pytest.raises(SfumatoError, match="ilvr"):
        a.without("ilvr")


def test_guidance_formula_window_and_switch_off() -> None:
    plain = process().sample()
    assert torch.equal((process() | CFG(1)).sample(), plain)
    network = Counting()
    (process(network) | CFG(3, window=(0.4, 1.0))).sample()
    assert network.rows == [2, 2, 2, 2, 1, 1]  # times 1, 5/6, 4/6, 3/6 are inside
    null = process(cond=Cond({"c": torch.tensor([[0.0]])})).sample()
    assert torch.allclose((process() | CFG(0)).sample(), null, atol=1e-6)


def test_branches_with_their_own_denoiser_and_role() -> None:
    other = Denoiser(Counting(), squared_cosine(), kind="v")
    network = Counting()
    made = process(network).add(
        positives=(
            Branch("own", weight=lambda t: 0.5),
            Branch("other", weight=0.5, denoiser=other),
        )
    )
    assert made.calls == 12
    made.sample()
    assert len(network.rows) == 6
    seen = [(i + 1) / 1000 for i in other.network.times]  # type: ignore[attr-defined]
    for mine, theirs in zip(made.times, seen, strict=False):
        assert ratio(TABLE, mine) == pytest.approx(ratio(squared_cosine(), theirs), rel=1e-3)
    split = process().add(
        positives=(Branch("a", role="x0"), Branch("b", role="eps", cond=process().null))
    )
    loop = split.begin()
    assert loop.steering is not None
    mixture = loop.steering.mixture
    assert not mixture.tied
    x = torch.randn(1, 3, 4, 4)
    parts = mixture.parts(x, 0.5, loop.run.call(0, 0.5, 0.4))
    mixed = mixture.mix(parts, 0.5)
    assert torch.equal(mixed.x0, parts["a"].x0)
    assert torch.equal(mixed.eps, parts["b"].eps)


def test_conditions_that_change_with_the_step() -> None:
    seen = []

    def cond(call: Call) -> Cond:
        seen.append(call.t)
        return Cond({"c": torch.tensor([[call.t]])})

    made = process().add(positives=(Branch("positive", cond=cond),)) | CFG(2)
    made.sample()
    assert seen == list(made.times[:-1])


def test_rows_max_splits_without_changing_the_result() -> None:
    network = Counting()
    whole = (process(n=4) | CFG(3)).sample()
    split = (process(network, n=4, rows_max=3) | CFG(3)).sample()
    assert network.rows[:3] == [3, 3, 2]
    assert torch.allclose(whole, split, atol=1e-6)


def test_gradients_flow_through_steps() -> None:
    x = torch.randn(1, 3, 4, 4, requires_grad=True)
    *_, last = process().steps(x)
    (grad,) = torch.autograd.grad(last.x.sum(), x)
    assert float(grad.abs().sum()) > 0
    *_, cut = process().steps(x, detach=True)
    assert cut.x.grad_fn is None or not torch.autograd.grad(cut.x.sum(), x, allow_unused=True)[0]
    assert process().sample().grad_fn is None


def test_steps_yields_the_start_then_every_transition() -> None:
    steps = list((process() | SDEdit(torch.zeros(3, 4, 4), t0=0.6, repeats=2)).steps())
    assert [step.i for step in steps] == list(range(-1, 13))
    assert steps[7].pred is None  # the move back up
    assert (steps[7].t, steps[7].s) == (0, 0.6)
    assert [step.calls for step in steps[-2:]] == [11, 12]


@pytest.mark.parametrize("schedule", [TABLE, squared_cosine(), VP(), VE()])
def test_schedules_invert_their_ratio(schedule: Any) -> None:
    for t in (1e-4, 0.001, 0.0173, 0.3, 0.5, 0.77, 0.999, 1.0):
        assert schedule.at(ratio(schedule, t)) == pytest.approx(t, abs=1e-9)
    assert schedule.alpha(0) == 1
    assert schedule.sigma(0) == 0
    assert schedule.at(0) == 0


def test_schedule_numbers_of_the_paper() -> None:
    assert TABLE.alpha(0.5) ** 2 == pytest.approx(0.0785872, abs=1e-7)
    assert VP().alpha(0.5) ** 2 == pytest.approx(0.07906, abs=1e-5)
    assert VE(sigma_max=348).sigma(0.5) == pytest.approx(1.865, abs=1e-3)
    assert VE(sigma_max=380).sigma(0.3) == pytest.approx(0.237, abs=1e-3)
    assert squared_cosine().alpha(0.5) ** 2 == pytest.approx(0.493844, abs=1e-6)


def test_start_level_in_three_units() -> None:
    guide = torch.zeros(3, 4, 4)
    t = 0.37
    units = {"t0": t, "ratio": ratio(TABLE, t), "alpha_bar": TABLE.alpha(t) ** 2}
    for name, value in units.items():
        assert (process() | SDEdit(guide, **{name: value})).times[0] == pytest.approx(t, abs=1e-9)
    with pytest.raises(SfumatoError, match="t0 and ratio"):
        SDEdit(guide, t0=0.5, ratio=1.0)
    assert level(VE(), ratio=1.8655) == pytest.approx(0.5, abs=1e-3)


def test_a_level_and_explicit_times_agree_or_are_refused() -> None:
    guide, times = torch.zeros(3, 4, 4), (0.37, 0.2, 0.0)
    given = process(n_steps=None, spacing=times)
    for start in (SDEdit(guide), SDEdit(guide, t0=0.37), SDEdit(guide, ratio=ratio(TABLE, 0.37))):
        assert (given | start).times == times
    assert given.times == times
    for t0 in (0.0, 0.36, 1.0):
        with pytest.raises(SfumatoError, match=rf"start level {t0:g}: .* begin at 0\.37"):
            _ = (given | SDEdit(guide, t0=t0)).times


def test_table_may_cover_a_part_of_time() -> None:
    table = Table((0.9, 0.5), (0.25, 0.5))
    assert table.alpha(0.5) ** 2 == pytest.approx(0.5)
    with pytest.raises(SfumatoError, match="covers"):
        table.alpha(0.6)
    with pytest.raises(SfumatoError, match="fall strictly"):
        Table((0.5, 0.9))


def test_spacings() -> None:
    assert materialise("uniform", 4, 0.8, TABLE) == pytest.approx((0.8, 0.6, 0.4, 0.2, 0))
    for name in ("karras", "logsnr"):
        times = materialise(name, 5, 0.8, TABLE)
        assert len(times) == 6
        assert times[0] == 0.8
        assert all(a > b for a, b in itertools.pairwise(times))
    logs = [
        torch.log(torch.tensor(ratio(TABLE, t))) for t in materialise("logsnr", 5, 0.8, TABLE)[:-1]
    ]
    gaps = [float(a - b) for a, b in itertools.pairwise(logs)]
    assert gaps == pytest.approx([gaps[0]] * 4, rel=1e-4)
    assert materialise("ddim10", None, 0.35, TABLE) == pytest.approx(
        (0.35, 0.301, 0.201, 0.101, 0.001, 0)
    )
    assert materialise((0.5, 0.2), None, 0.5, TABLE) == (0.5, 0.2)
    with pytest.raises(SfumatoError, match=r"start level 1: .* begin at 0\.5; leave the level out"):
        materialise((0.5, 0.2), None, 1.0, TABLE)
    with pytest.raises(SfumatoError, match="each fixes the steps"):
        materialise("27", 10, 1.0, TABLE)
    with pytest.raises(SfumatoError, match="no whole stride"):
        materialise("ddim300", None, 1.0, TABLE)
    with pytest.raises(SfumatoError, match="uniform"):
        materialise("fast", None, 1.0, TABLE)


def test_network_time_is_clamped_and_snapped() -> None:
    network = Counting()
    denoiser = Denoiser(network, TABLE)
    assert denoiser.time(0.5) == 499
    assert denoiser.time(0.1 + 0.2) == 299
    assert denoiser.time(0.0001) == 0
    assert denoiser.time(0.5005) == pytest.approx(499.5)


@pytest.mark.parametrize("kind", ["eps", "v", "x0", "edm"])
def test_parametrisations_agree(kind: str) -> None:
    """The same Gaussian law told in four ways."""
    v = 0.25

    def network(x: Tensor, time: Tensor, cond: Any) -> Tensor:
        t = 0.43
        a, s = TABLE.alpha(t), TABLE.sigma(t)
        if kind == "edm":
            r = s / a
            scale = (r * r + 0.25) ** 0.5
            state = x * scale
            x0 = v / (v + r * r) * state
            return (x0 - (0.5 / scale) ** 2 * state) / (r * 0.5 / scale)
        x0 = a * v / (a * a * v + s * s) * x
        eps = (x - a * x0) / s
        return {"eps": eps, "x0": x0, "v": a * eps - s * x0}[kind]

    x = torch.randn(2, 1, 4, 4, dtype=torch.float64)
    told = Denoiser(network, TABLE, kind=kind)(x, 0.43, Cond())  # type: ignore[arg-type]
    exact = gaussian(TABLE, v)(x, 0.43, Cond())
    assert torch.allclose(told.x0, exact.x0, atol=1e-7)
    assert torch.allclose(told.eps, exact.eps, atol=1e-7)


def test_learned_variance_at_the_last_transition() -> None:
    """The last transition takes the small variance of the pair before it (index 1 for index 0)."""

    def network(x: Tensor, time: Tensor, cond: Any) -> Tensor:
        return torch.cat([0.9 * x, torch.full_like(x, -1.0)], 1)  # fraction 0: the small one

    made = Process(
        Denoiser(network, TABLE, learned_range=True),
        (1, 1, 2000),
        spacing="10",
        solver=DDPM("learned", last_noise=True),
    )
    states = {step.i: step for step in made.steps(seed=1)}
    last = states[9]
    assert last.pred is not None
    spread = float((last.x - last.pred.x0).std())
    t1, t0 = made.times[8], made.times[9]
    large = TABLE.sigma(t1) ** 2 - (TABLE.alpha(t1) / TABLE.alpha(t0) * TABLE.sigma(t0)) ** 2
    small = large * (TABLE.sigma(t0) / TABLE.sigma(t1)) ** 2
    assert spread == pytest.approx(small**0.5, rel=0.1)


def test_solver_ids_and_options() -> None:
    assert solver({"solver": "ddim", "eta": 0.5}) == DDIM(0.5)
    for bad, words in (
        ("euler-z", "ddpm, ddim"),
        ({"solver": "ddim", "sigma": 1}, "no option 'sigma'"),
        ({"solver": "ddim", "eta": 2}, "eta"),
        ({"solver": "ddpm", "variance": "huge"}, "variance"),
    ):
        with pytest.raises(SfumatoError, match=words):
            solver(bad)  # type: ignore[arg-type]


def test_errors_of_a_run_are_clear() -> None:
    with pytest.raises(SfumatoError, match="steps"):
        process(n_steps=None).sample()
    with pytest.raises(SfumatoError, match="solver"):
        process(solver=None).sample()
    with pytest.raises(SfumatoError, match="stochastic"):
        process(solver="ddpm").invert(torch.zeros(1, 3, 4, 4))
    with pytest.raises(SfumatoError, match="null"):
        (process(null=None) | CFG(3)).sample()
    wrong = Tint()
    wrong.on = "nobody"
    with pytest.raises(SfumatoError, match="no branch 'nobody'"):
        (process() | wrong).sample()
    with pytest.raises(SfumatoError, match=r"sdedit: t0 = 1\.5"):
        SDEdit(torch.zeros(3, 4, 4), t0=1.5)


def test_match_colour_gives_the_guides_moments() -> None:
    guide = torch.stack([torch.full((4, 4), c) + 0.1 * torch.randn(4, 4) for c in (-0.5, 0.0, 0.5)])
    x = (process() | SDEdit(guide, t0=0.9, match_colour=True)).sample()[0]
    assert torch.allclose(x.mean((1, 2)), guide.mean((1, 2)), atol=1e-5)
    assert torch.allclose(x.std((1, 2)), guide.std((1, 2)), atol=1e-5)
