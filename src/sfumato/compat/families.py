"""What differs between the families of diffusers' pipelines: guidance, tokens, pictures' sizes."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sfumato.compat.signatures import CALLS
from sfumato.core.errors import SfumatoError
from sfumato.core.ranges import Range, real
from sfumato.methods import Method
from sfumato.methods.cfg import CFG
from sfumato.methods.distilled_guidance import DistilledGuidance

log = logging.getLogger("sfumato")

Task = Literal["text", "image", "inpaint"]
ENDINGS: Mapping[str, Task] = {
    "Img2ImgPipeline": "image",
    "InpaintPipeline": "inpaint",
    "Pipeline": "text",
}
"""How the names of classes end, and what they do."""
Scale = Literal["scale", "true", "added", "told"]
Sides = Literal["own", "kontext", "klein", "pixart", "sana", "hunyuan", "kandinsky"]


@dataclass(frozen=True)
class Family:
    """A family of pipelines.

    scale: "scale" is guidance above 1; "true" beside a scale that the network reads, where there is
    a negative prompt; "added" is what is added to 1; "told" is read by the network alone.
    bracketed: whether brackets of a prompt weigh words here, which they do not there. packed: cells
    to the side of a token as which states are given, 0 where they are given as they are. own_size:
    whether image to image works at the picture's own size; else, and to inpaint, at the model's.
    only: what its one pipeline does, whatever its class is called. sides: by whose rule a result's
    size becomes one to work at. reads: what the network reads beside text, or in place of it.
    full: noise is drawn in float32 whatever the network's type. pair: a tuple has a second value.
    """

    name: str
    scale: Scale = "scale"
    bracketed: bool = True
    packed: int = 0
    own_size: bool = False
    only: Task | None = None
    sides: Sides = "own"
    reads: Literal["reference", "vectors", "shown"] | None = None
    full: bool = False
    pair: bool = False

    def guidance(
        self, given: Mapping[str, Any], guided: bool, distilled: bool
    ) -> tuple[list[Method], bool]:
        """What guides a run, and whether a negative prompt is read.

        guided: whether one is given. distilled: whether the network reads a scale, or was taught
        to go without one.
        """
        scale = given["guidance_scale"]
        if self.scale == "added":
            added = _scale(scale, "guidance_scale")
            return [CFG(1 + added)], added > 0
        if self.scale == "told" or (self.scale == "scale" and distilled):
            told = _scale(scale, "guidance_scale")
            if self.sides == "klein":  # whose distilled network reads none
                if told > 1:
                    log.warning("guidance_scale: does nothing, this network was distilled")
                return [CFG(1.0)], False
            return [CFG(1.0), *([DistilledGuidance(told)] if distilled else [])], False
        if self.scale == "scale":
            scale = _scale(scale, "guidance_scale")
            return [CFG(scale if scale > 1 else 1.0)], scale > 1
        true = _scale(given["true_cfg_scale"], "true_cfg_scale")
        reads = true > 1 and guided
        if reads and self.name == "QwenImage":
            raise SfumatoError(
                "true_cfg_scale: with a negative prompt Qwen-Image's pipeline brings guided tokens "
                "back to their length, which is not done here; give true_cfg_scale=1"
            )
        methods: list[Method] = [CFG(true if reads else 1.0)]
        if distilled:
            methods.append(DistilledGuidance(_scale(scale, "guidance_scale")))
        return methods, reads


def _scale(value: Any, name: str) -> float:
    return real(value, name, Range(0, 99))


FAMILIES: Mapping[str, Family] = {
    family.name: family
    for family in (
        Family("StableDiffusion", own_size=True, pair=True),
        Family("StableDiffusionXL", own_size=True),
        Family("StableDiffusion3"),
        Family("Flux", "true", packed=2),
        Family("FluxFill", "told", packed=2, only="inpaint"),
        Family("FluxKontext", "true", packed=2, sides="kontext", reads="reference"),
        Family("Flux2Klein", bracketed=False, packed=1, sides="klein", reads="reference"),
        Family("HunyuanDiT", sides="hunyuan", pair=True),
        Family("KandinskyV22", sides="kandinsky", reads="vectors"),
        Family("LatentConsistencyModel", own_size=True, pair=True),
        Family("PixArtSigma", sides="pixart"),
        Family("QwenImage", "true", bracketed=False, packed=2),
        Family("Sana", bracketed=False, sides="sana", full=True),
        Family("SanaSprint", "told", bracketed=False, sides="sana", full=True),
        Family("StableUnCLIP", only="text", reads="shown"),
        Family("ZImage", "added", bracketed=False, full=True),
    )
}
TRANSFORMERS: Mapping[str, str] = {
    "FluxTransformer2DModel": "Flux",
    "QwenImageTransformer2DModel": "QwenImage",
    "SD3Transformer2DModel": "StableDiffusion3",
    "ZImageTransformer2DModel": "ZImage",
}
NAMED = (
    "Flux2Klein", "FluxFill", "FluxKontext", "HunyuanDiT", "KandinskyV22", "LatentConsistencyModel",
    "PixArtSigma", "Sana", "SanaSprint", "StableUnCLIP",
)  # fmt: skip
"""Families that a pipeline's class tells, and not its parts."""


def split(pipeline: str) -> tuple[str, Task]:
    """Family and task of a class's name."""
    ending = next(end for end in ENDINGS if pipeline.endswith(end))
    name = pipeline.removesuffix(ending)
    only = FAMILIES[name].only if name in FAMILIES else None
    return name, only or ENDINGS[ending]


def family_of(classes: Mapping[str, str]) -> str | None:
    """Family of the pipeline whose parts have these classes; None of one that is not here."""
    kind = classes["_class_name"]
    if kind in CALLS and split(kind)[0] in NAMED:
        return split(kind)[0]
    if "transformer" in classes:
        family = TRANSFORMERS.get(classes["transformer"])
        tuned = ("Kontext", "Fill", "Edit", "Layered", "Control", "Omni")
        return None if any(word in kind for word in tuned) else family
    if classes.get("unet") != "UNet2DConditionModel" or "vae" not in classes:
        return None
    if "image_normalizer" in classes:
        return None
    return "StableDiffusionXL" if "text_encoder_2" in classes else "StableDiffusion"


def pipeline_of(family: str, ending: str) -> str | None:
    """The class of a family for what a name's ending says; None where it has none."""
    wanted = ENDINGS[ending]
    own = [name for name in CALLS if split(name)[0] == family]
    by_name = family + ending
    if by_name in own and split(by_name)[1] == wanted:
        return by_name
    if FAMILIES[family].reads == "reference" and wanted == "image":  # which theirs take, too
        return own[0]
    return next((name for name in own if split(name)[1] == wanted), None)
