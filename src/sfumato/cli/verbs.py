"""What the verbs do: each a few lines on top of the library. Imported when a verb runs."""

from __future__ import annotations

import itertools
import json
import platform
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from sfumato import images
from sfumato.cli import plans, show
from sfumato.cli.compose import Composed, composed
from sfumato.cli.options import Wanted
from sfumato.core.errors import SfumatoError
from sfumato.core.interrupts import undisturbed
from sfumato.home import home, unstored
from sfumato.images.destination import Destination, check_file
from sfumato.images.writing import tailed, write_safely
from sfumato.models import cost
from sfumato.models import replay as replays
from sfumato.models.devices import choose
from sfumato.models.loaders import library
from sfumato.models.result import Result, save_new
from sfumato.recipe.store import encoded


def make(methods: Sequence[Wanted], values: dict[str, Any]) -> None:
    """Compose, run, save: `generate` and every method's verb."""
    target = Destination.of(values["output"])
    target.check([target.folder / "x"])  # before a model is loaded
    made = composed(methods, values)
    checked(target, made, values["embed"])
    made = made.found(values)
    if values["plan"]:
        plan(made, values["as_json"])
        return
    store = unstored() if values["no_store"] else nullcontext()
    with store, watched(made.process, values["quiet"]) as update:
        result = made.sample(update)
    if values["embed"]:
        result = embedded(result, [i for m in made.process.methods for i in images.inputs_of(m)])
    deliver(result, target, values["sheet"], values["as_json"], made.process.methods)


def checked(target: Destination, made: Composed, embed: bool = False) -> None:
    """Raise SfumatoError where the pictures of a run could not be saved."""
    base = made.base
    inputs = [i for m in made.process.methods for i in images.inputs_of(m)] if embed else []
    paths = target.paths(base.prompt, made.seed, range(base.n))
    target.check(paths, size=made.size, embedded=sum(len(i.data) * 4 // 3 for i in inputs))


def deliver(
    result: Result, target: Destination, sheet: bool, as_json: bool, methods: Sequence[Any]
) -> None:
    """Save the pictures, and a sheet of them if asked; what had to go elsewhere is a failure."""
    with undisturbed():
        written = result.written(target)
        if sheet:
            first = written[0].path
            page = result.sheet(images.guides_of(methods), title=result.recipe.prompt)
            written.append(save_new(page, tailed(first, "-sheet.png")))
    show.saved([one.path for one in written], result.recipe, as_json)
    if troubles := [one.trouble for one in written if one.trouble]:
        raise SfumatoError("; ".join(troubles))


def watched(process: Any, quiet: bool) -> Any:
    """A progress bar of a run."""
    return show.progress(process.calls, quiet, cost.shares(process))


def embedded(result: Result, inputs: Sequence[images.ImageInput]) -> Result:
    """The result with its inputs inside every recipe."""
    content = {image.sha256: encoded(image.data) for image in inputs}
    for image in result.images:
        image.recipe = replace(image.recipe, embedded=content)
    return replace(result, recipe=replace(result.recipe, embedded=content))


def plan(made: Composed, as_json: bool) -> None:
    """What would run, in sentences or as JSON."""
    print(json.dumps(plans.data(made)) if as_json else "\n".join(plans.sentences(made)))


def replay(
    source: str, output: str, sheet: bool, device: str, dtype: str, as_json: bool, quiet: bool
) -> None:
    """`sfumato run`."""
    target = Destination.of(output)
    target.check([target.folder / "x"])
    again = replays.Replay.of(source, device=device, dtype=None if dtype == "auto" else dtype)
    checked(target, Composed(again.process, again.recipe.seed))
    with watched(again.process, quiet) as update:
        result = again.sample(update)
    deliver(result, target, sheet, as_json, again.process.methods)


def info(source: str, as_json: bool, quiet: bool) -> None:
    """`sfumato info`: a recipe as JSON, or a model's card."""
    path = Path(source)
    if path.is_file() and path.suffix.lower() not in (".pt", ".pth", ".ckpt", ".safetensors"):
        print(replays.read(path).to_json(indent=None if as_json else 1))
        return
    model = library.load(source)
    data = {"name": model.name, **asdict(model.card), "weights": model.weights}
    print(json.dumps(data, indent=None if as_json else 1, ensure_ascii=False))


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

    for option, value in (("--data", data), ("--output", output)):
        if value == "":
            raise SfumatoError(f"{option}: is empty; give a folder, or leave it out")
    pictures, target = (None if given is None else Path(given) for given in (data, output))
    folder = program.train(Path(recipe), pictures, target, steps, until, device, quiet)
    print(folder)


def evaluate(
    model: str | None,
    styles: str,
    scales: str | None,
    n: int | None,
    seed: int,
    features: str | None,
    data: str | None,
    output: str | None,
    device: str,
    dtype: str,
    as_json: bool,
    quiet: bool,
    protocol: str | None = None,
    **given: Any,
) -> None:
    """`sfumato eval`; given: what belongs to --protocol alone."""
    if protocol is not None:
        if protocol != "dreambooth":
            raise SfumatoError(f"--protocol {protocol}: unknown; there is dreambooth")
        if scales is not None or features is not None:
            raise SfumatoError("--protocol: takes neither --scales nor --features; leave them out")
        given |= {"model": model, "n": n, "seed": seed, "device": device, "dtype": dtype}
        subjects_measured(data, output, given, as_json, quiet)
        return
    if used := [name for name, value in given.items() if value is not None]:
        raise SfumatoError(f"--{used[0]}: needs --protocol dreambooth")
    from sfumato.measure.evaluate import Own
    from sfumato.measure.evaluate import evaluate as measured
    from sfumato.measure.features import load as load_features

    try:
        asked = [float(scale) for scale in scales.split(",")] if scales else [None]
    except ValueError:
        raise SfumatoError(f"--scales {scales}: write numbers, such as 1,2,3,4") from None
    if output is not None:
        check_file(Path(output))
    own = None
    if features is not None:
        own = Own(load_features(features), None if data is None else Path(data))
    report = measured(
        library.load(model or "emoji", device=device, dtype=dtype),
        own=own,
        styles=[style.strip() for style in styles.split(",")],
        scales=asked,
        n=200 if n is None else n,
        seed=seed,
        say=(lambda line: None) if as_json else print,
    )
    if output is not None:
        written = write_safely(Path(output), json.dumps(report, indent=1).encode())
        if written.trouble:
            raise SfumatoError(written.trouble)
        if written.path != Path(output):
            show.errors.print(f"{output}: exists; the report is {written.path}")
    if as_json:
        print(json.dumps(report))


def subjects_measured(
    data: str | None, output: str | None, given: dict[str, Any], as_json: bool, quiet: bool
) -> None:
    """`sfumato eval --protocol dreambooth`."""
    from sfumato.images.writing import write_whole
    from sfumato.measure import protocol

    if data is None:
        raise SfumatoError("--protocol: give --data, the folder of the public data set")
    runs, generated, n = given["runs"], given["generated"], given["n"]
    if (runs is None) == (generated is None):
        raise SfumatoError("--protocol: give --runs or --generated, one of them")
    if runs is not None and output is None:
        raise SfumatoError("--runs: give -o, the folder that keeps the pictures")
    if idle := [k for k in ("n", "steps", "model") if runs is None and given[k] is not None]:
        raise SfumatoError(f"--generated: makes no pictures, so {idle[0]} says nothing")
    source: Any = Path(str(generated))
    if runs is not None:
        how = {name: given[name] for name in ("seed", "steps", "model", "device", "dtype")}
        source = protocol.Runs(Path(runs), Path(str(output)), 4 if n is None else n, **how)
    left: list[str] = []
    asked = protocol.subjects(data, left)
    files = {name: given[name] for name in ("dino", "clip", "lpips")}
    device = choose(given["device"], given["dtype"]).device
    networks = protocol.Networks.of(**files, device=device)
    total = sum(len(one.templates) + protocol.CLASS_BATCHES for one in asked)
    with show.counted("prompts", total, quiet or runs is None) as update:
        count = itertools.count(1)
        report = protocol.evaluate(asked, networks, source, left, lambda: update(next(count)))
    report["networks"] = {name: Path(file).name for name, file in files.items() if file}
    shown = protocol.table(report)
    if output is not None:
        folder = Path(output)
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / "report.json", json.dumps(report, indent=1).encode())
        write_whole(folder / "report.txt", f"{shown}\n".encode())
    print(json.dumps(report) if as_json else shown)


def data(what: str, output: str | None, packages: str | None, quiet: bool) -> None:
    """`sfumato data build-emoji`."""
    from sfumato.train.data import build

    if what != "build-emoji":
        raise SfumatoError(f"data {what}: unknown; there is build-emoji")
    target = Path(output) if output else home() / "data" / "emoji"
    source = None if packages is None else Path(packages)
    build.build(target, source, say=(lambda line: None) if quiet else show.errors.print)
    print(target)


REQUIRED = (
    "sfumato", "torch", "pillow", "numpy", "safetensors", "tokenizers", "pydantic", "diffusers",
    "transformers", "huggingface-hub", "matplotlib",
)  # fmt: skip
OPTIONAL = {
    "bitsandbytes": "for dreambooth --eight-bit",
    "accelerate": "for training on several devices",
    "resvg-py": "for data build-emoji",
}


def installed(name: str) -> str:
    """The version of a package, or that it is missing."""
    try:
        return version(name)
    except PackageNotFoundError:
        return f"missing, pip install {name}"


def doctor(device: str, dtype: str, as_json: bool, quiet: bool) -> None:
    """`sfumato doctor`: versions, the choices made here, and a small run with checked output."""
    choice = choose(device, dtype)
    began = time.perf_counter()
    model = library.load("emoji", device=device, dtype=dtype)
    loaded = time.perf_counter()
    result: Any = model.process("red apple", steps=10).sample(seed=0)
    done = time.perf_counter()
    red, green, blue = (sum(band.get_flattened_data()) for band in result.images[0].split())
    healthy = red > green and red > blue
    data = {
        "python": platform.python_version(),
        **{name: installed(name) for name in REQUIRED},
        **{name: f"{installed(name)}; {what}" for name, what in OPTIONAL.items()},
        "device": f"{choice.device} ({choice.device_reason})",
        "dtype": f"{choice.dtype} ({choice.dtype_reason})",
        "threads": torch.get_num_threads(),
        "home": str(home()),
        "self-test": f"load {loaded - began:.1f} s, red apple in {done - loaded:.1f} s, "
        + ("it is red" if healthy else "it is NOT red"),
    }
    print(json.dumps(data) if as_json else "\n".join(f"{k}: {v}" for k, v in data.items()))
    if not healthy:
        raise SfumatoError(
            "self-test: the red apple is not red; reinstall sfumato or try --dtype float32"
        )
