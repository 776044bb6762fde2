"""Training recipes: a TOML file as dataclasses. Unknown or ill-typed keys are refused by name."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from sfumato.core.errors import SfumatoError
from sfumato.train.data.captions import Wording
from sfumato.train.data.compose import Mix
from sfumato.train.levels import TIMES, WEIGHTINGS
from sfumato.train.objective import Objective

T = TypeVar("T")


@dataclass(frozen=True)
class ModelPart:
    """network: fields of the tuner's network; kind, schedule, table, learned_range: its reading.

    start: a model's folder, bundled name or safetensors file whose weights are taken over where
    they fit; "" for fresh weights. vocabulary: tokens of a tokenizer made from the data's words;
    tokenizer: a folder, bundled name or file whose tokenizer is taken instead, with pieces for
    Korean added up to that number. factor: how much larger than its low_res input.
    """

    network: Mapping[str, Any] = field(default_factory=dict)
    schedule: str = "squaredcos_cap_v2"
    table: int = 1000
    kind: str = "v"
    learned_range: bool = False
    start: str = ""
    vocabulary: int = 4096
    tokenizer: str = ""
    factor: int = 1


@dataclass(frozen=True)
class DataPart:
    """size: side of the training pictures in pixels. without: groups and subgroups left out.

    crop: side of the random crops of an upsampler's pictures (0: none). low_noise: largest standard
    deviation of the noise on its low_res input. pooled_drop: share of the rows whose pooled text
    vector is zeroed, so that words act through attention. split: what is learned from; "all" only
    for a judge, which may know held-out concepts from other styles. judged: the style a judge will
    judge, not among those it learns from; lines: how often its pictures become line drawings.
    """

    size: int = 32
    without: tuple[str, ...] = ()
    crop: int = 0
    low_noise: float = 0.12
    split: str = "train"
    judged: str = ""
    lines: float = 0.0
    pooled_drop: float = 0.0


@dataclass(frozen=True)
class AdapterPart:
    """Train a low-rank adapter instead of the weights; rank 0: the weights."""

    rank: int = 0
    alpha: float = 8.0
    targets: tuple[str, ...] = ("attention",)


@dataclass(frozen=True)
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
    noun: str = ""
    name: str = ""
    wording: str = "a {}"
    prior: float = 1.0
    class_pictures: int = 100
    class_folder: str = ""
    convention: str = "sum"
    weigh_prior: bool = True
    text: bool = False
    vectors: int = 1
    drop: float = 0.1
    checkpoint: bool = False
    upsampler: bool = False
    crop: int = 64
    low_noise: float = 1e-3


@dataclass(frozen=True)
class OptimPart:
    """AdamW with linear warm-up, a constant rate, and cosine decay from `decay_from` of the steps.

    rate and floor: peak, and what the decay ends at as a part of it. clip: largest norm of the
    gradient. ema: decay of the averaged weights, which are the result. dtype: auto, float32,
    bfloat16 (weights then have float32 masters). compile: torch.compile the network; it pays on a
    GPU, on two cores it was slower. optimizer: adamw, or adamw-8bit, whose moments take a quarter
    of the memory (needs bitsandbytes), or muon (train.muon), which learns more of each picture.
    """

    batch: int = 64
    steps: int = 10000
    rate: float = 8e-4
    warmup: int = 300
    decay_from: float = 0.5
    floor: float = 0.02
    betas: tuple[float, ...] = (0.9, 0.99)
    weight_decay: float = 0.0
    clip: float = 1.0
    ema: float = 0.999
    dtype: str = "auto"
    compile: bool = False
    optimizer: str = "adamw"


@dataclass(frozen=True)
class RunPart:
    """log, grid, judge: every so many steps; save_minutes: time between checkpoints.

    prompts: what the grid shows. seed: of everything that is drawn.
    """

    seed: int = 0
    log: int = 50
    grid: int = 500
    judge: int = 1000
    save_minutes: float = 4.0
    prompts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Config:
    """A whole recipe; `text` is the file it came from."""

    name: str
    tuner: str
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

    def with_steps(self, steps: int | None) -> Config:
        return self if steps is None else replace(self, optim=replace(self.optim, steps=steps))


def read(path: Path) -> Config:
    """Parse and check a recipe file."""
    try:
        text = path.read_text(encoding="utf-8")
        data = tomllib.loads(text)
    except FileNotFoundError:
        raise SfumatoError(f"{path}: no such recipe; recipes/ holds the project's own") from None
    except tomllib.TOMLDecodeError as error:
        raise SfumatoError(f"{path}: not valid TOML ({error})") from None
    try:
        return parse(data, text)
    except SfumatoError as error:
        raise SfumatoError(f"{path}: {error}") from None


def parse(data: Mapping[str, Any], text: str = "") -> Config:
    """A recipe's tables as a Config."""
    values = dict(data)
    parts: dict[str, Any] = {
        "model": _filled(ModelPart, values.pop("model", {}), "model"),
        "data": _filled(DataPart, values.pop("data", {}), "data"),
        "mix": _mix(values.pop("mix", {})),
        "wording": _filled(Wording, values.pop("wording", {}), "wording"),
        "objective": _objective(values.pop("objective", {})),
        "adapter": _filled(AdapterPart, values.pop("adapter", {}), "adapter"),
        "subject": _filled(SubjectPart, values.pop("subject", {}), "subject"),
        "optim": _filled(OptimPart, values.pop("optim", {}), "optim"),
        "run": _filled(RunPart, values.pop("run", {}), "run"),
    }
    return _filled(Config, {**values, **parts, "text": text}, "the recipe")


def _mix(data: Mapping[str, Any]) -> Mix:
    values = dict(data)
    styles = values.pop("styles", {})
    if not isinstance(styles, Mapping):
        raise SfumatoError("mix.styles: must be a table of weights, such as {fluent = 2, ink = 1}")
    return replace(_filled(Mix, values, "mix"), styles=tuple(sorted(styles.items())))


def _objective(data: Mapping[str, Any]) -> Objective:
    values = dict(data)
    chosen: dict[str, Any] = {}
    for name, known in (("times", TIMES), ("weighting", WEIGHTINGS)):
        if name in values:
            chosen[name] = _chosen(values.pop(name), known, f"objective.{name}")
    return replace(_filled(Objective, values, "objective"), **chosen)


def _chosen(given: Any, known: Mapping[str, Callable[..., Any]], where: str) -> Any:
    """ "name", or a table {name = ..., field = ...}."""
    table = {"name": given} if isinstance(given, str) else dict(given)
    name = table.pop("name", None)
    if name not in known:
        raise SfumatoError(f"{where} {name!r}: unknown; known are {', '.join(known)}")
    make: Any = known[name]
    return _filled(make, table, where)


def _filled(cls: type[T], values: Mapping[str, Any], where: str) -> T:
    """An instance of a dataclass from a table: unknown keys and wrong types are errors."""
    made: dict[str, Any] = {}
    known = {f.name: f for f in fields(cls)}  # type: ignore[arg-type]
    if unknown := sorted(set(values) - set(known)):
        raise SfumatoError(f"{where}: no key {unknown[0]!r}; there are {', '.join(known)}")
    hints = get_type_hints(cls)
    for name, value in values.items():
        made[name] = _checked(value, hints[name], f"{where}.{name}")
    missing = [
        f.name
        for f in known.values()
        if f.name not in made and f.default is MISSING and f.default_factory is MISSING
    ]
    if missing:
        raise SfumatoError(f"{where}: {missing[0]} is missing")
    return cls(**made)


def _checked(value: Any, hint: Any, where: str) -> Any:
    """TOML's lists become tuples, its whole numbers floats where a float is wanted."""
    if isinstance(value, list):
        return tuple(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint in (int, float, str, bool) and type(value) is not hint:
        raise SfumatoError(f"{where} {value!r}: must be {hint.__name__}")
    return value
