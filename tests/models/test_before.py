"""Recipes that earlier versions wrote make the same pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sfumato as sf

HERE = Path(__file__).parents[1]
BESIDE = HERE.parents[1] / "shared" / "recipes-before"
FOLDER = BESIDE if BESIDE.is_dir() else HERE / "fixtures" / "before"
MOST = 2  # of 255: float32 kernels differ between processors, and group norms are exact since


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.png")), ids=lambda file: file.stem)
def test_a_recipe_of_before_makes_the_same_picture(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SFUMATO_HOME", str(tmp_path))
    was = np.asarray(Image.open(file).convert("RGB"), dtype=int)
    with caplog.at_level("INFO", "sfumato"):
        (image,) = sf.run(file).images
    assert "recipe of sfumato 0.1.0: since 0.2.0 group norms are exact" in caplog.text
    assert np.abs(np.asarray(image.convert("RGB"), dtype=int) - was).max() <= MOST
