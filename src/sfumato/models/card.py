"""Model cards: what a model is, its files, and the defaults that fill a process's empty slots.

Data only, read from card.json or made from a released checkpoint's preset.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    JsonValue,
    Tag,
    model_validator,
)

from sfumato.core.errors import SfumatoError
from sfumato.core.ranges import STEPS, Range
from sfumato.core.schedule import SCHEDULES
from sfumato.core.solvers import solver
from sfumato.core.spacing import declared
from sfumato.documents import read_json
from sfumato.methods import from_data
from sfumato.models.files.inside import Name
from sfumato.recipe.names import HUB


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
class ClipCard:
    """A noised CLIP. network: CLIPConfig fields; parts: names of its halves and their files, or
    weights: files of the whole; schedule: its noise table, of network["steps"] entries."""

    network: Mapping[str, Any]
    tokenizer: str
    schedule: str
    weights: tuple[str, ...] = ()
    parts: Mapping[str, str] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class CleanClipCard:
    """A CLIP of transformers: a folder beside the weights, else one that was pulled as `name`."""

    clean: str
    name: str


@dataclass(frozen=True)
class ClassifierCard:
    """A noise-aware classifier. network: UNetConfig fields; classes: the names in each softmax."""

    network: Mapping[str, Any]
    size: int
    pool: Literal["attention", "adaptive", "spatial", "spatial_v2"]
    classes: Mapping[str, tuple[str, ...]]
    weights: tuple[str, ...]
    tokenizer: str | None = None
    schedule: str = "squaredcos_cap_v2"
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
    clip: ClipCard | CleanClipCard | None = None
    classifier: ClassifierCard | None = None
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
    return read_json(_Card, path).made()


Part = Literal["base", "upsampler", "clip", "classifier"]


def read_part(path: Path, part: Part) -> StageCard | ClipCard | ClassifierCard:
    """A part of a card on its own, as training exports it."""
    if part == "clip":
        return read_json(_Clip, path).made()
    if part == "classifier":
        return read_json(_Classifier, path).made()
    return read_json(_Stage, path).made()


Count = Annotated[int, Range(1, 1 << 20)]
Side = Annotated[int, Range(1, 1 << 15)]
Width = Annotated[int, Range(1, 16384)]
Layers = Annotated[int, Range(1, 256)]
Entries = Annotated[int, Range(2, 100_000)]
Text = Annotated[str, Field(max_length=20_000)]
Files = Annotated[tuple[Name, ...], Field(min_length=1, max_length=1000)]


def _schedule(name: str) -> str:
    if name not in SCHEDULES:
        raise ValueError(f"must be one of {', '.join(SCHEDULES)}")
    return name


def _read_by(read: Callable[[Any], object]) -> AfterValidator:
    """A value that is kept as it is, if it can be read."""

    def checked(given: Any) -> Any:
        try:
            read(given)
        except SfumatoError as error:
            raise ValueError(str(error)) from None  # which pydantic gives the field's name
        return given

    return AfterValidator(checked)


# by names of their own, since in the class its fields stand for the functions
Solved = Annotated[str | dict[str, Any], _read_by(solver)]
Spaced = Annotated[str, _read_by(declared)]
Entry = Annotated[dict[str, Any], _read_by(from_data)]


def _hub(name: str) -> str:
    if not HUB.fullmatch(name):
        raise ValueError("must be a name of the hub, such as org/name")
    return name


Schedule = Annotated[str, AfterValidator(_schedule)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class _Defaults(_Part):
    steps: Annotated[int, STEPS] | None = None
    solver: Solved | None = None
    spacing: Spaced | None = None
    methods: Annotated[tuple[Entry, ...], Field(max_length=32)] = ()

    def made(self) -> Defaults:
        return Defaults(self.steps, self.solver, self.spacing, self.methods)


class _Bands(_Part):
    """BandsConfig, as a card may say it."""

    low: Annotated[float, Range(gt=0, le=100)] = 2.0
    high: Annotated[float, Range(gt=0, le=100)] = 0.25
    schedule: Schedule = "squaredcos_cap_v2"
    table: Entries = 1000


class _Network(_Part):
    """UNetConfig, as a card may say it."""

    in_channels: Annotated[int, Range(1, 64)] = 3
    model_channels: Annotated[int, Range(1, 4096)] = 128
    out_channels: Annotated[int, Range(1, 4096)] = 6
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
    bands: _Bands | None = None

    @model_validator(mode="after")
    def _whole(self) -> _Network:
        if self.xf_width and self.xf_width % self.xf_heads:
            raise ValueError(
                f"xf_width {self.xf_width}: is no multiple of xf_heads {self.xf_heads}"
            )
        if self.xf_width and not (self.text_ctx and self.n_vocab):
            raise ValueError("text_ctx and n_vocab: must be given where xf_width is")
        return self


class _Stage(_Part):
    network: _Network
    weights: Files
    schedule: Schedule
    kind: Literal["eps", "v", "x0", "edm", "previous"] = "eps"
    table: Entries = 1000
    learned_range: bool = False
    tokenizer: Name | None = None
    factor: Annotated[int, Range(1, 64)] = 1
    defaults: _Defaults = _Defaults()
    training: dict[str, JsonValue] = {}

    @model_validator(mode="after")
    def _whole(self) -> _Stage:
        given, made = self.network.in_channels, self.network.out_channels
        if given != COLOURS or made != given * (2 if self.learned_range else 1):
            raise ValueError(
                f"network.in_channels {given}, out_channels {made}: must be 3 and, with "
                "learned_range, 6, else 3"
            )
        return self

    def made(self) -> StageCard:
        given = {name: getattr(self, name) for name in _Stage.model_fields}
        given["network"] = self.network.model_dump(exclude_unset=True)
        given["defaults"] = self.defaults.made()
        return StageCard(**given)


COLOURS = 3  # channels of a picture


class _ClipNetwork(_Part):
    """CLIPConfig, as a card may say it."""

    embedding: Width = 512
    head_width: Width = 64
    size: Annotated[int, Range(1, 4096)] = 64
    patch: Annotated[int, Range(1, 4096)] = 4
    image_width: Width = 768
    image_layers: Layers = 12
    text_width: Width = 512
    text_layers: Layers = 12
    context: Annotated[int, Range(3, 4096)] = 77
    vocabulary: Count = 65536
    steps: Entries = 1000
    logit_scale: Annotated[float, Range(gt=0, le=1e6)] = 100.0
    bands: _Bands | None = None
    text_head_width: Width | None = None


class _Clip(_Part):
    network: _ClipNetwork
    tokenizer: Name
    schedule: Schedule
    weights: Files | None = None
    parts: dict[Literal["image_encoder", "text_encoder"], Name] = {}
    training: dict[str, JsonValue] = {}

    @model_validator(mode="after")
    def _whole(self) -> _Clip:
        if (self.weights is None) != (len(self.parts) == 2):
            raise ValueError("weights: must be given, or parts with image_encoder and text_encoder")
        return self

    def made(self) -> ClipCard:
        given = {name: getattr(self, name) for name in _Clip.model_fields}
        given["network"] = self.network.model_dump(exclude_unset=True)
        return ClipCard(**{**given, "weights": self.weights or ()})


class _CleanClip(_Part):
    clean: Name
    name: Annotated[str, AfterValidator(_hub)]

    def made(self) -> CleanClipCard:
        return CleanClipCard(self.clean, self.name)


class _Classifier(_Part):
    network: _Network
    size: Annotated[int, Range(1, 4096)]
    pool: Literal["attention", "adaptive", "spatial", "spatial_v2"]
    classes: Annotated[
        dict[Text, Annotated[tuple[Text, ...], Field(min_length=1, max_length=4096)]],
        Field(min_length=1, max_length=100),
    ]
    weights: Files
    tokenizer: Name | None = None
    schedule: Schedule = "squaredcos_cap_v2"
    training: dict[str, JsonValue] = {}

    @model_validator(mode="after")
    def _whole(self) -> _Classifier:
        named = sum(map(len, self.classes.values()))
        if named != self.network.out_channels:
            raise ValueError(
                f"classes: {named} names for {self.network.out_channels} outputs of the network"
            )
        return self

    def made(self) -> ClassifierCard:
        given = {name: getattr(self, name) for name in _Classifier.model_fields}
        given["network"] = self.network.model_dump(exclude_unset=True)
        return ClassifierCard(**given)


def _clip_kind(given: Any) -> str:
    clean = isinstance(given, Mapping) and "clean" in given
    return "clean" if clean or isinstance(given, _CleanClip) else "noised"


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
    clip: (
        Annotated[
            Annotated[_Clip, Tag("noised")] | Annotated[_CleanClip, Tag("clean")],
            Discriminator(_clip_kind),
        ]
        | None
    ) = None
    classifier: _Classifier | None = None
    adapters: dict[Text, Name] = {}

    @model_validator(mode="after")
    def _whole(self) -> _Card:
        network = self.base.network
        if bool(network.xf_width) != (self.base.tokenizer is not None):
            raise ValueError("base.tokenizer: must be given where the network reads text alone")
        if network.low_res or not all(stage.network.low_res for stage in self.upsamplers):
            raise ValueError("network.low_res: must be true of upsamplers and false of the base")
        return self

    def made(self) -> Card:
        given = {name: getattr(self, name) for name in _Card.model_fields}
        given |= {"base": self.base.made(), "defaults": self.defaults.made()}
        given["upsamplers"] = tuple(stage.made() for stage in self.upsamplers)
        for name in ("clip", "classifier"):
            entry = getattr(self, name)
            given[name] = None if entry is None else entry.made()
        return Card(**given)
