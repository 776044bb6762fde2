"""The text `parameters` of A1111 and of those that write alike: Forge, SD.Next, Krita, Fooocus.

Prompt, "Negative prompt: ", and a last line of settings as `Key: value`, of which values with
commas are quoted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from sfumato.core.errors import SfumatoError
from sfumato.core.ranges import STEPS, Range
from sfumato.documents import parse_data
from sfumato.recipe.foreign.draft import Draft, Foreign, extras
from sfumato.recipe.foreign.samplers import is_number

NEGATIVE = "Negative prompt:"
LONGEST = 20_000  # characters of the line of settings
SETTING = re.compile(r'\s{0,9}(\w[\w \-/]{0,60}):\s{0,9}("(?:\\.|[^\\"])*"|[^,]*)(?:,|$)')
FIRST = re.compile(r"(?:^|, )Steps: *\S")
SIZE = re.compile(r"([0-9]{1,6})x([0-9]{1,6})")

Short = Annotated[str, Field(max_length=1000)]


class Settings(BaseModel):
    """The settings that are carried over."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True, allow_inf_nan=False)

    steps: Annotated[int, STEPS] | None = Field(None, validation_alias="Steps")
    sampler: Short | None = Field(None, validation_alias="Sampler")
    schedule: Short | None = Field(None, validation_alias="Schedule type")
    scheduler: Short | None = Field(None, validation_alias="Scheduler")  # Fooocus
    scale: Annotated[float, Range(0, 100)] | None = Field(None, validation_alias="CFG scale")
    distilled: Annotated[float, Range(0, 100)] | None = Field(
        None, validation_alias="Distilled CFG Scale"
    )
    seed: Annotated[int, Range(-1, 1 << 64)] | None = Field(None, validation_alias="Seed")
    size: Short | None = Field(None, validation_alias="Size")
    model: Short | None = Field(None, validation_alias="Model")
    strength: Annotated[float, Range(0, 1)] | None = Field(
        None, validation_alias="Denoising strength"
    )


TAKEN = frozenset(str(info.validation_alias) for info in Settings.model_fields.values())
QUIET = TAKEN | {
    "Emphasis", "Lora hashes", "Lora weights", "Model hash", "RNG", "Raw negative prompt",
    "Raw prompt", "TI hashes", "User", "VAE hash", "Version",
}  # fmt: skip
"""What says nothing of how the picture was made, or is read elsewhere."""
USUAL: Mapping[str, str] = {"Clip skip": "1", "VAE": "Automatic"}


def read(text: str, where: str) -> Foreign:
    """Such a text; refused where it has no line of settings."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").strip().split("\n")
    at = next((k for k in reversed(range(len(lines))) if FIRST.search(lines[k])), None)
    if at is None:
        raise SfumatoError(f"{where} have no settings: no line begins with Steps")
    if len(lines[at]) > LONGEST:
        raise SfumatoError(f"{where}: the line of settings is longer than {LONGEST:,} characters")
    raw = {key.strip(): _unquoted(value.strip()) for key, value in SETTING.findall(lines[at])}
    numbers = ("Steps", "CFG scale", "Distilled CFG Scale", "Seed", "Denoising strength")
    data = {key: _number(value) if key in numbers else value for key, value in raw.items()}
    settings = parse_data(Settings, data, where)
    words = lines[:at]
    cut = next((k for k, line in enumerate(words) if line.startswith(NEGATIVE)), len(words))
    prompt = "\n".join(words[:cut]).strip()
    negative = "\n".join(words[cut:]).removeprefix(NEGATIVE).strip()
    program = "Fooocus" if "Sharpness" in raw else "A1111"
    draft = Draft(program, where)
    draft.worded(prompt, negative)
    for name, scale in _loras(raw.get("Lora weights", "")):
        draft.adapter(name, scale)
    draft.keep(steps=settings.steps, size=_size(settings.size, where))
    draft.seeded(None if settings.seed == -1 else settings.seed)
    draft.model(settings.model)
    draft.guided(settings.scale)
    if settings.distilled is not None:
        draft.distilled(settings.distilled)
    draft.sampled(settings.sampler, settings.schedule or settings.scheduler)
    hires = any(key.startswith("Hires") for key in raw)
    if settings.strength is not None and not hires and settings.strength < 1:
        draft.began(None, settings.strength)
    elif settings.strength is not None and hires:
        draft.leave(
            "Denoising strength", settings.strength, "is of the enlarged pass, which is not"
        )
    plain = {key: value for key, value in raw.items() if USUAL.get(key) != value}
    extras(draft, plain, QUIET)
    return draft.done()


def _unquoted(value: str) -> str:
    if not (len(value) > 1 and value.startswith('"') and value.endswith('"')):
        return value
    try:
        inner: Any = json.loads(value)
    except ValueError:
        return value[1:-1]
    return inner if isinstance(inner, str) else value


def _number(text: str) -> Any:
    """An int or a float where the text is one; else the text, which its field refuses."""
    if not is_number(text) or len(text) > 40:
        return text
    return int(text) if re.fullmatch(r"[-+]?[0-9]+", text) else float(text)


def _size(text: str | None, where: str) -> list[int] | None:
    if text is None:
        return None
    if (sides := SIZE.fullmatch(text)) is None:
        raise SfumatoError(f"{where}: Size = {text!r:.60}: must be WIDTHxHEIGHT")
    return [int(sides[1]), int(sides[2])]


def _loras(text: str) -> list[tuple[str, float]]:
    """Fooocus's "name: weight, name: weight"."""
    pairs = [part.rpartition(": ") for part in text.split(", ") if part]
    return [(name, float(scale)) for name, _, scale in pairs if name and is_number(scale)]
