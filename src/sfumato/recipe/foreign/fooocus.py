"""Fooocus's `parameters` in its own scheme: one JSON object; its other scheme is A1111's."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from sfumato.core.errors import SfumatoError
from sfumato.core.ranges import LENGTH, STEPS, Range
from sfumato.documents import parse_json
from sfumato.recipe.foreign.draft import Draft, Foreign, extras
from sfumato.recipe.foreign.samplers import is_number

Short = Annotated[str, Field(max_length=1000)]
Text = Annotated[str, Field(max_length=LENGTH)]
Texts = Annotated[list[Text], Field(max_length=100)]
PAIR = re.compile(r"\(?\s*'?([0-9]{1,6})'?\s*,\s*'?([0-9]{1,6})'?\s*\)?")


class Metadata(BaseModel):
    """What is carried over; the rest is in model_extra."""

    model_config = ConfigDict(strict=True, extra="allow", frozen=True, allow_inf_nan=False)

    prompt: Text = ""
    negative_prompt: Text = ""
    full_prompt: Texts | Text | None = None
    full_negative_prompt: Texts | Text | None = None
    resolution: Short | None = None
    steps: Annotated[int, STEPS] | None = None
    guidance_scale: Annotated[float, Range(0, 100)] | None = None
    base_model: Short | None = None
    sampler: Short | None = None
    scheduler: Short | None = None
    seed: Short | Annotated[int, Range(0, 1 << 64)] | None = None
    loras: (
        Annotated[
            list[Annotated[list[Any], Field(min_length=2, max_length=4)]], Field(max_length=100)
        ]
        | None
    ) = None


QUIET = frozenset(
    {
        "base_model_hash", "created_by", "metadata_scheme", "performance", "prompt_expansion",
        "refiner_model_hash", "styles", "version",
    }
)  # fmt: skip
USUAL = {"vae": "Default (model)", "refiner_switch": None}


def read(text: str, where: str) -> Foreign:
    """Such a text."""
    data = parse_json(Metadata, text, where)
    draft = Draft("Fooocus", where)
    draft.worded(
        _joined(data.full_prompt, data.prompt),
        _joined(data.full_negative_prompt, data.negative_prompt),
    )
    if data.full_prompt is not None:
        draft.left.append("prompt: styles and expansion are in its words, read as one prompt")
    draft.keep(steps=data.steps, size=_size(data.resolution, where))
    seed = data.seed
    if isinstance(seed, str):
        if not re.fullmatch("[0-9]{1,20}", seed):
            raise SfumatoError(f"{where}: seed = {seed!r:.60}: must be a whole number")
        seed = int(seed)
    draft.seeded(seed)
    draft.model(data.base_model)
    draft.guided(data.guidance_scale)
    draft.sampled(data.sampler, data.scheduler)
    more = dict(data.model_extra or {})
    loras = [(lora[0], lora[1]) for lora in data.loras or ()] or _combined(more)
    for name, scale in loras:
        if not isinstance(name, str) or not isinstance(scale, int | float):
            raise SfumatoError(f"{where}: loras: each is a name and a weight")
        draft.adapter(name, float(scale))
    left = {key: value for key, value in more.items() if not key.startswith("lora_combined_")}
    left = {key: value for key, value in left.items() if key not in USUAL or value != USUAL[key]}
    extras(draft, left, QUIET)
    return draft.done()


def _joined(full: list[str] | str | None, own: str) -> str:
    """The words that the network was given, where they are said."""
    if not full:
        return own
    return full if isinstance(full, str) else ", ".join(full)


def _size(text: str | None, where: str) -> list[int] | None:
    if text is None:
        return None
    if (sides := PAIR.fullmatch(text)) is None:
        raise SfumatoError(f"{where}: resolution = {text!r:.60}: must be (WIDTH, HEIGHT)")
    return [int(sides[1]), int(sides[2])]


def _combined(more: dict[str, Any]) -> list[tuple[str, float]]:
    """Of entries such as "lora_combined_1": "name : 0.5"."""
    pairs = []
    for key, value in more.items():
        if key.startswith("lora_combined_") and isinstance(value, str):
            *_, name, scale = ["", *value.split(" : ")]
            if is_number(scale) and name not in ("", "None"):
                pairs.append((name, float(scale)))
    return pairs
