"""Inpainting, thresholds, temperature and the guides of CLIP and classifier."""

from __future__ import annotations

import itertools
import operator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torch import Tensor

import sfumato as sf
from helpers.families import upsampling
from sfumato.core.context import Call
from sfumato.core.denoiser import Cond, Denoiser, Prediction
from sfumato.core.errors import SfumatoError
from sfumato.core.guides import Guide
from sfumato.core.process import Process
from sfumato.core.schedule import squared_cosine
from sfumato.core.solvers import DDIM, DDPM
from sfumato.core.spacing import jumping
from sfumato.methods.cfg import Rescale
from sfumato.methods.clip_guidance import Agreement
from sfumato.methods.inpaint import Inpaint, Overwrite
from sfumato.methods.threshold import Clamp
from sfumato.nn.unet import UNet, UNetConfig

SCHEDULE = squared_cosine()


def test_jumps_visit_what_repaint_visits() -> None:
    """4570 transitions for 250 steps, stretches of 10, 10 walks; and a small case by hand."""
    times = tuple((250 - k) / 250 for k in range(251))
    path = jumping(times, 10, 10)
    assert len(path) - 1 == 4570
    assert path[0] == 1.0
    assert path[-1] == 0.0
    small = tuple(float(k) for k in range(6, -1, -1))  # levels 6 to 0
    assert jumping(small, 2, 2) == (6, 5, 4, 3, 4, 5, 4, 3, 2, 1, 2, 3, 2, 1, 0)
    assert jumping(small, 2, 1) == small


class Gaussian:
    """Exact denoiser of correlated pixels: x0 = a C V^-1 x, V = a^2 C + s^2 I, mean 0."""

    def __init__(self, covariance: Tensor) -> None:
        self.c = covariance

    def __call__(self, x: Tensor, time: Tensor, cond: Any) -> Tensor:
        t = (float(time[0]) + 1) / 1000
        a, s = SCHEDULE.alpha(t), SCHEDULE.sigma(t)
        v = a**2 * self.c + s**2 * torch.eye(len(self.c))
        x0 = a * x.flatten(1) @ torch.linalg.solve(v, self.c)
        return ((x.flatten(1) - a * x0) / s).view_as(x)


@pytest.mark.slow
def test_resampling_moves_the_replacement_towards_the_conditional() -> None:
    """Two pixels correlated 0.8, one kept at 1: the exact mean of the other is 0.8."""
    denoiser = Denoiser(Gaussian(torch.tensor([[1.0, 0.8], [0.8, 1.0]])), SCHEDULE)
    known, mask = torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[0.0, 1.0]]])
    means = []
    for resample in (1, 4, 12):
        process = Process(denoiser, (1, 1, 2), n=1500, n_steps=40, solver=DDPM(variance="large"))
        resampling = {"resample": resample, "stretch": 5} if resample > 1 else {}
        process = process | Inpaint(known, mask=mask, **resampling)
        made = process.sample(seed=3)
        assert torch.equal(made[:, 0, 0, 0], torch.ones(1500))
        means.append(float(made[:, 0, 0, 1].mean()))
    assert means[0] < 0.6
    assert means[0] < means[1] - 0.05
    assert means[1] < means[2] + 0.02
    assert means[2] == pytest.approx(0.8, abs=0.08)


def tuned() -> UNet:
    torch.manual_seed(0)
    net = UNet(UNetConfig(model_channels=32, channel_mult=(1, 2), num_res_blocks=1, inpaint=True))
    for parameter in net.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    return net.eval().requires_grad_(False)


def test_a_tuned_network_reads_the_known_pixels_and_keeps_them() -> None:
    seen: list[Cond] = []
    net = tuned()

    class Spy:
        config = net.config

        def __call__(self, x: Tensor, time: Tensor, cond: Any) -> Tensor:
            seen.append(cond)
            return net(x, time, cond)

    denoiser = Denoiser(Spy(), SCHEDULE, "v", learned_range=True)
    picture = torch.rand(3, 16, 16) * 2 - 1
    mask = torch.zeros(1, 16, 16)
    mask[:, 4:12, 4:12] = 1
    process = Process(denoiser, (3, 16, 16), n=2, n_steps=5, solver=DDIM())
    made = (process | Inpaint(picture, mask=mask)).sample(seed=0)
    assert seen[0]["inpaint_mask"].shape == (2, 1, 16, 16)
    assert torch.equal(seen[0]["inpaint_mask"][0], 1 - mask)
    assert torch.equal(seen[0]["inpaint_image"][0], picture * (1 - mask))
    keep = (mask == 0).expand(3, 16, 16)
    torch.testing.assert_close(made[0][keep], picture[keep], atol=1e-6, rtol=0)
    plain = (process | Inpaint(picture, mask=mask, network="plain")).sample(seed=0)
    assert "inpaint_mask" not in seen[-1]
    assert not torch.allclose(plain, made)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    image = Image.new("RGB", (96, 80), "white")
    ImageDraw.Draw(image).ellipse((20, 10, 76, 70), fill=(200, 40, 40))
    image.save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def masked(tmp_path: Path, box: tuple[int, int, int, int]) -> Path:
    mask = Image.new("L", (96, 80))
    ImageDraw.Draw(mask).rectangle(box, fill=255)
    mask.save(tmp_path / "mask.png")
    return tmp_path / "mask.png"


def test_outside_the_mask_every_bit_stays(photo: Path, tmp_path: Path) -> None:
    """On the bundled cascade, full stages, and what is inside does change."""
    mask = masked(tmp_path, (50, 40, 90, 76))
    model = sf.load("emoji", dtype="float32")
    made = (model.process("blue heart", steps=4) | Inpaint(photo, mask=mask)).sample(seed=2)
    before, after = np.asarray(sf.open_image(photo)), np.asarray(made.images[0])
    inside = np.asarray(Image.open(mask)) > 0
    assert after.shape == before.shape
    assert (after[~inside] == before[~inside]).all()
    assert (after[inside] != before[inside]).any()


def test_sdedit_and_inpainting_compose(photo: Path, tmp_path: Path) -> None:
    """The start comes from the one, what is kept from the other; the order does not matter."""
    mask = masked(tmp_path, (50, 40, 90, 76))
    model = sf.load("emoji", dtype="float32")
    inpaint, sdedit = Inpaint(photo, mask=mask), sf.SDEdit(photo, t0=0.5)
    base = model.process("blue heart", steps=4, stages=1)
    one, two = ((base | a | b).sample(seed=1) for a, b in ((inpaint, sdedit), (sdedit, inpaint)))
    assert one.images[0].tobytes() == two.images[0].tobytes()
    inside = np.asarray(Image.open(mask)) > 0
    before = np.asarray(sf.open_image(photo))
    assert (np.asarray(one.images[0])[~inside] == before[~inside]).all()
    Image.new("RGB", (40, 40), "red").save(tmp_path / "other.png")
    other = base | sf.SDEdit(tmp_path / "other.png", t0=0.5) | inpaint
    with pytest.raises(SfumatoError, match=r"96x80, the start's 40x40"):
        other.sample()


def test_outpainting_grows_the_picture_and_keeps_it(photo: Path) -> None:
    model = sf.load("emoji", dtype="float32")
    process = model.process("red apple", steps=3, stages=1) | Inpaint(photo, extend=(8, 0, 16, 4))
    made = process.sample(seed=0).images[0]
    assert made.size == (96 + 24, 80 + 4)
    inner = made.crop((8, 0, 104, 80))
    assert inner.tobytes() == sf.open_image(photo).tobytes()
    hidden = Image.open(photo).convert("RGBA")
    hidden.putalpha(Image.linear_gradient("L").resize(hidden.size))
    process = model.process("red apple", steps=3, stages=1) | Inpaint(hidden, extend=(8, 0, 16, 4))
    made = process.sample(seed=0).images[0]
    assert made.mode == "RGBA"
    assert made.crop((8, 0, 104, 80)).tobytes() == hidden.tobytes()
    assert made.getchannel("A").crop((0, 80, 120, 84)).getextrema() == (255, 255)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "nothing sets the part to draw"),
        ({"alpha_mask": True, "extend": (1, 1, 1, 1)}, "alpha_mask and extend each set"),
        ({"extend": (-1, 0, 0, 4)}, "must be 0 or more"),
    ],
)
def test_unclear_masks_are_refused(photo: Path, fields: dict[str, Any], message: str) -> None:
    process = sf.load("emoji").process("x", steps=2)
    with pytest.raises(SfumatoError, match=message):
        (process | Inpaint(photo, **fields)).sample()


def test_a_plain_network_cannot_be_tuned(photo: Path, tmp_path: Path) -> None:
    denoiser = Denoiser(lambda x, t, c: x, SCHEDULE)
    process = Process(denoiser, (3, 4, 4), n_steps=2, solver=DDIM())
    picture, mask = torch.zeros(3, 4, 4), torch.ones(1, 4, 4)
    with pytest.raises(SfumatoError, match="has no mask channels"):
        (process | Inpaint(picture, mask=mask, network="tuned")).sample()


def test_dynamic_threshold_scales_back_what_static_would_cut() -> None:
    """arXiv 2205.11487: s is at least 1, and the largest value that is kept lands on 1."""
    x0 = torch.linspace(-3, 3, 601).view(1, 1, 1, 601)
    made = Clamp(-1.0, 1.0, 0.9).dynamic(x0, 0.9)
    assert float(made.abs().max()) == pytest.approx(1.0)
    middle = x0.abs() < 2.7
    torch.testing.assert_close(made[middle], x0[middle] / 2.7, rtol=1e-3, atol=1e-3)
    inside = x0 / 10
    torch.testing.assert_close(Clamp(-1.0, 1.0, 0.9).dynamic(inside, 0.9), inside)
    both = torch.cat([x0, inside])
    torch.testing.assert_close(Clamp(-1.0, 1.0, 0.9).dynamic(both, 0.9)[1:], inside)


def test_temperature_scales_the_first_state_alone() -> None:
    process = Process(Denoiser(lambda x, t, c: x, SCHEDULE), (3, 4, 4), n_steps=3, solver=DDIM())
    plain = next(iter(process.steps(seed=5))).x
    cooled = next(iter((process | sf.Temperature(0.9)).steps(seed=5))).x
    torch.testing.assert_close(cooled, 0.9 * plain)


def test_clip_guidance_points_where_the_cosine_grows() -> None:
    """The score is the gradient of strength times the cosine; a clean CLIP looks at x0."""
    direction = torch.nn.functional.normalize(torch.randn(48), dim=0)

    def image(x: Tensor, index: Tensor) -> Tensor:
        looked.append((x, index))
        return torch.nn.functional.normalize(x.flatten(1), dim=1)

    looked: list[tuple[Tensor, Tensor]] = []
    process = Process(Denoiser(lambda x, t, c: 0.1 * x, SCHEDULE), (3, 4, 4), n=2, n_steps=4,
                      solver=DDIM())  # fmt: skip
    cosines = {}
    for strength in (0.0, 20.0):
        guide = Agreement(image, direction[None], SCHEDULE, strength)
        made = (process | guide).sample(seed=0)
        cosines[strength] = torch.nn.functional.cosine_similarity(made.flatten(1), direction[None])
    assert (cosines[20.0] > cosines[0.0] + 0.1).all()
    assert int(looked[0][1][0]) == 999
    clean = Agreement(image, direction[None], SCHEDULE, 20.0, noised=False)
    looked.clear()
    made = (process | clean).sample(seed=0)
    assert int(looked[0][1][0]) == 0
    assert (torch.nn.functional.cosine_similarity(made.flatten(1), direction[None]) > 0).all()


def test_guides_without_their_networks_say_so() -> None:
    process = Process(Denoiser(lambda x, t, c: x, SCHEDULE), (3, 4, 4), n_steps=2, solver=DDIM())
    for method in (sf.CLIPGuidance(1.0), sf.Classifier("ink")):
        with pytest.raises(SfumatoError, match="this model has no"):
            (process | method).sample()


def test_upscale_makes_any_picture_four_times_as_large(photo: Path) -> None:
    """Box-averaged back it is the picture, and the calls are those that were planned."""
    Image.open(photo).resize((48, 40), Image.Resampling.BOX).save(photo)
    model = sf.load("emoji", dtype="float32")
    process = model.process(n=2) | sf.Upscale(photo)
    assert process.calls == [0, 6]
    made = process.sample(seed=1)
    assert made.calls == [0, 6]
    assert [picture.size for picture in made.images] == [(192, 160)] * 2
    small = made.images[0].resize((48, 40), Image.Resampling.BOX)
    gap = np.abs(np.asarray(small, dtype=float) - np.asarray(sf.open_image(photo), dtype=float))
    assert gap.mean() < 3
    assert made.images[0].tobytes() != made.images[1].tobytes()
    factors = list(itertools.accumulate(model.factors, operator.mul))
    again = model.process(n=2) | sf.Upscale(photo, factor=factors[-1])
    assert again.calls == [0, *upsampling(model)]
    frame, _ = again.base.frame(again.base.start.place())
    assert frame.target == (48 * factors[-1], 40 * factors[-1])
    known = " or ".join(map(str, factors))
    with pytest.raises(SfumatoError, match=f"factor 3: this model makes {known}"):
        model.process() | sf.Upscale(photo, factor=3)
    with pytest.raises(SfumatoError, match="needs an upsampler"):
        model.process(stages=1) | sf.Upscale(photo)


def test_upscale_refuses_what_would_not_fit(tmp_path: Path) -> None:
    Image.new("RGB", (4000, 40)).save(tmp_path / "wide.png")
    process = sf.load("emoji").process() | sf.Upscale(tmp_path / "wide.png")
    with pytest.raises(SfumatoError, match=r"4000x40: its sides may be up to 1024 px"):
        process.sample()


def test_a_learned_log_variance_reaches_the_solver_through_every_edit() -> None:
    """Inpaint (told or not), guidance and thresholds change x0 and eps, never the variance."""

    class Net:
        config = UNetConfig(model_channels=32, channel_mult=(1,), inpaint=True)

        def __call__(self, x: Tensor, time: Tensor, cond: Any) -> Tensor:
            return torch.cat([0.1 * x, torch.full_like(x, -3.0)], dim=1)

    image, mask = torch.rand(3, 4, 4), torch.ones(1, 4, 4)
    mask[..., :2] = 0
    told = Inpaint(image, mask=mask)
    for methods in (
        (told,), (Inpaint(image, mask=mask, network="plain"),), (sf.CFG(3.0),),
        (sf.Threshold("dynamic"),), (told, sf.CFG(2.0), sf.Threshold("static")),
    ):  # fmt: skip
        words = {"label": torch.zeros(1, dtype=torch.int64)}
        process = Process(
            Denoiser(Net(), SCHEDULE, learned_log=True), (3, 4, 4), n=2, n_steps=4, solver=DDPM(),
            cond=Cond(words), null=Cond(words), guides=(Ones(),),
        )  # fmt: skip
        for method in methods:
            process = process | method
        loop = process.begin(noise=Silent())
        run = loop.run
        pred = loop.steering.begin(run.call(1, run.times[1], run.times[2]))
        found = pred(torch.rand(2, 3, 4, 4), run.times[1]).log_variance
        assert found is not None
        assert found.eq(-3.0).all()


@pytest.mark.parametrize("tied", [True, False])
def test_what_a_prediction_carries_outlives_the_known_part(tied: bool) -> None:
    """Also of a mixture whose x0 and eps come from branches of their own."""
    values = {name: torch.rand(2, 3, 4, 4) for name in ("x0", "eps", "frac", "grad")}
    pred = Prediction(**values, log_variance=torch.full((2, 3, 4, 4), -3.0))
    parts = {"positive": pred, "away": pred}
    none: Any = None
    call = Call(0.5, 0.4, 1, (1.0, 0.5, 0.4), SCHEDULE, 0, none, {}, tied, parts=parts)
    x = torch.rand(2, 3, 4, 4)
    known = Overwrite(torch.zeros(1, 3, 4, 4), torch.zeros(1, 1, 4, 4))
    for guide in (known, Rescale(0.7)):
        found = guide.edit(pred, x, call)
        assert found.frac is pred.frac
        assert found.grad is pred.grad
        assert found.log_variance is pred.log_variance


class Silent:
    """A noise source of zeros."""

    def draw(self, purpose: str, visit: int, evaluation: int, like: Tensor) -> Tensor:
        return torch.zeros_like(like)


class Ones(Guide):
    """A gradient of 1 everywhere."""

    name = "ones"
    through = "prediction"

    def logp(self, x: Tensor, pred: Any, call: Any) -> Tensor:
        return x.flatten(1).sum(1)
