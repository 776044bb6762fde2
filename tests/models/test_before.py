"""Recipes that earlier versions wrote make the same pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sfumato as sf
from sfumato.models.replay import read_recipe

HERE = Path(__file__).parents[1]
BESIDE = HERE.parents[1] / "shared" / "recipes-before"
FOLDERS = (BESIDE if BESIDE.is_dir() else HERE / "fixtures" / "before", HERE / "fixtures" / "made")
FILES = [file for folder in FOLDERS for file in sorted(folder.glob("*.png"))]
MOST = 2  # of 255: float32 kernels differ between processors, and group norms are exact since


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_a_recipe_of_before_is_run_again(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With the weights that it names the same picture, with others a picture and a line."""
    monkeypatch.setenv("SFUMATO_HOME", str(tmp_path))
    versions = read_recipe(file).versions
    with caplog.at_level("INFO", "sfumato"):
        (image,) = sf.run(file).images
    if versions["sfumato"] == "0.1.0":
        assert "recipe of sfumato 0.1.0: since 0.2.0 group norms are exact" in caplog.text
    if versions["weights"] != f"sha256 {sf.load('emoji').weights}":
        assert "weights of emoji differ from those recorded" in caplog.text
        return
    was = np.asarray(Image.open(file).convert("RGB"), dtype=int)
    assert np.abs(np.asarray(image.convert("RGB"), dtype=int) - was).max() <= MOST
