"""Every method on tiny flow models: it runs, or one line says why it does not."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import sfumato as sf
from helpers.clips import clip
from helpers.families import family
from helpers.pictures import mask_of, photo

FAMILIES = ("sd3", "flux-dev", "flux-schnell", "flux-fill", "flux-kontext", "flux2", "zimage",
            "qwen", "sana", "sana-euler")  # fmt: skip
BOX = (8, 8, 24, 32)  # whole tokens of every family's


def process(kind: str, **given: Any) -> Any:
    return family(kind).process("red cat", **{"size": 32, "steps": 4, **given})


def drawn(made: Any, seed: int = 3) -> torch.Tensor:
    """The last state; the run is what a program would make of it."""
    with torch.no_grad():
        *_, last = made.steps(seed=seed)
    x: torch.Tensor = last.x
    assert bool(torch.isfinite(x).all())
    return x


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(clip(tmp_path_factory.mktemp("clip")))


INSIDE = "no places inside|acts inside|places|taps"
"""What a method says that acts inside a network; flows let none in."""
RUNS = {
    "CFG": lambda clip: [sf.CFG(2.0)],
    "CLIPGuidance": lambda clip: [sf.CLIPGuidance(1.0, noised=False, clip=clip)],
    "DiffStyler": lambda clip: [
        sf.DiffStyler(photo(), art_prompt="ink", style=0.3, inversion="ddim", art="none")
    ],
    "FlowEdit": lambda clip: [sf.FlowEdit(photo(), source="a dog")],
    "ILVR": lambda clip: [sf.ILVR(photo(), factor=8)],
    "Inpaint": lambda clip: [sf.Inpaint(photo(), mask=mask_of(BOX))],
    "Instruction": lambda clip: [
        sf.SDEdit(photo(), t0=0.5), sf.Instruction(5.0, noised=False, clip=clip)
    ],
    "LowPass": lambda clip: [sf.SDEdit(photo(), t0=0.5), sf.LowPass(5.0, factor=8)],
    "NullText": lambda clip: [sf.NullText(photo(), inner=1), sf.CFG(2.0)],
    "RFInversion": lambda clip: [sf.RFInversion(photo())],
    "SDEdit": lambda clip: [sf.SDEdit(photo(), t0=0.5)],
    "SDG": lambda clip: [sf.SDG(photo(), weight=2.0, noised=False, clip=clip)],
    "Stego": lambda clip: [sf.Stego("at noon", key="elm", check=False)],
    "Temperature": lambda clip: [sf.Temperature(0.9)],
    "TotalVariation": lambda clip: [sf.TotalVariation(1.0)],
    "Gradient": lambda clip: [sf.TotalVariation(1.0), sf.Gradient(0.1)],
}  # fmt: skip
REFUSED: dict[str, tuple[Any, str]] = {
    "Aesthetic": (lambda clip: [sf.Aesthetic(1.0)], "head|aesthetic"),
    "Classifier": (lambda clip: [sf.Classifier("cat")], "classifier"),
    "DistilledGuidance": (lambda clip: [sf.DistilledGuidance(2.0)], "take cfg"),
    "Reference": (lambda clip: [sf.Reference(photo())], "reads no picture"),
    "Refine": (lambda clip: [sf.Refine(score=7.0)], "refine"),
    "Threshold": (lambda clip: [sf.Threshold()], "latents have no bounds|threshold"),
    "Variation": (lambda clip: [sf.Variation(photo())], "reads no picture's vector"),
    "DenseDiffusion": (
        lambda clip: [sf.DenseDiffusion(regions=(("red", 0, 0, 16, 16),))], INSIDE
    ),
    "PromptToPrompt": (lambda clip: [sf.PromptToPrompt(("red dog",))], INSIDE),
}  # fmt: skip
