"""InvokeAI's `invokeai_metadata`, of version 3 and later: one JSON object of what was asked for."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from sfumato.core.frame import SIDES
from sfumato.core.ranges import LENGTH, STEPS, Range
from sfumato.documents import parse_json
from sfumato.recipe.foreign.draft import Draft, Foreign, extras

Short = Annotated[str, Field(max_length=1000)]
Text = Annotated[str, Field(max_length=LENGTH)]


class Named(BaseModel):
    """A model by name, of which version 3 says model_name."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)

    name: Short | None = None
    model_name: Short | None = None

    @property
    def called(self) -> str | None:
        return self.name or self.model_name


class Lora(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", frozen=True, allow_inf_nan=False)

    model: Named | None = None
    lora: Named | None = None
    weight: Annotated[float, Range(-1000, 1000)] = 1.0

    @property
    def called(self) -> str | None:
        named = self.model or self.lora
        return None if named is None else named.called


class Metadata(BaseModel):
    """What is carried over; the rest is in model_extra."""

    model_config = ConfigDict(strict=True, extra="allow", frozen=True, allow_inf_nan=False)

    generation_mode: Short | None = None
    positive_prompt: Text | None = None
    negative_prompt: Text | None = None
    positive_style_prompt: Text | None = None
    negative_style_prompt: Text | None = None
    width: Annotated[int, SIDES] | None = None
    height: Annotated[int, SIDES] | None = None
    seed: Annotated[int, Range(0, 1 << 64)] | None = None
    cfg_scale: Annotated[float, Range(0, 100)] | None = None
    cfg_rescale_multiplier: Annotated[float, Range(0, 1)] | None = None
    guidance: Annotated[float, Range(0, 100)] | None = None
    steps: Annotated[int, STEPS] | None = None
    scheduler: Short | None = None
    model: Named | None = None
    loras: Annotated[list[Lora], Field(max_length=100)] | None = None
    strength: Annotated[float, Range(0, 1)] | None = None
    init_image: Short | None = None


QUIET = frozenset(
    {"app_version", "metadata_version", "rand_device", "ref_images", "canvas_v2_metadata"}
)


def read(text: str, where: str) -> Foreign:
    """Such a text."""
    data = parse_json(Metadata, text, where)
    draft = Draft("InvokeAI", where)
    draft.worded(data.positive_prompt or "", data.negative_prompt or "")
    if any("++" in words or "--" in words for words in (data.positive_prompt or "",)):
        draft.left.append("prompt: word++ and word-- are text here; (words:1.3) weighs them")
    for name, style, own in (
        ("positive_style_prompt", data.positive_style_prompt, data.positive_prompt),
        ("negative_style_prompt", data.negative_style_prompt, data.negative_prompt),
    ):
        if style and style != own:
            draft.leave(f"{name}:", style)
    draft.keep(steps=data.steps)
    if data.width is not None and data.height is not None:
        draft.keep(size=[data.width, data.height])
    draft.seeded(data.seed)
    draft.model(None if data.model is None else data.model.called)
    draft.guided(data.cfg_scale, data.cfg_rescale_multiplier or 0.0)
    if data.guidance is not None:
        draft.distilled(data.guidance)
    draft.sampled(data.scheduler)
    for lora in data.loras or ():
        if lora.called is None:
            draft.leave("a LoRA", "", "has no name and is not carried over")
        else:
            draft.adapter(lora.called, lora.weight)
    mode = data.generation_mode or "txt2img"
    if not mode.endswith("txt2img"):
        draft.began(data.init_image, data.strength)
    more: dict[str, Any] = dict(data.model_extra or {})
    extras(draft, more, QUIET)
    return draft.done()
