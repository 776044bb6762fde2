"""Model cards: what a model is, its files, and the defaults that fill a process's empty slots.

Data only, read from card.json or made from a released checkpoint's preset.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from sfumato.core.errors import SfumatoError
from sfumato.core.ranges import STEPS, Range
from sfumato.core.schedule import SCHEDULES
from sfumato.documents import read_json
from sfumato.models.inside import Name


@dataclass(frozen=True)
class Defaults:
    """Fill empty slots when a run begins. methods: recipe entries, such as {"method": "cfg"}."""

    steps: int | None = None
    solver: str | Mapping[str, Any] | None = None
    spacing: str | None = None
    methods: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class StageCard:
    """One network of a model.

    network: UNetConfig fields; schedule and table: its noise table; kind: parametrisation;
    factor: how much larger its output is than its low_res input (1 for a base). training: recipe,
    steps, pictures, minutes and measures, as the trainer wrote them.
    """

    network: Mapping[str, Any]
    weights: tuple[str, ...]
    schedule: str
    kind: str = "eps"
    table: int = 1000
    learned_range: bool = False
    tokenizer: str | None = None
    factor: int = 1
    defaults: Defaults = field(default_factory=Defaults)
    training: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Card:
    """native: (width, height) of the base; multiple: sides it takes; maximum: longest work side.

    template: applied to a prompt that names none of `styles`. clip, classifier: the networks beside
    it, as training exports describe them; adapters: names and files.
    """

    name: str
    base: StageCard
    native: tuple[int, int]
    multiple: int
    maximum: int
    title: str = ""
    about: str = ""
    licence: str = ""
    template: str = "{prompt}"
    styles: tuple[str, ...] = ()
    defaults: Defaults = field(default_factory=Defaults)
    upsamplers: tuple[StageCard, ...] = ()
    clip: Mapping[str, Any] | None = None
    classifier: Mapping[str, Any] | None = None
    adapters: Mapping[str, str] = field(default_factory=dict)

    def factor(self, stages: int) -> int:
        """Size of the result of so many stages over the base's."""
        return math.prod(stage.factor for stage in self.upsamplers[: stages - 1])

    def full_prompt(self, prompt: str) -> str:
        """The prompt with the card's template, unless it names a style, is empty, or has it."""
        low = prompt.lower()
        named = (style in low or says(prompt, style) for style in self.styles)
        if not prompt.strip() or any(named):
            return prompt
        before, _, after = self.template.partition("{prompt}")
        if before + after and prompt.startswith(before) and prompt.endswith(after):
            return prompt
        return f"{before}{prompt}{after}"

    def adapter_of(self, prompt: str) -> str | None:
        """The adapter whose name, words of a style, the prompt says; None where none is."""
        return next((name for name in self.adapters if says(prompt, name)), None)


def says(prompt: str, words: str) -> bool:
    """Whether a part of the prompt has the words in their order: "ink drawing" in "ink line
    drawing", but not in "ink bottle, pencil drawing"."""
    wanted = [re.compile(rf"\b{re.escape(word)}\b") for word in words.lower().split()]
    return any(_in_order(part, wanted) for part in prompt.lower().split(","))


def _in_order(text: str, wanted: Sequence[re.Pattern[str]]) -> bool:
    """Whether each pattern is found behind the one before; one walk through the text."""
    end = 0
    for pattern in wanted:
        found = pattern.search(text, end)
        if found is None:
            return False
        end = found.end()
    return True


def read(folder: Path) -> Card:
    """The card of a model folder."""
    path = folder / "card.json"
    if not path.exists():
        raise SfumatoError(f"{folder}: no card.json, so this is not a model folder")
    found = read_json(_Card, path)
    return found.made()


Count = Annotated[int, Range(1, 1 << 20)]
Side = Annotated[int, Range(1, 1 << 15)]
Text = Annotated[str, Field(max_length=20_000)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _Defaults(_Part):
    steps: Annotated[int, STEPS] | None = None
    solver: str | dict[str, Any] | None = None
    spacing: str | None = None
    methods: Annotated[tuple[dict[str, Any], ...], Field(max_length=32)] = ()

    def made(self) -> Defaults:
        return Defaults(self.steps, self.solver, self.spacing, self.methods)


class _Network(_Part):
    """UNetConfig, as a card may say it."""

    in_channels: Annotated[int, Range(1, 64)] = 3
    model_channels: Annotated[int, Range(1, 4096)] = 128
    out_channels: Annotated[int, Range(1, 128)] = 6
    num_res_blocks: Annotated[int, Range(1, 32)] = 2
    attention_resolutions: Annotated[tuple[Count, ...], Field(max_length=16)] = ()
    dropout: Annotated[float, Range(0, 1)] = 0.0
    channel_mult: Annotated[
        tuple[Annotated[float, Range(gt=0, le=64)], ...], Field(min_length=1, max_length=12)
    ] = (1, 2, 4, 8)
    conv_resample: bool = True
    num_classes: Count | None = None
    num_heads: Annotated[int, Range(-1, 1024)] = 1
    num_head_channels: Annotated[int, Range(-1, 4096)] = -1
    num_heads_upsample: Annotated[int, Range(-1, 1024)] = -1
    use_scale_shift_norm: bool = False
    resblock_updown: bool = False
    use_new_attention_order: bool = False
    text_ctx: Annotated[int, Range(0, 4096)] = 0
    xf_width: Annotated[int, Range(0, 16384)] = 0
    xf_layers: Annotated[int, Range(0, 256)] = 0
    xf_heads: Annotated[int, Range(1, 1024)] = 1
    xf_final_ln: bool = False
    xf_padding: bool = False
    n_vocab: Annotated[int, Range(0, 1 << 20)] = 0
    low_res: bool = False
    inpaint: bool = False
    bands: dict[str, Any] | None = None


def _schedule(name: str) -> str:
    if name not in SCHEDULES:
        raise ValueError(f"must be one of {', '.join(SCHEDULES)}")
    return name


class _Stage(_Part):
    network: _Network
    weights: Annotated[tuple[Name, ...], Field(min_length=1, max_length=1000)]
    schedule: Annotated[str, AfterValidator(_schedule)]
    kind: Literal["eps", "v", "x0", "edm", "previous"] = "eps"
    table: Annotated[int, Range(2, 100_000)] = 1000
    learned_range: bool = False
    tokenizer: Name | None = None
    factor: Annotated[int, Range(1, 64)] = 1
    defaults: _Defaults = _Defaults()
    training: dict[str, Any] = {}

    def made(self) -> StageCard:
        given = {name: getattr(self, name) for name in _Stage.model_fields}
        given["network"] = self.network.model_dump(exclude_unset=True)
        given["defaults"] = self.defaults.made()
        return StageCard(**given)


class _Clip(BaseModel):
    """A noised CLIP or classifier; their networks' own fields are checked where they are made."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)
    tokenizer: Name | None = None
    weights: tuple[Name, ...] | None = None
    parts: dict[str, Name] | None = None
    clean: Name | None = None


class _Card(_Part):
    name: Text
    base: _Stage
    native: tuple[Side, Side]
    multiple: Annotated[int, Range(1, 4096)]
    maximum: Side
    title: Text = ""
    about: Text = ""
    licence: Text = ""
    template: Annotated[str, Field(max_length=2000)] = "{prompt}"
    styles: Annotated[
        tuple[Annotated[str, Field(max_length=200)], ...], Field(max_length=1000)
    ] = ()
    defaults: _Defaults = _Defaults()
    upsamplers: Annotated[tuple[_Stage, ...], Field(max_length=8)] = ()
    clip: _Clip | None = None
    classifier: _Clip | None = None
    adapters: dict[str, Name] = {}

    def made(self) -> Card:
        given = {name: getattr(self, name) for name in _Card.model_fields}
        given |= {"base": self.base.made(), "defaults": self.defaults.made()}
        given["upsamplers"] = tuple(stage.made() for stage in self.upsamplers)
        for name in ("clip", "classifier"):
            entry = getattr(self, name)
            given[name] = None if entry is None else entry.model_dump(exclude_unset=True)
        return Card(**given)
