"""SDEdit with a map of start levels: each region goes as far as its grey says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import sfumato as sf
from helpers import gaussians
from helpers.pictures import photo


def grey(level: int, size: tuple[int, int] = (32, 32)) -> Image.Image:
    return Image.new("L", size, level)


def halves(left: int, right: int) -> Image.Image:
    picture = grey(left)
    picture.paste(right, (16, 0, 32, 32))
    return picture


@pytest.fixture(scope="module")
def model() -> sf.Model:
    return sf.load("emoji")


def drawn(model: sf.Model, method: sf.SDEdit, **options: Any) -> np.ndarray[Any, Any]:
    process = model.process("red apple", steps=6, stages=1, **options) | method
    return np.asarray(process.sample(seed=4).images[0])


@pytest.mark.parametrize("solver", ["ddim", "ddpm", "dpmpp-2m"])
def test_a_map_of_one_grey_is_that_level(model: sf.Model, solver: str) -> None:
    plain = drawn(model, sf.SDEdit(photo(), t0=153 / 255), solver=solver)
    mapped = drawn(model, sf.SDEdit(photo(), t0_map=grey(153)), solver=solver)
    np.testing.assert_array_equal(plain, mapped)
    scaled = drawn(model, sf.SDEdit(photo(), t0_map=grey(255), t0=153 / 255), solver=solver)
    np.testing.assert_array_equal(plain, scaled)


def test_black_is_kept_bit_for_bit_and_white_goes_far(model: sf.Model) -> None:
    before = np.asarray(photo())
    after = drawn(model, sf.SDEdit(photo(), t0_map=halves(0, 255), t0=0.9))
    np.testing.assert_array_equal(after[:, :16], before[:, :16])
    assert np.abs(after[:, 16:].astype(int) - before[:, 16:]).mean() > 8


def test_a_region_begins_at_the_time_that_is_not_below_its_level() -> None:
    """Until then its state is the guide at the state's own level, with the start's noise."""
    levels = torch.tensor([0.0, 0.3, 0.5, 1.0]).repeat(100).view(1, 1, 400)
    guide = torch.full((1, 1, 400), 0.7)
    process = gaussians.process(n_steps=4, spacing="uniform") | sf.SDEdit(guide, t0_map=levels)
    assert process.times == (1.0, 0.75, 0.5, 0.25, 0.0)
    states = {step.s: step.x for step in process.steps(seed=1) if step.i >= 0}
    schedule = process.denoiser.schedule
    for t, x in states.items():
        held = (x - schedule.alpha(t) * guide).flatten()[levels.flatten() <= t]
        spread = float(held.std())
        assert spread == pytest.approx(schedule.sigma(t), rel=0.2) if t else spread == 0


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"t0_map": grey(0)}, "nothing may change"),
        ({"t0_map": grey(9, (16, 16))}, "16x16, the picture is 32x32"),
        ({"t0_map": Image.new("RGB", (32, 32), "red")}, "is coloured"),
        ({"t0_map": Image.new("RGBA", (32, 32), (9, 9, 9, 9))}, "transparent"),
        ({"t0_map": grey(255), "mask": grey(255)}, "mask and t0_map"),
        ({"t0_map": grey(255), "composite": "reference"}, "composite"),
    ],
)
def test_what_is_no_map_is_refused(model: sf.Model, given: dict[str, Any], says: str) -> None:
    with pytest.raises(sf.SfumatoError, match=says):
        drawn(model, sf.SDEdit(photo(), **given))


def test_a_picture_of_a_map_is_made_again(model: sf.Model, tmp_path: Path) -> None:
    inputs = {"guide.png": photo(), "levels.png": halves(0, 200)}
    for name, picture in inputs.items():
        picture.save(tmp_path / name)
    method = sf.SDEdit(tmp_path / "guide.png", t0_map=tmp_path / "levels.png")
    result = (model.process("red apple", steps=4, stages=1) | method).sample(seed=2)
    path = result.save(tmp_path / "made.png")[0]
    assert sf.run(path).images[0].tobytes() == result.images[0].tobytes()
