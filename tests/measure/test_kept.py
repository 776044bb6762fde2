"""Folders of sweeps and comparisons that are gone on with hold pictures of their own recipes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

import sfumato as sf
from helpers.families import bundled
from sfumato.core.errors import SfumatoError


def process(**given: Any) -> Any:
    return bundled().process("red apple", stages=1, **{"steps": 2, **given})


def test_a_picture_of_another_recipe_is_not_measured(tmp_path: Path) -> None:
    def swept() -> Any:
        return sf.sweep(process(), "cfg.scale=1,3", tmp_path / "sweep", seeds=1)

    def compared() -> Any:
        ways = {"short": process(), "long": process(steps=3)}
        return sf.compare(ways, tmp_path / "compare", seeds=1)

    for make in (swept, compared):
        folder = make().folder / "pictures"
        first, second = sorted(folder.glob("*.png"))
        make()
        own = first.read_bytes()
        shutil.copy(second, first)
        differs = "methods" if make is swept else "steps"
        with pytest.raises(SfumatoError, match=rf"{first.name}: is a picture of another recipe"
                           rf" \({differs}\); remove it, or choose"):  # fmt: skip
            make()
        first.unlink()
        make()
        assert first.read_bytes() == own


def test_pictures_of_a_batch_do_not_stand_for_one_another(tmp_path: Path) -> None:
    def swept() -> Any:
        return sf.sweep(process(), "cfg.scale=1,3", tmp_path, seeds=2)

    first, second, *_ = sorted((swept().folder / "pictures").glob("*.png"))
    shutil.copy(second, first)
    with pytest.raises(SfumatoError, match="picture 1 of its batch"):
        swept()
