"""One model of each family, loaded once: what works on one is tried on all."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

import sfumato as sf
from helpers import pipelines

FAMILIES = ("emoji", "sd1", "sd2-v", "sdxl")
"""The bundled model, and tiny pipelines with random weights."""
PROMPTS = {"emoji": ("red apple, 3d render", "green apple, 3d render")}
PLACE = TemporaryDirectory()  # until the tests end


@cache
def pipeline(kind: str) -> Path:
    """The folder of its tiny pipeline, for tests that leave it as it is."""
    folder = Path(PLACE.name) / kind
    stable = kind.startswith(("sd1", "sd2", "sdxl"))
    make = pipelines.stable if stable else pipelines.flow
    make(folder, kind)
    return folder / "pipeline"


@cache
def family(kind: str) -> sf.Model:
    """Its model in float32."""
    if kind == "emoji":
        return sf.load("emoji", dtype="float32")
    return sf.load(str(pipeline(kind)), dtype="float32")


def bundled() -> sf.Model:
    return family("emoji")


def upsampling(model: sf.Model) -> list[int]:
    """Steps of each upsampler of a cascade by its card."""
    return [stage.defaults.steps or 0 for stage in model.card.upsamplers]


def prompts(kind: str) -> tuple[str, str]:
    """Two prompts that differ in a word."""
    return PROMPTS.get(kind, ("red cat", "red car"))


def process(kind: str, prompt: str | None = None, **given: Any) -> Any:
    """A short process of its first prompt, without upsamplers."""
    text = prompts(kind)[0] if prompt is None else prompt
    return family(kind).process(text, **{"steps": 4, "stages": 1, **given})


def last(made: Any, seed: int = 5) -> Tensor:
    """The last state of a run."""
    with torch.no_grad():
        *_, step = made.steps(seed=seed)
    x: Tensor = step.x
    return x


def picture(kind: str, seed: int = 1) -> Tensor:
    """A state (C, h, w) that the model itself drew."""
    return last(process(kind, size=family(kind).card.native), seed)[0]
