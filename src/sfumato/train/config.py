"""Training recipes: a TOML file as strict values. What is unknown or out of range is named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, JsonValue, model_validator

from sfumato import documents
from sfumato.core.errors import SfumatoError
from sfumato.core.schedule import SCHEDULES
from sfumato.train.data.captions import Wording
from sfumato.train.data.compose import Mix
from sfumato.train.data.store import STYLES
from sfumato.train.objective import Objective
from sfumato.train.prior import Convention
from sfumato.train.values import LONGEST, FileName, NotNegative, Positive, Share, Steps, part


def one_of(known: Mapping[str, Any]) -> AfterValidator:
    """Refuses a text that is no key of a table."""

    def checked(name: str) -> str:
        if name and name not in known:
            raise ValueError(f"unknown; known are {', '.join(known)}")
        return name

    return AfterValidator(checked)


def _wording(text: str) -> str:
    if text.count("{}") != 1 or set("{}") & set(text.replace("{}", "")):
        raise ValueError("write the wording with one {} and no other brace")
    return text


Side = Annotated[int, Field(ge=1, le=8192)]
Decay = Annotated[float, Field(ge=0, lt=1)]


@part
class ModelPart:
    """network: fields of the tuner's network; kind, schedule, table, learned_range: its reading.

    start: a model's folder, bundled name or safetensors file whose weights are taken over where
    they fit; "" for fresh weights. vocabulary: tokens of a tokenizer made from the data's words
    (257 or more: each byte is one);
    tokenizer: a folder, bundled name or file whose tokenizer is taken instead, with pieces for
    Korean added up to that number. factor: how much larger than its low_res input.
    """

    network: Mapping[str, JsonValue] = field(default_factory=dict)
    schedule: Annotated[str, Field(min_length=1), one_of(SCHEDULES)] = "squaredcos_cap_v2"
    table: Annotated[int, Field(ge=2, le=100_000)] = 1000
    kind: Literal["eps", "v", "x0", "edm"] = "v"
    learned_range: bool = False
    start: str = ""
    vocabulary: Annotated[int, Field(ge=257, le=1_000_000)] = 4096
    tokenizer: str = ""
    factor: Annotated[int, Field(ge=1, le=64)] = 1


@part
class DataPart:
    """size: side of the training pictures in pixels. without: groups and subgroups left out.

    crop: side of the random crops of an upsampler's pictures (0: none). low_noise: largest standard
    deviation of the noise on its low_res input. base: a model whose base redraws base_share of
    those inputs, from levels up to base_level, so that its faults are known. pooled_drop: share of
    the rows whose pooled text vector is zeroed, so that words act through attention. split: what is
    learned from; "all" only for a judge, which may know held-out concepts from other styles.
    judged: the style a judge will judge, not among those it learns from; lines: how often its
    pictures become line drawings.
    """

    size: Side = 32
    without: tuple[str, ...] = ()
    crop: Annotated[int, Field(ge=0, le=8192)] = 0
    low_noise: Annotated[float, Field(ge=0, le=10)] = 0.12
    base: str = ""
    base_share: Share = 0.3
    base_level: Annotated[float, Field(gt=0.05, le=1)] = 0.45
    split: Literal["train", "all"] = "train"
    judged: Annotated[str, one_of(STYLES)] = ""
    lines: Share = 0.0
    pooled_drop: Share = 0.0


@part
class AdapterPart:
    """Train a low-rank adapter instead of the weights; rank 0: the weights."""

    rank: Annotated[int, Field(ge=0, le=4096)] = 0
    alpha: Positive = 8.0
    targets: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1)] = (
        "attention",
    )


@part
class SubjectPart:
    """What tuner "dreambooth" teaches (arXiv 2208.12242); model.start is the model it teaches.

    pictures: folder; noun: what the subject is, such as dog; name: its identifier, "" for a rare
    word of the model's tokenizer; wording: what stands around them in captions. prior: strength of
    prior preservation (0: none) with class_pictures pictures of the untouched model, or those of
    class_folder. convention: sum or mean (train.prior); weigh_prior: whether the weighting by noise
    level counts for them too.
    text: train the text encoder too. vectors: of the word that tuner "textual_inversion" learns;
    its pictures, noun (where it starts) and name are read alike. drop: share of captions left
    empty, which keeps guidance alive. checkpoint: recompute activations instead of keeping them.
    upsampler: train the model's upsampler too, on squares of `crop` pixels and without a prior;
    low_noise: deviation of the noise on its input, far less than it was made with, which keeps
    detail sharp.
    """

    pictures: str = ""
    noun: Annotated[str, Field(max_length=200)] = ""
    name: FileName = ""
    wording: Annotated[str, AfterValidator(_wording)] = "a {}"
    prior: Annotated[float, Field(ge=0, le=1000)] = 1.0
    class_pictures: Annotated[int, Field(ge=1, le=100_000)] = 100
    class_folder: str = ""
    convention: Convention = "sum"
    weigh_prior: bool = True
    text: bool = False
    vectors: Annotated[int, Field(ge=1, le=64)] = 1
    drop: Share = 0.1
    checkpoint: bool = False
    upsampler: bool = False
    crop: Side = 64
    low_noise: Annotated[float, Field(ge=0, le=10)] = 1e-3


@part
class OptimPart:
    """AdamW with linear warm-up, a constant rate, and cosine decay from `decay_from` of the steps.

    rate and floor: peak, and what the decay ends at as a part of it. clip: largest norm of the
    gradient. ema: decay of the averaged weights, which are the result. dtype: auto, float32,
    bfloat16 (weights then have float32 masters). compile: torch.compile the network; it pays on a
    GPU, on two cores it was slower. optimizer: adamw, or adamw-8bit, whose moments take a quarter
    of the memory (needs bitsandbytes), or muon (train.muon), which learns more of each picture.
    """

    batch: Annotated[int, Field(ge=1, le=65536)] = 64
    steps: Steps = 10000
    rate: Positive = 8e-4
    warmup: Annotated[int, Field(ge=0)] = 300
    decay_from: Share = 0.5
    floor: Share = 0.02
    betas: tuple[Decay, Decay] = (0.9, 0.99)
    weight_decay: NotNegative = 0.0
    clip: Positive = 1.0
    ema: Decay = 0.999
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    compile: bool = False
    optimizer: Literal["adamw", "adamw-8bit", "muon"] = "adamw"


@part
class RunPart:
    """log, grid, judge: every so many steps; save_minutes: time between checkpoints.

    prompts: what the grid shows. seed: of everything that is drawn.
    """

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    log: Steps = 50
    grid: Steps = 500
    judge: Steps = 1000
    save_minutes: NotNegative = 4.0
    prompts: tuple[str, ...] = ()


@part
class Config:
    """A whole recipe; `text` is the file it came from."""

    name: Annotated[FileName, Field(min_length=1)]
    tuner: Annotated[str, Field(min_length=1)]
    model: ModelPart = field(default_factory=ModelPart)
    data: DataPart = field(default_factory=DataPart)
    mix: Mix = field(default_factory=Mix)
    wording: Wording = field(default_factory=Wording)
    objective: Objective = field(default_factory=Objective)
    adapter: AdapterPart = field(default_factory=AdapterPart)
    subject: SubjectPart = field(default_factory=SubjectPart)
    optim: OptimPart = field(default_factory=OptimPart)
    run: RunPart = field(default_factory=RunPart)
    text: str = ""

    @model_validator(mode="after")
    def _fitting(self) -> Config:
        """What no field can say alone."""
        if self.mix.pair + self.mix.small > 1:
            raise ValueError(
                f"mix.pair {self.mix.pair:g} and mix.small {self.mix.small:g}: are more than 1 "
                "together"
            )
        if self.tuner != "diffusion":
            if self.optim.dtype == "bfloat16":
                raise ValueError(f"optim.dtype bfloat16: tuner {self.tuner} trains in float32")
            if self.optim.compile:
                raise ValueError(f"optim.compile: tuner {self.tuner} has none; leave it out")
            return self
        if self.objective.vb and not self.model.learned_range:
            raise ValueError("objective.vb: weighs a learned variance; set model.learned_range")
        side, factor = self.data.crop or self.data.size, self.model.factor
        if self.data.crop > self.data.size:
            raise ValueError(f"data.crop {side}: must be at most data.size {self.data.size}")
        if side % factor or self.data.size % factor:
            raise ValueError(
                f"model.factor {factor}: data.size {self.data.size} and data.crop "
                f"{self.data.crop} must be multiples of it"
            )
        return self

    def with_steps(self, steps: int | None) -> Config:
        """The recipe with other steps, as the option --steps says."""
        if steps is None:
            return self
        if not 1 <= steps <= LONGEST:
            raise SfumatoError(f"--steps {steps}: must be 1 to {LONGEST:,}")
        return replace(self, optim=replace(self.optim, steps=steps))


def read(path: Path) -> Config:
    """Parse and check a recipe file."""
    text = documents.read_text(path)
    return parse(documents.toml_table(text, str(path)), text, path.name)


def parse(data: Mapping[str, Any], text: str = "", where: str = "recipe") -> Config:
    """A recipe's tables as a Config. where: what an error calls them."""
    if "text" in data:  # a field of the class, not of the file
        raise SfumatoError(f"{where}: there is no field 'text'; leave it out")
    return replace(documents.parse_data(Config, data, where), text=text)
