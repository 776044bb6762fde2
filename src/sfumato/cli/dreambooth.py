"""`sfumato dreambooth`: options to a training recipe in the run folder, then the trainer."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfumato.cli import show
from sfumato.core.errors import SfumatoError
from sfumato.documents import toml_table

if TYPE_CHECKING:
    from sfumato.train.config import Config

# our own captions have no articles
OWN: dict[str, Any] = {
    "tuner": "dreambooth",
    "rate": 5e-3,
    "whole": 3e-4,
    "rank": 16,
    "batch": 4,
    "steps": 120,
    "wording": "{}",
    "targets": ["attention", "conv", "embedding"],
}
LATENT: dict[str, Any] = {
    "tuner": "dreambooth",
    "rate": 1e-4,
    "whole": 5e-6,
    "rank": 8,
    "batch": 1,
    "steps": 800,
    "wording": "a {}",
    "targets": ["attention"],
}
# no decay: it would pull the word's vectors to nothing
WORD: dict[str, Any] = {
    **LATENT,
    "tuner": "textual_inversion",
    "rate": 5e-3,
    "whole": 5e-3,
    "steps": 1500,
    "decay": 0.0,
}
# a public implementation's but for its batch of 8; a step is sixteen passes of the text encoder
PER_LAYER: dict[str, Any] = {**WORD, "tuner": "p_plus", "batch": 2, "steps": 500}


OPTIONS = {
    "noun": ("--class", "subject.noun"),
    "name": ("--name", "subject.name"),
    "model": ("--model", "model.start"),
    "steps": ("--steps", "optim.steps"),
    "rank": ("--rank", "adapter.rank"),
    "text": ("--text", "subject.text"),
    "upsampler": ("--upsampler", "subject.upsampler"),
    "vectors": ("--vectors", "subject.vectors"),
    "rate": ("--rate", "optim.rate"),
    "batch": ("--batch", "optim.batch"),
    "prior": ("--prior", "subject.prior"),
    "class_pictures": ("--class-pictures", "subject.class_pictures"),
    "class_folder": ("--class-folder", "subject.class_folder"),
    "seed": ("--seed", "run.seed"),
}
"""Options by what the program calls them, and the fields of the recipe that they set."""


def dreambooth(pictures: str | None, **given: Any) -> None:
    """Make the recipe, or read it again with --resume; train; the run folder on stdout."""
    from sfumato.train import origin, program

    for option in ("output", "model", "noun", "class_folder", "name"):
        if given[option] == "":
            name = OPTIONS[option][0] if option in OPTIONS else "--output"
            raise SfumatoError(f"{name}: is empty; give it something, or leave it out")
    folder, quiet = Path(given["output"]), bool(given["quiet"])
    config = resumed(folder, pictures, given) if given["resume"] else begun(pictures, given)
    differs = [] if given["resume"] else origin.differing(folder, origin.of(config, {}))
    if differs:
        raise SfumatoError(
            f"{folder}: holds a run with other settings; give --resume to go on with those, with "
            f"--steps for more of them, or another -o ({'; '.join(differs[:4])})"
        )
    if given["plan"]:
        print(planned(config))
        return
    program.work(config, Path(config.subject.pictures), folder, None, given["device"], quiet)
    if not quiet and (folder / "run.json").is_file():  # the first of several processes writes it
        show.errors.print(ready(folder, config))
    print(folder)


def begun(pictures: str | None, given: dict[str, Any]) -> Config:
    """The recipe that the options say."""
    from sfumato.train.config import parse

    if pictures is None:
        raise SfumatoError("dreambooth: give the folder with the subject's pictures")
    made = tables(pictures, given)
    _parsed(made)  # before the model is asked what the pictures show
    made["subject"]["noun"] = given["noun"] or guessed(Path(pictures), made["model"]["start"])
    _parsed(made)
    return parse(made, toml(made))


def _parsed(made: dict[str, Any]) -> None:
    """Refuses what a field does not take, by the name of its option."""
    from sfumato.train.config import parse

    try:
        parse(made, where="dreambooth")
    except SfumatoError as error:
        said = str(error)
        for option, name in OPTIONS.values():
            said = said.replace(f"{name} = ", f"{option} ")
        raise SfumatoError(said) from None


def resumed(folder: Path, pictures: str | None, given: dict[str, Any]) -> Config:
    """The run's own recipe, maybe with more steps; other options must say what it says."""
    from sfumato.train import origin
    from sfumato.train.config import parse, read

    recipe = folder / origin.RECIPE
    if not recipe.is_file():
        raise SfumatoError(f"--resume: {folder} holds no run; leave --resume out to begin one")
    if not recipe.stat().st_size:
        raise SfumatoError(
            f"--resume: {recipe} is empty; give the run's first command again, without --resume"
        )
    config = read(recipe)
    flat = origin.of(config, {}).recipe
    kinds = {"word": "textual_inversion", "per_layer": "p_plus", "eight_bit": "adamw-8bit"}
    asked = {option: (given[key], flat[name]) for key, (option, name) in OPTIONS.items()}
    own = (
        config.tuner,
        config.tuner.replace("p_plus", "textual_inversion"),
        config.optim.optimizer,
    )
    for key, kind in kinds.items():
        asked[f"--{key.replace('_', '-')}"] = (bool(given.get(key)), kind in own)
    asked["the pictures' folder"] = (
        None if pictures is None else str(Path(pictures).resolve()),
        config.subject.pictures,
    )
    for option, (value, kept) in asked.items():
        if option != "--steps" and value not in (None, False) and value != kept:
            raise SfumatoError(
                f"--resume: {option} is {kept!r} in this run, not {value!r}; leave it out, or "
                "begin a new run with another -o"
            )
    if given["steps"] is None or given["steps"] == config.optim.steps:
        return config
    replace(config.optim, steps=given["steps"])  # refused where it is out of range
    head, mark, optim = config.text.partition("[optim]")
    line = re.compile(r"(?m)^(\s*steps\s*=\s*)[\d_]+")
    text = head + mark + line.sub(rf"\g<1>{given['steps']}", optim, count=1)
    made = parse(toml_table(text, str(recipe)), text, str(recipe))
    if made.optim.steps != given["steps"]:
        raise SfumatoError(f"--steps: write optim.steps = {given['steps']} into {recipe} yourself")
    return made


def ready(folder: Path, config: Config) -> str:
    """The command that draws what was learned."""
    from sfumato.train import told

    found = told.read(folder)
    prompt = found.prompt or f"a photo of {found.name}"
    whole = config.tuner == "dreambooth" and not config.adapter.rank
    learned = ["--model", str(folder / "model")]
    if not whole:
        learned = ["--model", config.model.start, "--adapt", str(folder)]
        if config.tuner == "textual_inversion":
            learned[-1] = str(folder / found.file)
        if config.model.start == "emoji":
            learned = learned[2:]
    return shlex.join(["sfumato", "generate", "-p", prompt, *learned])


def guessed(pictures: Path, name: str) -> str:
    """What the model's CLIP takes the pictures for; without one the user must say it."""
    from sfumato.models.loaders.library import load
    from sfumato.train.subject import naming
    from sfumato.train.subject.shots import fit, read_shots

    model = load(name, dtype="float32")
    clip = model.clip()
    if clip is None:
        raise SfumatoError(f"dreambooth: {name} has no CLIP to guess by; give --class, such as dog")
    native = [model.card.native]
    shown = [fit(shot, native) for shot in read_shots(pictures)]
    first, *others = naming.guessed(clip, shown, model.card.full_prompt)
    show.errors.print(
        f"class: {first}, by the model's CLIP (then {', '.join(others)}); --class takes another",
        highlight=False,
    )
    return first


def tables(pictures: str, given: dict[str, Any]) -> dict[str, Any]:
    """The recipe as tables."""
    from sfumato.models.loaders.library import BUNDLED

    name = given["model"] or "emoji"
    kind = OWN if name in BUNDLED or (Path(name) / "card.json").is_file() else LATENT
    of_pictures = ("rank", "text", "upsampler", "prior", "class_pictures", "class_folder")
    if given["word"]:
        kind = PER_LAYER if given.get("per_layer") else WORD
        for key in of_pictures:
            if given.get(key) not in (None, False):
                raise SfumatoError(
                    f"{OPTIONS[key][0]}: goes with pictures, not with --word; leave one out"
                )
    elif given.get("per_layer"):
        raise SfumatoError("--per-layer: is of a learned word; give --word too")
    elif given["vectors"] is not None:
        raise SfumatoError("--vectors: are of a learned word; give --word too")
    if given["class_pictures"] is not None and (given["class_folder"] or given["prior"] == 0):
        other = "--class-folder" if given["class_folder"] else "--prior 0"
        raise SfumatoError(f"--class-pictures: none are made with {other}; leave one out")

    def chosen(key: str, default: Any) -> Any:
        return default if given.get(key) is None else given[key]

    steps, rank = chosen("steps", kind["steps"]), chosen("rank", kind["rank"])
    rate = chosen("rate", kind["rate" if rank else "whole"])
    return {
        "name": Path(given["output"]).resolve().name,
        "tuner": kind["tuner"],
        "model": {"start": name},
        "subject": {
            "pictures": str(Path(pictures).resolve()),
            "noun": chosen("noun", ""),
            "name": chosen("name", ""),
            "wording": kind["wording"],
            "prior": float(chosen("prior", 1.0)),
            "class_pictures": chosen("class_pictures", 64),
            "class_folder": _whole(given["class_folder"]),
            "text": bool(given["text"]),
            "upsampler": given.get("upsampler", False),
            "vectors": chosen("vectors", 1),
        },
        "adapter": {"rank": rank, "alpha": float(rank or 8), "targets": kind["targets"]},
        "objective": {"times": "uniform", "weighting": "min-snr"},
        "optim": {
            "batch": chosen("batch", kind["batch"]),
            "steps": steps,
            "rate": float(rate),
            "warmup": max(min(20, steps), 0),
            "decay_from": 0.5,
            "ema": 0.99,
            "weight_decay": kind.get("decay", 0.01),
            "dtype": "float32",
            "optimizer": "adamw-8bit" if given.get("eight_bit") else "adamw",
        },
        "run": {
            "seed": chosen("seed", 0),
            "log": 10,
            "grid": max(steps // 4, 1),
            "judge": max(steps // 4, 1),
            "save_minutes": 1.0,
        },
    }


def _whole(folder: str | None) -> str:
    return str(Path(folder).resolve()) if folder else ""


def toml(data: dict[str, Any]) -> str:
    """Tables as TOML; strings, numbers and booleans are written alike in JSON."""
    tables = {name: table for name, table in data.items() if isinstance(table, dict)}
    top = {name: value for name, value in data.items() if name not in tables}
    lines = _pairs(top)
    for name, table in tables.items():
        lines += ["", f"[{name}]", *_pairs(table)]
    return "\n".join(lines) + "\n"


def _pairs(table: dict[str, Any]) -> list[str]:
    return [f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in table.items()]


def planned(config: Config) -> str:
    """What would run, without making a class picture or touching the run."""
    from sfumato.models.added_words import layers_of
    from sfumato.models.loaders.library import load
    from sfumato.train.subject import class_pictures, naming
    from sfumato.train.subject.shots import read_shots
    from sfumato.train.tuners import dreambooth as tuner

    given, optim, rank = config.subject, config.optim, config.adapter.rank
    model = load(config.model.start, dtype="float32")
    shots = read_shots(Path(given.pictures))
    tokens = tuner.tokens_of(model)
    name = given.name or tuner.named(model, config.run.seed)
    known = tuner.vocabulary_of(model) if given.name else ()
    count = len(naming.inspected(tokens, name, known, tuner.spelled_by(model)))
    text = model.phrase(given.wording.format(given.noun))
    said = model.phrase(given.wording.format(f"{name} {given.noun}"))
    if config.tuner != "dreambooth":
        apart = f" for each of {layers_of(model)} layers" if config.tuner == "p_plus" else ""
        return (
            f"pictures: {', '.join(shot.name for shot in shots)}\n"
            f"training: {given.vectors} vector(s) of a word{apart}, {optim.steps} steps of "
            f"{optim.batch}, rate {optim.rate:g}"
        )
    missing: list[int] = []
    if given.prior and not given.class_folder:
        wanted = (given.class_pictures, config.run.seed, optim.batch)
        missing = class_pictures.Wanted(model, text, *wanted).missing()
    rows = f"{optim.batch} + {optim.batch}" if given.prior else str(optim.batch)
    if given.upsampler and not model.upsamplers:
        raise SfumatoError(f"--upsampler: model {model.name} has none; leave it out")
    what = f"an adapter of rank {rank}" if rank else "the whole network"
    what += " and its upsampler" if given.upsampler else ""
    lines = [
        f"pictures: {', '.join(shot.name for shot in shots)}",
        f"subject: {said!r}; its name is {count} token(s)",
        f"class: {text!r}, {len(missing)} pictures to make",
        f"training: {what}, {optim.steps} steps of {rows} pictures, rate {optim.rate:g}",
    ]
    return "\n".join(lines)
