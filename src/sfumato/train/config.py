"""Training recipes: a TOML file as strict values. What is unknown or out of range is named."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field, JsonValue, model_validator

from sfumato import documents
from sfumato.core.errors import SfumatoError
from sfumato.core.idle import Needs, idle, needs_of, refuse_idle, unread
from sfumato.core.schedule import SCHEDULES
from sfumato.train import reads
from sfumato.train.data.captions import Wording
from sfumato.train.data.compose import Mix
from sfumato.train.data.store import STYLES
from sfumato.train.objective import Objective
from sfumato.train.prior import Convention
from sfumato.train.reads import Reads
from sfumato.train.values import LONGEST, FileName, NotNegative, Positive, Share, Steps, part

T = TypeVar("T")


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


PACKED, NETWORK, LEVELS = Needs("reads.packed"), Needs("reads.network"), Needs("reads.levels")
SUBJECT, CLASSES, WORD = Needs("reads.subject"), Needs("reads.classes"), Needs("reads.word")
ADAPTER = Needs("reads.adapter")
"""Fields of tuners that say they read them (train.reads)."""
DIFFUSION, DREAMBOOTH = Needs("tuner=diffusion"), Needs("tuner=dreambooth")
"""Fields of one tuner alone."""

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

    network: Annotated[Mapping[str, JsonValue], NETWORK] = field(default_factory=dict)
    schedule: Annotated[str, Field(min_length=1), one_of(SCHEDULES), LEVELS] = "squaredcos_cap_v2"
    table: Annotated[int, Field(ge=2, le=100_000), LEVELS] = 1000
    kind: Annotated[Literal["eps", "v", "x0", "edm"], DIFFUSION] = "v"
    learned_range: Annotated[bool, DIFFUSION] = False
    start: str = ""
    vocabulary: Annotated[int, Field(ge=257, le=1_000_000), NETWORK] = 4096
    tokenizer: Annotated[str, NETWORK] = ""
    factor: Annotated[int, Field(ge=1, le=64), DIFFUSION] = 1


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
    crop: Annotated[int, Field(ge=0, le=8192), DIFFUSION] = 0
    low_noise: Annotated[float, Field(ge=0, le=10), DIFFUSION] = 0.12
    base: Annotated[str, DIFFUSION] = ""
    base_share: Annotated[Share, Needs("base")] = 0.3
    base_level: Annotated[float, Field(gt=0.05, le=1), Needs("base")] = 0.45
    split: Literal["train", "all"] = "train"
    judged: Annotated[str, one_of(STYLES), Needs("tuner=judge")] = ""
    lines: Annotated[Share, Needs("tuner=judge")] = 0.0
    pooled_drop: Annotated[Share, DIFFUSION] = 0.0


@part
class AdapterPart:
    """Train a low-rank adapter instead of the weights; rank 0: the weights."""

    rank: Annotated[int, Field(ge=0, le=4096), ADAPTER] = 0
    alpha: Annotated[Positive, ADAPTER, Needs("rank>0")] = 8.0
    targets: Annotated[
        tuple[Annotated[str, Field(min_length=1)], ...],
        Field(min_length=1),
        ADAPTER,
        Needs("rank>0"),
    ] = ("attention",)


@part
class SubjectPart:
    """What a tuner of subjects teaches (arXiv 2208.12242); model.start is the model it teaches.

    pictures: folder; noun: what the subject is, such as dog; name: its identifier, "" for a rare
    word of the model's tokenizer; wording: what stands around them in captions. prior: strength of
    prior preservation (0: none) with class_pictures pictures of the untouched model, or those of
    class_folder. convention: sum or mean (train.prior); weigh_prior: whether the weighting by noise
    level counts for them too.
    text: train the text encoder too. vectors: of the word that tuners "textual_inversion" and
    "p_plus" learn, and on a latent model "custom_diffusion"; pictures, noun and name are read
    alike. drop: share of captions left empty, which keeps guidance alive. checkpoint: recompute
    activations instead of keeping them.
    upsampler: train the model's upsampler too, on squares of `crop` pixels and without a prior;
    low_noise: deviation of the noise on its input, far less than it was made with, which keeps
    detail sharp.
    """

    pictures: str = ""
    noun: Annotated[str, Field(max_length=200)] = ""
    name: FileName = ""
    wording: Annotated[str, AfterValidator(_wording), CLASSES] = "a {}"
    prior: Annotated[float, Field(ge=0, le=1000), CLASSES] = 1.0
    class_pictures: Annotated[
        int, Field(ge=1, le=100_000), CLASSES, Needs("prior>0", "!class_folder")
    ] = 100
    class_folder: Annotated[str, CLASSES, Needs("prior>0")] = ""
    convention: Annotated[Convention, CLASSES, Needs("prior>0")] = "sum"
    weigh_prior: Annotated[bool, CLASSES, Needs("prior>0")] = True
    text: Annotated[bool, DREAMBOOTH] = False
    vectors: Annotated[int, Field(ge=1, le=64), WORD] = 1
    drop: Annotated[Share, CLASSES] = 0.1
    checkpoint: Annotated[bool, CLASSES] = False
    upsampler: Annotated[bool, DREAMBOOTH] = False
    crop: Annotated[Side, Needs("upsampler")] = 64
    low_noise: Annotated[float, Field(ge=0, le=10), Needs("upsampler")] = 1e-3


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
    floor: Annotated[Share, Needs("decay_from!=1")] = 0.02
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
    prompts: Annotated[tuple[str, ...], DIFFUSION] = ()


TABLES = ("model", "data", "objective", "adapter", "subject", "optim", "run")
"""Tables with fields that do nothing beside others."""
CARRIED = ("subject.class_pictures", "subject.class_folder", "adapter.rank", "adapter.targets")
"""Of those fields the ones that recipes and runs of up to 0.2.0 have all the same: they are said,
and not refused."""


@part
class Config:
    """A whole recipe; `text` is the file it came from, `own` the table that is named as the tuner,
    which that tuner alone reads (`part_of`)."""

    name: Annotated[FileName, Field(min_length=1)]
    tuner: Annotated[str, Field(min_length=1)]
    model: ModelPart = field(default_factory=ModelPart)
    data: Annotated[DataPart, PACKED] = field(default_factory=DataPart)
    mix: Annotated[Mix, PACKED] = field(default_factory=Mix)
    wording: Annotated[Wording, PACKED] = field(default_factory=Wording)
    objective: Annotated[Objective, Needs("reads.times")] = field(default_factory=Objective)
    adapter: Annotated[AdapterPart, Needs("reads.adapter|reads.subject")] = field(
        default_factory=AdapterPart
    )
    subject: Annotated[SubjectPart, SUBJECT] = field(default_factory=SubjectPart)
    optim: OptimPart = field(default_factory=OptimPart)
    run: RunPart = field(default_factory=RunPart)
    own: Mapping[str, JsonValue] = field(default_factory=dict)
    text: str = ""

    @model_validator(mode="after")
    def _fitting(self) -> Config:
        """What no field can say alone."""
        if self.tuner in reads.names():
            _refuse_idle("", idle(self, needs_of(Config)))
        for name, table in self._of_tables(idle).items():
            _refuse_idle(name, {f: n for f, n in table.items() if f"{name}.{f}" not in CARRIED})
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

    def _of_tables(self, look: Callable[..., dict[str, str]]) -> dict[str, dict[str, str]]:
        """Table -> its fields that do nothing and what they need."""
        if self.tuner not in reads.names():  # what another one reads is not known here
            return {}
        tables = ((name, getattr(self, name)) for name in TABLES)
        return {name: look(table, needs_of(type(table)), self) for name, table in tables}

    def unread(self) -> list[str]:
        """Fields by their dotted names that do nothing here, whatever they say."""
        return [f"{name}.{f}" for name, table in self._of_tables(unread).items() for f in table]

    def carried(self) -> list[str]:
        """What is said of those that say something, as earlier versions wrote it."""
        idle_ones = [f"{name}.{f}" for name, table in self._of_tables(idle).items() for f in table]
        return [f"{name}: does nothing in this recipe; leave it out" for name in idle_ones]

    @cached_property
    def reads(self) -> Reads:
        """What its tuner reads."""
        return reads.reads_of(self.tuner)

    def part_of(self, kind: type[T]) -> T:
        """The tuner's own table as a strict value."""
        return documents.parse_data(kind, dict(self.own), f"[{self.tuner}]")

    def with_steps(self, steps: int | None) -> Config:
        """The recipe with other steps, as the option --steps says."""
        if steps is None:
            return self
        if not 1 <= steps <= LONGEST:
            raise SfumatoError(f"--steps {steps}: must be 1 to {LONGEST:,}")
        return replace(self, optim=replace(self.optim, steps=steps))


def _refuse_idle(where: str, found: Mapping[str, str]) -> None:
    """What tuners say that they read is named by the tuners."""
    refuse_idle(where, {name: reads.said_by_tuners(need) for name, need in found.items()})


NAMES = tuple(one.name for one in fields(Config))


def read(path: Path) -> Config:
    """Parse and check a recipe file."""
    text = documents.read_text(path)
    return parse(documents.toml_table(text, str(path)), text, path.name)


def parse(data: Mapping[str, Any], text: str = "", where: str = "recipe") -> Config:
    """A recipe's tables as a Config. where: what an error calls them."""
    for name in ("text", "own"):  # fields of the class, not of the file
        if name in data:
            raise SfumatoError(f"{where}: there is no field {name!r}; leave it out")
    tuner = data.get("tuner")
    if isinstance(tuner, str) and tuner in data and tuner not in NAMES:
        data = {**{name: data[name] for name in data if name != tuner}, "own": data[tuner]}
    return replace(documents.parse_data(Config, data, where), text=text)
