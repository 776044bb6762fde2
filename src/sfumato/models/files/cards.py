"""card.json as strict values: what a card may say, field by field.

What the values mean is in models.card.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
from sfumato.methods import from_data
from sfumato.models.files.inside import Name
from sfumato.recipe.names import HUB

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


def _readable_by(read: Callable[[Any], object]) -> AfterValidator:
    """A value that is kept as it is, if it can be read."""

    def checked(value: Any) -> Any:
        try:
            read(value)
        except SfumatoError as error:
            raise ValueError(str(error)) from None  # which pydantic gives the field's name
        return value

    return AfterValidator(checked)


# by names of their own, since in the class its fields stand for the functions
Solved = Annotated[str | dict[str, Any], _readable_by(solver)]
Spaced = Annotated[str, _readable_by(declared)]
Entry = Annotated[dict[str, Any], _readable_by(from_data)]


def _template(text: str) -> str:
    if text.count("{prompt}") != 1:
        raise ValueError("must hold {prompt} once, where the prompt goes")
    return text


def _hub(name: str) -> str:
    if not HUB.fullmatch(name):
        raise ValueError("must be a name of the hub, such as org/name")
    return name


Schedule = Annotated[str, AfterValidator(_schedule)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Defaults(_Part):
    steps: Annotated[int, STEPS] | None = None
    solver: Solved | None = None
    spacing: Spaced | None = None
    methods: Annotated[tuple[Entry, ...], Field(max_length=32)] = ()


class Bands(_Part):
    """BandsConfig, as a card may say it."""

    low: Annotated[float, Range(gt=0, le=100)] = 2.0
    high: Annotated[float, Range(gt=0, le=100)] = 0.25
    schedule: Schedule = "squaredcos_cap_v2"
    table: Entries = 1000


class Network(_Part):
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
    bands: Bands | None = None

    @model_validator(mode="after")
    def _check(self) -> Network:
        if self.xf_width and self.xf_width % self.xf_heads:
            raise ValueError(
                f"xf_width {self.xf_width}: is no multiple of xf_heads {self.xf_heads}"
            )
        if self.xf_width and not (self.text_ctx and self.n_vocab):
            raise ValueError("text_ctx and n_vocab: must be given where xf_width is")
        return self


class Stage(_Part):
    network: Network
    weights: Files
    schedule: Schedule
    kind: Literal["eps", "v", "x0", "edm", "previous"] = "eps"
    table: Entries = 1000
    learned_range: bool = False
    tokenizer: Name | None = None
    factor: Annotated[int, Range(1, 64)] = 1
    defaults: Defaults = Defaults()
    training: dict[str, JsonValue] = {}

    @model_validator(mode="after")
    def _check(self) -> Stage:
        inputs, outputs = self.network.in_channels, self.network.out_channels
        if inputs != COLOURS or outputs != inputs * (2 if self.learned_range else 1):
            raise ValueError(
                f"network.in_channels {inputs}, out_channels {outputs}: must be 3 and, with "
                "learned_range, 6, else 3"
            )
        return self


COLOURS = 3  # channels of a picture


class ClipNetwork(_Part):
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
    bands: Bands | None = None
    text_head_width: Width | None = None


class Clip(_Part):
    network: ClipNetwork
    tokenizer: Name
    schedule: Schedule
    weights: Files | None = None
    parts: dict[Literal["image_encoder", "text_encoder"], Name] = {}
    training: dict[str, JsonValue] = {}

    @model_validator(mode="after")
    def _check(self) -> Clip:
        if (self.weights is None) != (len(self.parts) == 2):
            raise ValueError("weights: must be given, or parts with image_encoder and text_encoder")
        return self


class CleanClip(_Part):
    clean: Name
    name: Annotated[str, AfterValidator(_hub)]


class Classifier(_Part):
    network: Network
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
    def _check(self) -> Classifier:
        count = sum(map(len, self.classes.values()))
        if count != self.network.out_channels:
            raise ValueError(
                f"classes: {count} names for {self.network.out_channels} outputs of the network"
            )
        return self


def _clip_kind(entry: Any) -> str:
    clean = isinstance(entry, Mapping) and "clean" in entry
    return "clean" if clean or isinstance(entry, CleanClip) else "noised"


class Card(_Part):
    name: Text
    base: Stage
    native: tuple[Side, Side]
    multiple: Annotated[int, Range(1, 4096)]
    maximum: Side
    title: Text = ""
    about: Text = ""
    licence: Text = ""
    template: Annotated[str, Field(max_length=2000), AfterValidator(_template)] = "{prompt}"
    styles: Annotated[
        tuple[Annotated[str, Field(max_length=200)], ...], Field(max_length=1000)
    ] = ()
    defaults: Defaults = Defaults()
    upsamplers: Annotated[tuple[Stage, ...], Field(max_length=8)] = ()
    clip: (
        Annotated[
            Annotated[Clip, Tag("noised")] | Annotated[CleanClip, Tag("clean")],
            Discriminator(_clip_kind),
        ]
        | None
    ) = None
    classifier: Classifier | None = None
    adapters: dict[Text, Name] = {}

    @model_validator(mode="after")
    def _check(self) -> Card:
        network = self.base.network
        if max(self.native) > self.maximum:
            raise ValueError(f"native {self.native}: must be at most maximum {self.maximum}")
        if bool(network.xf_width) != (self.base.tokenizer is not None):
            raise ValueError("base.tokenizer: must be given where the network reads text alone")
        if network.low_res or not all(stage.network.low_res for stage in self.upsamplers):
            raise ValueError("network.low_res: must be true of upsamplers and false of the base")
        return self
