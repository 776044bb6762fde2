"""Checks of the picture fixtures: the stroke simulator of SDEdit (arXiv 2108.01073, D.2)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import PIL
from PIL import Image
from torch import Tensor

from sfumato.images import strokes
from sfumato.images.stroke import median


def pixels(tensor: Tensor) -> np.ndarray[Any, Any]:
    """(3, H, W) to (H, W, 3) uint8."""
    return tensor.permute(1, 2, 0).contiguous().numpy().astype(np.uint8)


def check_stroke_simulator(case: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Median exact; palettes exact with the same Pillow, else as good as the stored ones."""
    image = Image.fromarray(pixels(tensors["image"]))
    window, smooth = case["median_size"], pixels(tensors["median"])
    assert np.array_equal(np.asarray(median(image, window)), smooth)
    told = re.search(r"Pillow (\d+)\.", case.get("source", ""))
    same = told is not None and PIL.__version__.startswith(f"{told[1]}.")
    for colors in case["colors"]:
        painted = np.asarray(strokes(image, colors, window))
        stored = pixels(tensors[f"stroke_{colors}"])
        if same:
            assert np.array_equal(painted, stored), f"{colors} colours"
        assert len(np.unique(painted.reshape(-1, 3), axis=0)) <= colors
        far = [np.abs(x.astype(float) - smooth).mean() for x in (painted, stored)]
        assert abs(far[0] - far[1]) <= 0.1 * far[1], f"{colors} colours"


KINDS = {"stroke-simulator": check_stroke_simulator}
