"""Losses as guides: what acts, what costs nothing, where it acts, what it needs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import sfumato as sf
from conformance.sdedit import gaussian
from helpers.losses import (
    CONTENT,
    DENOISER,
    TABLE,
    Backward,
    Source,
    last,
    process,
)
from sfumato.core.errors import SfumatoError
from sfumato.core.mixture import Branch
from sfumato.core.solvers import SOLVERS
from sfumato.methods import instruction, registry
from sfumato.methods.common.cutouts import boxes, cutouts, shrunk
from sfumato.methods.common.loss import Loss
from sfumato.methods.common.penalty import Penalty, View
from sfumato.methods.total_variation import variation


def counts(made: sf.Process) -> dict[str, int]:
    loop = made.begin()

    with torch.no_grad():
        list(loop.steps())
    return loop.run.counts


LOSSES: list[Loss] = [
    sf.Instruction(2.0, cutouts=2),
    sf.Instruction(2.0, form="cosine", prompt="a dog:2|cat:-0.5"),
    sf.Instruction(2.0, form="directional", source="photo", cutouts=2),
    sf.Instruction(2.0, form="angle", source="photo", cutouts=2),
    sf.Perceptual(5.0),
    sf.PatchNCE(1.0, positions=9),
    sf.Aesthetic(1.0, head="any"),
    sf.TotalVariation(20.0),
    sf.LowPass(20.0),
]


def test_every_loss_is_tried_here() -> None:
    known = {cls for cls in registry().values() if issubclass(cls, Loss)}
    assert {type(loss) for loss in LOSSES} == known


@pytest.mark.parametrize("through", ["network", "prediction"])
@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: getattr(loss, "form", loss.id))
def test_a_loss_falls_when_its_weight_rises(loss: Any, through: str) -> None:
    scores = []
    for weight in (1e-6, loss.weight / 5, loss.weight):
        step = last(process(n=2) | replace(loss, weight=weight, through=through))
        scores.append(float(step.scores[loss.id].mean()) / -weight)
    assert scores[0] > scores[1] > scores[2]


def test_a_better_rating_is_wanted() -> None:
    """The sign: the reference's program lowers it."""
    plain, source = last(process()), Source()
    rated = last(process() | sf.Aesthetic(1.0, head="any", cutouts=0))
    seen = [shrunk(step.x, 8) for step in (plain, rated)]
    before, after = (float(source.head(source.own_clip.image(x, x)).mean()) for x in seen)
    assert after > before + 0.1
    assert float(rated.scores["aesthetic"]) == pytest.approx(after, abs=0.1)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: getattr(loss, "form", loss.id))
def test_what_does_not_act_costs_nothing(loss: Any) -> None:
    """Weight 0, a window that is never met, a branch that is off: no look, no backward pass."""
    plain = last(process()).x
    made = process() | replace(loss, weight=0)
    assert torch.equal(last(made).x, plain)
    assert made.source.asked == []  # type: ignore[union-attr]
    away = process() | replace(loss, window=(0.9, 1.0))
    assert torch.equal(last(away).x, plain)
    assert counts(away).keys() <= {"features"}, "the content may be looked at, when a run is bound"
    assert away.source.own_clip.looks == 0  # type: ignore[union-attr]
    branches = (Branch("own"), Branch("off", weight=0.0))
    off = process().add(positives=branches) | replace(loss, on="off", through="network")
    Backward.tracked = False
    assert torch.equal(last(off).x, plain)
    assert not Backward.tracked
    assert counts(off).keys() <= {"features"}


def test_window_counts_the_steps_inside() -> None:
    made = process() | sf.TotalVariation(1.0, window=(0.3, 0.5))  # of 0.6, 0.45, 0.3, 0.15
    assert counts(made) == {"backward": 2}


def test_prediction_goes_back_through_no_network() -> None:
    """And its gradient in x is alpha times the loss's gradient in x0."""
    for through, most in (("network", 4), ("prediction", 0)):
        Backward.count = 0
        made = process() | sf.TotalVariation(30.0, through=through)  # type: ignore[arg-type]
        last(made)
        assert Backward.count == most, through
        Backward.count, Backward.tracked = 0, False
        list(made.steps())  # with gradients enabled
        assert Backward.count == most, through
        assert Backward.tracked == bool(most), through
    one = process(n_steps=1)
    plain = last(one).pred
    steered = last(one | sf.TotalVariation(30.0, through="prediction")).pred
    assert plain is not None
    assert steered is not None
    x0 = plain.x0.clone().requires_grad_()
    (slope,) = torch.autograd.grad(variation(x0).sum(), x0)
    moved = steered.x0 - plain.x0
    torch.testing.assert_close(moved, -30 * TABLE.sigma(0.6) ** 2 * slope, rtol=1e-4, atol=1e-6)


def test_losses_share_what_they_look_at() -> None:
    made = process() | sf.Perceptual(1.0) | sf.PatchNCE(1.0)
    assert counts(made) == {"features": 5, "backward": 4}  # the content's, and one a step
    both = process() | sf.Instruction(1.0, cutouts=3) | sf.Aesthetic(1.0, head="any", cutouts=3)
    assert counts(both) == {"clip": 12, "backward": 4}
    alone = process() | sf.Perceptual(1.0) | sf.PatchNCE(1.0, through="network")
    assert counts(alone) == {"features": 9, "backward": 4}


def test_the_gradient_is_the_sum_of_the_losses() -> None:
    """Looking together, and one gradient for both, change nothing but the cost."""
    one = process(n_steps=1)
    plain = last(one).x
    a, b = sf.Perceptual(3.0), sf.PatchNCE(2.0, positions=9)
    apart = sum(last(one | loss).x - plain for loss in (a, b))
    assert float(apart.abs().max()) > 0.1  # type: ignore[union-attr]
    torch.testing.assert_close(last(one | a | b).x - plain, apart, rtol=1e-3, atol=5e-4)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: getattr(loss, "form", loss.id))
def test_a_mask_leaves_the_rest_alone(loss: Any) -> None:
    mask = torch.zeros(1, 16, 16)
    mask[:, 4:10, 4:10] = 1
    one = process(n_steps=1)
    moved = last(one | replace(loss, mask=mask)).x - last(one).x
    assert float(moved.abs().max()) > 0
    moved[..., 4:10, 4:10] = 0
    assert float(moved.abs().max()) == 0


@pytest.mark.parametrize("fresh", [False, True])
def test_same_seed_same_picture_whatever_the_batch(fresh: bool) -> None:
    """Cutouts and positions are drawn for each picture by its own seed."""
    made = process(n=3) | sf.Instruction(2.0, cutouts=2, fresh=fresh)
    made = made | sf.PatchNCE(1.0, positions=9)
    whole = last(made, seed=4).x
    assert torch.equal(whole, last(made, seed=4).x)
    alone = last(made.based(n=1), seed=5).x
    torch.testing.assert_close(whole[1:2], alone, rtol=1e-4, atol=1e-5)
    assert float((whole[0] - whole[1]).abs().max()) > 1e-3


def test_cutouts_stay_through_a_run_unless_fresh() -> None:
    for fresh, different in ((False, 1), (True, 4)):
        eye = sf.Instruction(1.0, cutouts=2, fresh=fresh).eye(process().begin().run)
        run = process().begin().run
        found = {str(eye.boxes(torch.zeros(1, 3, 16, 16), run.call(i, 0.5, 0.4))) for i in range(4)}
        assert len(found) == different


def test_boxes_lie_inside_and_follow_the_power() -> None:
    uniform = torch.rand(200, 3, 3, generator=torch.Generator().manual_seed(0)).clamp_max(1 - 1e-6)
    sides = {}
    for power in (1.0, 4.0):
        found = [box for row in boxes(uniform, 26, 20, 8, power) for box in row]
        assert all(8 <= s <= 20 and 0 <= x <= 26 - s and 0 <= y <= 20 - s for s, x, y in found)
        assert {x for _, x, _ in found} >= set(range(10))
        sides[power] = np.mean([s for s, _, _ in found])
    assert sides[1.0] == pytest.approx(13.5, abs=0.5)
    assert sides[4.0] == pytest.approx(8 + 12 / 5 - 0.5, abs=0.5)
    pixels = torch.arange(2 * 3 * 6 * 6).reshape(2, 3, 6, 6).float()
    cut = cutouts(pixels, [((2, 1, 3),), ((2, 4, 0),)], 2)
    assert torch.equal(cut[0, 0], pixels[0, :, 3:5, 1:3])
    assert torch.equal(cut[0, 1], pixels[1, :, 0:2, 4:6])


def test_small_pictures_are_seen_whole() -> None:
    made = sf.Process(DENOISER, (3, 8, 8), n_steps=4, solver="ddim", source=Source(),
                      cond=sf.Cond(), prompt="cat")  # fmt: skip
    made = made | sf.SDEdit(torch.zeros(3, 8, 8)) | sf.Instruction(1.0, cutouts=8)
    assert counts(made) == {"clip": 4, "backward": 4}
    assert counts(process() | sf.Instruction(1.0, cutouts=0)) == {"clip": 4, "backward": 4}


# --- every parametrisation and solver


@pytest.mark.parametrize("kind", ["eps", "v", "x0"])
@pytest.mark.parametrize("through", ["network", "prediction"])
def test_parametrisations_are_steered_alike(kind: Any, through: Any) -> None:
    exact = gaussian(TABLE, 0.25)

    def told(x: Tensor, time: Tensor, cond: Any) -> Tensor:
        t = float(time[0].double())
        pred = exact(x, t, sf.Cond())
        v = TABLE.alpha(t) * pred.eps - TABLE.sigma(t) * pred.x0
        return {"eps": pred.eps, "v": v, "x0": pred.x0}[kind]

    results = []
    for denoiser in (exact, replace(exact, network=told, kind=kind)):
        made = sf.Process(denoiser, (1, 8, 8), n_steps=6, solver="ddim")
        start = torch.randn(2, 1, 8, 8, dtype=torch.float64)
        torch.manual_seed(0)
        made = made | sf.TotalVariation(5.0, through=through)
        *_, step = made.steps(torch.linspace(-1, 1, 64, dtype=torch.float64).view(1, 1, 8, 8) * 2)
        results.append(step.x.detach())
    assert torch.allclose(*results, atol=1e-6)
    assert start.shape[1:] == results[0].shape[1:]


@pytest.mark.parametrize("name", SOLVERS)
def test_every_solver_can_be_steered(name: str) -> None:
    made = sf.Process(gaussian(TABLE, 0.25), (3, 8, 8), n=8, n_steps=12, solver=name)
    plain, steered = (
        variation(way.sample(seed=1)).mean() for way in (made, made | sf.TotalVariation(60.0))
    )
    assert float(steered) < 0.9 * float(plain)


# --- prompts


def test_a_tail_is_a_weight_only_if_it_is_a_number() -> None:
    assert instruction.weighted("An oil painting: a dog") == [("An oil painting: a dog", 1.0)]
    assert instruction.weighted("a:2 | b:-.5|c") == [("a", 2.0), ("b", -0.5), ("c", 1.0)]
    assert instruction.weighted("to infinity:inf") == [("to infinity:inf", 1.0)]
    assert instruction.weighted("a:1e1") == [("a", 10.0)]


def test_negative_weights_push_away() -> None:
    vectors = F.normalize(torch.randn(2, 5), dim=1)
    mixed = instruction.mixed(vectors, [1.0, -0.5])
    torch.testing.assert_close(mixed[0], F.normalize(vectors[0] - 0.5 * vectors[1], dim=0))


def test_a_penalty_needs_no_method() -> None:
    """A user's own loss in three lines."""

    def redness(view: View) -> Tensor:
        return -view.pixels[:, 0].mean((1, 2))

    plain = last(process()).x[:, 0].mean()
    assert float(last(process() | Penalty(50.0, redness)).x[:, 0].mean()) > float(plain)


# --- what is missing is said in one line


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        (sf.Instruction(1.0, prompt=" "), "no text to steer to"),
        (sf.Instruction(1.0, prompt="a:1|b:-1"), "sum to 0"),
        (sf.Instruction(1.0, form="directional"), "needs source"),
        (sf.Aesthetic(1.0), "no head here; give head"),
        (sf.Perceptual(1.0, layers="fine,finest"), "no layer 'finest'; there are fine, coarse"),
        (sf.TotalVariation(1.0, on="art"), "no branch 'art'; there are mixture, positive"),
    ],
)
def test_what_is_missing_is_said(loss: Any, said: str) -> None:
    with pytest.raises(SfumatoError, match=said):
        last(process() | loss)


def test_a_model_without_help_says_so() -> None:
    bare = sf.Process(DENOISER, (3, 16, 16), n_steps=2, solver="ddim")
    for loss, said in (
        (sf.Instruction(1.0, prompt="cat"), "this model has no CLIP; give clip"),
        (sf.Perceptual(1.0, image=CONTENT), "lends no features; give features, a file of VGG19"),
        (sf.LowPass(1.0), "no content picture; give image, or begin from one"),
    ):
        with pytest.raises(SfumatoError, match=said):
            last(bare | loss)
    with pytest.raises(SfumatoError, match=r"total_variation: window = \(0\.5, 0\.2\)"):
        sf.TotalVariation(1.0, window=(0.5, 0.2))
    with pytest.raises(SfumatoError, match=r"process\.without\('low_pass'\)"):
        bare | sf.LowPass(1.0) | sf.LowPass(2.0)


def test_a_content_picture_of_its_own_sets_the_size() -> None:
    made = sf.Process(DENOISER, (3, 8, 8), n_steps=8, solver="ddim")
    far, near = (
        last(made | sf.LowPass(weight, image=CONTENT, factor=4, through="prediction")).x
        for weight in (1e-6, 100.0)
    )
    assert near.shape == (1, 3, 16, 16)
    assert float((near - CONTENT).square().mean()) < float((far - CONTENT).square().mean())
