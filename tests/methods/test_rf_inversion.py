"""RF inversion: the way up ends at a noise of its own, the way back is held to the picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

import sfumato as sf
from helpers import gaussians
from helpers.pictures import photo


def guide() -> torch.Tensor:
    return torch.linspace(-1, 1, 400).view(1, 1, 400)


def states(method: sf.RFInversion, **options: int) -> list[torch.Tensor]:
    process = gaussians.process(**options) | method
    return [step.x for step in process.steps(seed=2)]


def test_wholly_drawn_it_ends_at_the_noise() -> None:
    """gamma = 1: the start is alpha x + sigma y of the run's own noise y."""
    start = states(sf.RFInversion(guide(), gamma=1.0, eta=0.0))[0]
    process = gaussians.process()
    schedule = process.denoiser.schedule
    noise = process.begin(2).run.noise.draw("prior", 0, 0, guide()[None])
    wanted = schedule.alpha(1.0) * guide() + schedule.sigma(1.0) * noise
    torch.testing.assert_close(start, wanted, atol=1e-4, rtol=1e-4)


def test_wholly_held_it_is_the_picture() -> None:
    """eta = 1 at all times."""
    last = states(sf.RFInversion(guide(), eta=1.0, window=(0.0, 1.0)))[-1]
    torch.testing.assert_close(last, guide()[None], atol=1e-4, rtol=0)


def test_neither_is_an_inversion_and_its_way_back() -> None:
    last = states(sf.RFInversion(guide(), gamma=0.0, eta=0.0), n_steps=200)[-1]
    assert float((last - guide()).abs().max()) < 0.05


def test_a_longer_hold_keeps_more() -> None:
    gaps = [
        float((states(sf.RFInversion(guide(), eta=0.8, window=(low, 1.0)))[-1] - guide()).std())
        for low in (0.9, 0.5, 0.1)
    ]
    assert gaps == sorted(gaps, reverse=True)


def test_each_picture_of_a_batch_has_its_noise_and_is_made_again(tmp_path: Path) -> None:
    model = sf.load("emoji")
    file = tmp_path / "guide.png"
    photo().save(file)
    method = sf.RFInversion(file, eta=0.5)
    process = model.process("red apple", steps=4, stages=1, n=2) | method
    result = process.sample(seed=1)
    first, second = (np.asarray(image) for image in result.images)
    assert np.abs(first.astype(int) - second).max() > 8
    assert [process.calls] == result.recipe.run["calls"]
    path = result.save(tmp_path / "made.png")[1]
    assert sf.run(path).images[0].tobytes() == result.images[1].tobytes()
