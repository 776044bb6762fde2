"""`sfumato dreambooth`: options to a training recipe in the run folder, then the trainer."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from sfumato.cli import show
from sfumato.core.errors import SfumatoError

log = logging.getLogger("sfumato")

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


def dreambooth(pictures: str | None, **given: Any) -> None:
    """Write the recipe, or read it again with --resume; train; the run folder on stdout."""
    folder, quiet = Path(given["output"]), bool(given["quiet"])
    recipe = folder / "recipe.toml"
    if given["resume"]:
        if not recipe.is_file():
            raise SfumatoError(f"--resume: {folder} holds no run; leave --resume out to begin one")
    else:
        written(recipe, pictures, given)
    if given["plan"]:
        print(planned(recipe))
        return
    from sfumato.train import program
    from sfumato.train.config import read

    config = read(recipe)
    program.work(config, Path(config.subject.pictures), folder, None, given["device"], quiet)
    print(folder)


def written(recipe: Path, pictures: str | None, given: dict[str, Any]) -> None:
    """The recipe of the options; another one in a folder with a run is refused."""
    if pictures is None:
        raise SfumatoError("dreambooth: give the folder with the subject's pictures")
    given = {**given, "noun": given["noun"] or guessed(Path(pictures), given["model"])}
    text = toml(tables(pictures, given))
    if (recipe.parent / "state.safetensors").is_file() and recipe.read_text("utf-8") != text:
        raise SfumatoError(
            f"{recipe.parent}: holds a run with other settings; give --resume to go on with those, "
            "or another -o"
        )
    recipe.parent.mkdir(parents=True, exist_ok=True)
    recipe.write_text(text, encoding="utf-8")


def guessed(pictures: Path, name: str) -> str:
    """What the model's CLIP takes the pictures for; without one the user must say it."""
    from sfumato.models.library import load
    from sfumato.train import subject

    model = load(name, dtype="float32")
    clip = model.get("clip")
    if clip is None:
        raise SfumatoError(f"dreambooth: {name} has no CLIP to guess by; give --class, such as dog")
    native = [model.card.native]
    shown = [subject.fitted(shot, native) for shot in subject.shots(pictures)]
    first, *others = subject.guessed(clip, shown, model.card.full_prompt)
    show.errors.print(
        f"class: {first}, by the model's CLIP (then {', '.join(others)}); --class takes another",
        highlight=False,
    )
    return first


def tables(pictures: str, given: dict[str, Any]) -> dict[str, Any]:
    """The recipe as tables."""
    from sfumato.models.library import BUNDLED

    name = given["model"]
    kind = OWN if name in BUNDLED or (Path(name) / "card.json").is_file() else LATENT
    if given["word"]:
        kind = PER_LAYER if given.get("per_layer") else WORD
        if given.get("upsampler"):
            raise SfumatoError("--upsampler: goes with pictures, not with --word; leave one out")
    elif given.get("per_layer"):
        raise SfumatoError("--per-layer: is of a learned word; give --word too")
    steps = given["steps"] or kind["steps"]
    rank = kind["rank"] if given["rank"] is None else given["rank"]
    rate = given["rate"] or kind["rate" if rank else "whole"]
    return {
        "name": Path(given["output"]).name,
        "tuner": kind["tuner"],
        "model": {"start": given["model"]},
        "subject": {
            "pictures": str(Path(pictures).resolve()),
            "noun": given["noun"],
            "name": given["name"],
            "wording": kind["wording"],
            "prior": float(given["prior"]),
            "class_pictures": given["class_pictures"],
            "class_folder": given["class_folder"],
            "text": given["text"],
            "upsampler": given.get("upsampler", False),
            "vectors": given["vectors"],
        },
        "adapter": {"rank": rank, "alpha": float(rank or 8), "targets": kind["targets"]},
        "objective": {"times": "uniform", "weighting": "min-snr"},
        "optim": {
            "batch": int(given["batch"] or kind["batch"]),
            "steps": steps,
            "rate": float(rate),
            "warmup": min(20, steps),
            "decay_from": 0.5,
            "ema": 0.99,
            "weight_decay": kind.get("decay", 0.01),
            "dtype": "float32",
            "optimizer": "adamw-8bit" if given.get("eight_bit") else "adamw",
        },
        "run": {
            "seed": given["seed"],
            "log": 10,
            "grid": max(steps // 4, 1),
            "judge": max(steps // 4, 1),
            "save_minutes": 1.0,
        },
    }


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


def planned(recipe: Path) -> str:
    """What would run, without making a class picture or touching the run."""
    from sfumato.models.adapters import layers_of
    from sfumato.models.library import load
    from sfumato.train import classes, subject
    from sfumato.train.config import read
    from sfumato.train.tuners import dreambooth as tuner

    config = read(recipe)
    given, optim, rank = config.subject, config.optim, config.adapter.rank
    model = load(config.model.start, dtype="float32")
    shots = subject.shots(Path(given.pictures))
    tokens = tuner.tokens_of(model)
    name = given.name or tuner.named(model, config.run.seed)
    count = len(subject.inspected(tokens, name))
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
        missing = classes.missing(model, text, given.class_pictures, config.run.seed)
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
