"""What differs between the families of diffusers' pipelines: guidance, tokens, pictures' sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sfumato.core.errors import SfumatoError
from sfumato.core.ranges import Range, real
from sfumato.methods import Method
from sfumato.methods.cfg import CFG
from sfumato.methods.distilled_guidance import DistilledGuidance

Task = Literal["text", "image", "inpaint"]
ENDINGS: Mapping[str, Task] = {
    "Img2ImgPipeline": "image",
    "InpaintPipeline": "inpaint",
    "Pipeline": "text",
}
"""How the names of classes end, and what they do."""


@dataclass(frozen=True)
class Family:
    """A family of pipelines.

    scale: "scale" is guidance above 1; "true" beside a scale that the network reads, where there is
    a negative prompt; "added" is what is added to 1. bracketed: whether brackets of a prompt weigh
    words here, which they do not there. packed: whether states are given as tokens. own_size:
    whether image to image works at the picture's own size; else, and to inpaint, at the model's.
    """

    name: str
    scale: Literal["scale", "true", "added"] = "scale"
    bracketed: bool = True
    packed: bool = False
    own_size: bool = False

    def guidance(
        self, given: Mapping[str, Any], guided: bool, distilled: bool
    ) -> tuple[list[Method], bool]:
        """What guides a run, and whether a negative prompt is read.

        guided: whether one is given. distilled: whether the network reads a scale.
        """
        scale = given["guidance_scale"]
        if self.scale == "added":
            added = _scale(scale, "guidance_scale")
            return [CFG(1 + added)], added > 0
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
        Family("StableDiffusion", own_size=True),
        Family("StableDiffusionXL", own_size=True),
        Family("StableDiffusion3"),
        Family("Flux", "true", packed=True),
        Family("QwenImage", "true", bracketed=False, packed=True),
        Family("ZImage", "added", bracketed=False),
    )
}
TRANSFORMERS: Mapping[str, str] = {
    "FluxTransformer2DModel": "Flux",
    "QwenImageTransformer2DModel": "QwenImage",
    "SD3Transformer2DModel": "StableDiffusion3",
    "ZImageTransformer2DModel": "ZImage",
}


def split(pipeline: str) -> tuple[str, Task]:
    """Family and task of a class's name."""
    ending = next(end for end in ENDINGS if pipeline.endswith(end))
    return pipeline.removesuffix(ending), ENDINGS[ending]


def family_of(classes: Mapping[str, str]) -> str | None:
    """Family of the pipeline whose parts have these classes; None of one that is not here."""
    kind = classes["_class_name"]
    if "transformer" in classes:
        found = TRANSFORMERS.get(classes["transformer"])
        tuned = ("Kontext", "Fill", "Edit", "Layered", "Control", "Omni")
        return None if any(word in kind for word in tuned) else found
    if classes.get("unet") != "UNet2DConditionModel":
        return None
    return "StableDiffusionXL" if "text_encoder_2" in classes else "StableDiffusion"
