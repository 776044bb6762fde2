"""Values of wrong kinds given to the library, and errors that show values of any form."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import sfumato as sf
from sfumato.core.errors import SfumatoError
from sfumato.images.destination import Destination
from sfumato.images.picture import flattened

CLEAR = Image.new("RGBA", (4, 4))


def swept(**given: Any) -> None:
    process = sf.load("emoji").process("x", steps=1, stages=1)
    sf.sweep(process, **{"over": "cfg.scale=1,2", "folder": "x", **given})


WRONG: dict[str, Callable[[], Any]] = {
    "an array's text": lambda: sf.Aesthetic(weight=np.zeros((3, 3))),
    "a long word": lambda: sf.open_image("x" * 6000),
    "a long path": lambda: sf.open_image("a/" * 3000),
    "no memory": lambda: sf.open_image(torch.zeros(1, 3, 8, 8, device="meta")),
    "sparse": lambda: sf.open_image(torch.zeros(3, 4, 4).to_sparse()),
    "sparse times": lambda: sf.Recipe.from_data({"model": "x", "spacing": torch.ones(2)}),
    "no list": lambda: sf.sheet(5),  # type: ignore[arg-type]
    "a text": lambda: sf.sheet("a.png"),
    "no count": lambda: sf.sheet([np.zeros((4, 4))], columns="2"),  # type: ignore[arg-type]
    "no condition": lambda: sf.Cond([1]),  # type: ignore[arg-type]
    "no tensors": lambda: sf.Cond({"a": 1}),  # type: ignore[dict-item]
    "no device": lambda: sf.load(device=None),  # type: ignore[arg-type]
    "no dtype": lambda: sf.load(dtype=[]),  # type: ignore[arg-type]
    "no axis": lambda: sf.sweep(None, None, "x"),  # type: ignore[arg-type]
    "no prompts": lambda: sf.sweep(None, "steps=1,2", "x", prompts=5),  # type: ignore[arg-type]
    "no value to mark": lambda: swept(choose=np.zeros(0)),
    "a text to mark": lambda: swept(choose=""),
    "no folder": lambda: swept(folder=5),
    "no colour": lambda: sf.sheet([np.zeros((4, 4))], background=[1, 2]),  # type: ignore[arg-type]
    "no levels": lambda: sf.sheet([np.zeros((4, 4))], background=(1, 2, 300)),
    "no ink": lambda: sf.sheet([np.zeros((4, 4))], background="x" * 6000),
    "endless colour": lambda: flattened(CLEAR, f"rgb({'9' * 40},0,0)"),
    "no name": lambda: Destination.of("\ud800.png"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_value_is_one_line(kind: str) -> None:
    with pytest.raises(SfumatoError) as error:
        WRONG[kind]()
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 700


def test_an_error_acts_on_no_console() -> None:
    line = str(SfumatoError(f"{Path(chr(27))}[2J\u202e\r\n  x\x07"))
    assert line == "\\x1b[2J\\u202e x\\x07"
