"""What the verbs do: each a few lines on top of the library. Imported when a verb runs."""

from __future__ import annotations

import json
import logging
import platform
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from sfumato import images, recipe
from sfumato.cli import show
from sfumato.cli.options import Wanted
from sfumato.core.errors import SfumatoError
from sfumato.core.process import Process
from sfumato.core.run import place_of
from sfumato.core.solvers import solver, solver_data
from sfumato.core.spacing import RULES
from sfumato.core.starts import PriorNoise
from sfumato.methods import to_data
from sfumato.models import library
from sfumato.models import replay as replays
from sfumato.models.cascade import base_of
from sfumato.models.devices import choose
from sfumato.models.model import Model
from sfumato.models.result import Result, checked, folder_of, free
from sfumato.recipe import Recipe


@dataclass(frozen=True)
class Composed:
    """What a command line describes: the process, its first seed, the recipes it stems from.

    searches: METHOD.FIELD of every number that is still to be found (`found`).
    """

    process: Any
    seed: int
    parents: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()

    @property
    def base(self) -> Process:
        """The process itself, or of a cascade its base."""
        return base_of(self.process)

    def found(self, values: dict[str, Any]) -> Composed:
        """With every search done: its number in the process, its curve among the parents."""
        process, parents = self.process, self.parents
        for name in self.searches:
            result = searched(process, name, values, self.seed)
            method, _, field = name.partition(".")
            process = process.revised(method, **{field: result.value})
            parents = (*parents, result.curve.id)
        return Composed(process, self.seed, parents)

    def sample(self, progress: Any = None) -> Result:
        """Run it; the recipes name their parents."""
        result: Result = self.process.sample(self.seed, progress=progress)
        return result.descended(self.parents) if self.parents else result


ASKED = (
    "model",
    "prompt",
    "negative",
    "label",
    "stages",
    "seed",
    "n",
    "steps",
    "solver",
    "spacing",
)


def composed(
    methods: Sequence[Wanted], values: dict[str, Any], models: dict[str, Model] | None = None
) -> Composed:
    """--recipe, then the options, then the methods; those already there get the given fields.

    models: those loaded so far, by name, for callers that compose many.
    """
    given = values["recipe"]
    start = Recipe(model="emoji") if given is None else replays.read(given)
    parents = () if given is None else (start.id,)
    if "index" in start.run:  # a picture of a batch: that one, not its batch
        start = replace(start, seed=start.seed + int(start.run["index"]), n=1)
    asked = {name: values[name] for name in ASKED if values.get(name) is not None}
    if values["size"] is not None:
        asked["size"] = parse_size(values["size"])
    if ("spacing" in asked) != ("steps" in asked):  # each may fix what the recipe's other says
        fixed = asked.get("spacing", start.spacing)
        if fixed is not None and fixed not in RULES:
            asked |= {"steps": asked.get("steps"), "spacing": asked.get("spacing")}
    wanted = replace(start, **asked)
    folders = [Path.cwd()] if given is None else [Path(given).resolve().parent, Path.cwd()]
    loaded = {} if models is None else models
    if wanted.model not in loaded:
        model = library.load(wanted.model, device=values["device"], dtype=values["dtype"])
        model = replays.adapted(wanted, model, folders)
        for text in values["adapt"]:
            model = model.adapt(*parse_adapter(text))
        loaded[wanted.model] = model
    model = loaded[wanted.model]
    process: Any = replays.compose(wanted, model, folders)
    for method in methods:
        process = method.onto(process)
    searches = (f"{m.cls.id}.{field}" for m in methods for field in m.searched)
    return Composed(process, wanted.seed, parents, tuple(searches))


def searched(process: Any, name: str, values: dict[str, Any], seed: int) -> Any:
    """The number for a field given as "auto"."""
    from sfumato.measure import auto

    measure, equals, target = values["target"].partition("=")
    try:
        goal = float(target) if equals else None
    except ValueError:
        raise SfumatoError(
            f"--target {values['target']}: write MEASURE or MEASURE=NUMBER"
        ) from None
    found = auto(
        process, name, measure=measure, target=goal, seed=seed,
        say=logging.getLogger("sfumato").info,
    )  # fmt: skip
    show.errors.print(f"{name} = {found.value:g} ({found.curve.rule})", markup=False)
    return found


def make(methods: Sequence[Wanted], values: dict[str, Any]) -> None:
    """Compose, run, save: `generate` and every method's verb."""
    folder = folder_of(checked(values["output"]))
    if not folder.is_dir():
        raise SfumatoError(f"{values['output']}: the folder {folder} does not exist; make it first")
    made = composed(methods, values).found(values)
    if values["plan"]:
        plan(made, values["as_json"])
        return
    store = recipe.unstored() if values["no_store"] else nullcontext()
    with store, show.progress(made.process.calls, values["quiet"]) as update:
        result = made.sample(update)
    if values["embed"]:
        result = embedded(result, [i for m in made.process.methods for i in images.inputs_of(m)])
    deliver(result, values["output"], values["sheet"], values["as_json"])


def deliver(result: Result, output: str, sheet: bool, as_json: bool) -> None:
    """Save the pictures, and a sheet of them if asked."""
    paths = result.save(output)
    if sheet:
        first = paths[0]
        target = free(first.with_name(f"{first.stem}-sheet.png"))
        result.sheet(title=result.recipe.prompt).save(target)
        paths = [*paths, target]
    show.saved(paths, result.recipe, as_json)


def embedded(result: Result, inputs: Sequence[images.ImageInput]) -> Result:
    """The result with its inputs inside every recipe."""
    content = {image.sha256: recipe.encoded(image.data) for image in inputs}
    for image in result.images:
        image.recipe = replace(image.recipe, embedded=content)
    return replace(result, recipe=replace(result.recipe, embedded=content))


def parse_size(text: str | None) -> Any:
    """N, WxH, "input" or "native"."""
    if text is None or text in ("input", "native"):
        return text
    try:
        sides = [int(side) for side in text.lower().split("x")]
    except ValueError:
        sides = []
    if len(sides) not in (1, 2):
        raise SfumatoError(f"--size {text}: write N, WxH, input or native")
    return sides[0] if len(sides) == 1 else (sides[0], sides[1])


def parse_adapter(text: str) -> tuple[str, float]:
    """NAME or FILE, maybe with =STRENGTH."""
    name, equals, strength = text.rpartition("=")
    if not equals:
        return text, 1.0
    try:
        return name, float(strength)
    except ValueError:
        raise SfumatoError(f"--adapt {text}: strength {strength!r} is no number") from None


def plan(made: Composed, as_json: bool) -> None:
    """What would run: calls, times, work size, methods; as JSON also the recipe."""
    process, base = made.process, made.base
    resolved = base.resolved()
    start = resolved.start or PriorNoise()
    frame, _ = resolved.frame(place_of(resolved, start))
    assert resolved.solver is not None
    data = {
        "prompt": resolved.prompt,
        "calls": process.calls,
        "times": list(process.times),
        "solver": solver_data(solver(resolved.solver)),
        "work_size": list(frame.work),
        "size": list(frame.target),
        "methods": [to_data(method) for method in resolved.methods],
    }
    if as_json:
        source: Any = base.source
        print(json.dumps({**data, "recipe": source.asked(base, made.seed).to_data()}))
        return
    for name, value in data.items():
        print(f"{name}: {value}")


def replay(
    source: str, output: str, sheet: bool, device: str, dtype: str, as_json: bool, quiet: bool
) -> None:
    """`sfumato run`."""
    checked(output)
    again = replays.Replay.of(source, device=device, dtype=None if dtype == "auto" else dtype)
    with show.progress(again.process.calls, quiet) as update:
        result = again.sample(update)
    deliver(result, output, sheet, as_json)


def info(source: str, as_json: bool, quiet: bool) -> None:
    """`sfumato info`: a recipe as JSON, or a model's card."""
    path = Path(source)
    if path.is_file() and path.suffix.lower() not in (".pt", ".ckpt", ".safetensors"):
        print(replays.read(path).to_json(indent=None if as_json else 1))
        return
    model = library.load(source)
    data = {"name": model.name, **asdict(model.card), "weights": model.weights}
    print(json.dumps(data, indent=None if as_json else 1, ensure_ascii=False))


def models(as_json: bool, quiet: bool) -> None:
    """`sfumato models`."""
    found = library.entries()
    if as_json:
        print(json.dumps([asdict(entry) for entry in found]))
        return
    for entry in found:
        print(f"{entry.name:32} {entry.where:8} {entry.title}")


def train(
    recipe: str,
    data: str | None,
    output: str | None,
    steps: int | None,
    until: int | None,
    device: str,
    quiet: bool,
) -> None:
    """`sfumato train`."""
    from sfumato.train import program

    pictures, target = (None if given is None else Path(given) for given in (data, output))
    folder = program.train(Path(recipe), pictures, target, steps, until, device, quiet)
    print(folder)


def evaluate(
    model: str,
    styles: str,
    scales: str | None,
    n: int,
    seed: int,
    features: str | None,
    data: str | None,
    output: str | None,
    device: str,
    dtype: str,
    as_json: bool,
    quiet: bool,
) -> None:
    """`sfumato eval`."""
    from sfumato.measure.evaluate import Own
    from sfumato.measure.evaluate import evaluate as measured
    from sfumato.measure.features import load as load_features

    try:
        asked = [float(scale) for scale in scales.split(",")] if scales else [None]
    except ValueError:
        raise SfumatoError(f"--scales {scales}: write numbers, such as 1,2,3,4") from None
    own = None
    if features is not None:
        own = Own(load_features(features), None if data is None else Path(data))
    report = measured(
        library.load(model, device=device, dtype=dtype),
        own=own,
        styles=[style.strip() for style in styles.split(",")],
        scales=asked,
        n=n,
        seed=seed,
        say=(lambda line: None) if as_json else print,
    )
    if output is not None:
        Path(output).write_text(json.dumps(report, indent=1), encoding="utf-8")
    if as_json:
        print(json.dumps(report))


def data(what: str, output: str | None, packages: str | None, quiet: bool) -> None:
    """`sfumato data build-emoji`."""
    from sfumato.train.data import build

    if what != "build-emoji":
        raise SfumatoError(f"data {what}: unknown; there is build-emoji")
    target = Path(output) if output else recipe.home() / "data" / "emoji"
    source = None if packages is None else Path(packages)
    build.build(target, source, say=(lambda line: None) if quiet else show.errors.print)
    print(target)


def doctor(device: str, dtype: str, as_json: bool, quiet: bool) -> None:
    """`sfumato doctor`: versions, the choices made here, and a small run with checked output."""
    choice = choose(device, dtype)
    names = ("sfumato", "torch", "pillow", "numpy", "safetensors", "tokenizers", "pydantic")
    began = time.perf_counter()
    model = library.load("emoji", device=device, dtype=dtype)
    loaded = time.perf_counter()
    result: Any = model.process("red apple", steps=10).sample(seed=0)
    done = time.perf_counter()
    red, green, blue = (sum(band.get_flattened_data()) for band in result.images[0].split())
    healthy = red > green and red > blue
    data = {
        "python": platform.python_version(),
        **{name: version(name) for name in names},
        "device": f"{choice.device} ({choice.device_reason})",
        "dtype": f"{choice.dtype} ({choice.dtype_reason})",
        "threads": torch.get_num_threads(),
        "home": str(recipe.home()),
        "self-test": f"load {loaded - began:.1f} s, red apple in {done - loaded:.1f} s, "
        + ("it is red" if healthy else "it is NOT red"),
    }
    print(json.dumps(data) if as_json else "\n".join(f"{k}: {v}" for k, v in data.items()))
    if not healthy:
        raise SfumatoError(
            "self-test: the red apple is not red; reinstall sfumato or try --dtype float32"
        )
