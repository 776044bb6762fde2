"""A number that is given as 0 is given: it is no option that was left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner


def test_t0_of_0_is_the_picture_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, app: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.linear_gradient("L").resize((64, 64)).convert("RGB").save("strokes.png")
    words = ["sdedit", "strokes.png", "-p", "rose", "--t0", "0", "-o", "made.png"]
    assert CliRunner().invoke(app, words).exit_code == 0
    with Image.open("made.png") as made, Image.open("strokes.png") as strokes:
        assert made.tobytes() == strokes.tobytes()
