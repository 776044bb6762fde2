"""Pictures, masks, and a run's pixels on recorded noise."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image as PILImage

from sfumato.core.noise import Tape


def photo(width: int = 32, height: int = 32) -> PILImage.Image:
    """A smooth picture with a disc."""
    y, x = np.mgrid[:height, :width]
    disc = (x - width / 2) ** 2 + (y - height / 2) ** 2 < (min(width, height) / 3) ** 2
    pixels = np.stack([x * 255 // width, y * 255 // height, np.where(disc, 220, 40)], -1)
    return PILImage.fromarray(pixels.astype(np.uint8))


def times_of(scheduler: Any, name: str, first: int = 0) -> tuple[float, ...]:
    """The times that a scheduler visits, as ours: table index k is (k + 1) / T."""
    indices = [int(t) for t in scheduler.timesteps]
    if name == "plms":  # the first step's second evaluation is listed as a step of its own
        indices = [indices[0], *indices[2:]] if len(indices) > 2 else indices
    steps = scheduler.config.num_train_timesteps
    last = 1 / steps if name in ("ddim", "plms") else 0.0  # set_alpha_to_one=False
    return (*((k + 1) / steps for k in indices[first:]), last)


def pixels_of(process: Any, noise: torch.Tensor) -> torch.Tensor:
    """Decoded pixels in [0, 1] of a run on recorded noise."""
    with torch.no_grad():
        loop = process.begin(noise=Tape({("prior", 0): noise, ("start", 0): noise}))

        *_, last = loop.steps()
        return (loop.run.decode(last.x) / 2 + 0.5).clamp(0, 1)


def mask_of(box: tuple[int, int, int, int], size: tuple[int, int] = (32, 32)) -> PILImage.Image:
    """White inside the box."""
    mask = PILImage.new("L", size, 0)
    mask.paste(255, box)
    return mask


def latents(generator: torch.Generator, *shape: int) -> torch.Tensor:
    """Noise of a tiny pipeline's state, of one picture of 32 px."""
    return torch.randn(*shape or (1, 4, 8, 8), generator=generator)


def close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    """That two programs drew the same picture, on which there is something."""
    assert ours.shape == theirs.shape
    assert float((ours - theirs).abs().max()) < 1e-4
    assert float(theirs.std()) > 0.02, "a picture of one colour would prove nothing"
