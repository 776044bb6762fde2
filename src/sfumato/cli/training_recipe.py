"""The training recipe that the options of `sfumato dreambooth` say, as tables and as TOML."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfumato.core.errors import SfumatoError

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


TUNERS = {"patches": "sine", "custom": "custom_diffusion"}
WAYS = ("word", *TUNERS)
"""Options that say what is learned."""
FIELDS = {
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


def of(
    pictures: str | None,
    options: dict[str, Any],
    guess: Callable[[Path, dict[str, Any]], str],
    own: Callable[[str], bool] | None = None,
) -> Config:
    """The recipe that the options say. guess: what pictures show, given the recipe so far; own:
    whether a model was trained with sfumato, where that is not seen here."""
    from sfumato.train.config import parse
    from sfumato.train.tables import toml

    if pictures is None:
        raise SfumatoError("dreambooth: give the folder with the subject's pictures")
    recipe = tables(pictures, options, own)
    _check(recipe)  # before the model is asked what the pictures show
    recipe["subject"]["noun"] = options["noun"] or guess(Path(pictures), recipe)
    _check(recipe)
    return parse(recipe, toml(recipe))


def _check(recipe: dict[str, Any]) -> None:
    """Refuses what a field does not take, by the name of its option."""
    from sfumato.train.config import parse

    try:
        parse(recipe, where="dreambooth")
    except SfumatoError as error:
        message = str(error)
        for option, name in FIELDS.values():
            message = message.replace(f"{name} = ", f"{option} ")
        raise SfumatoError(message) from None


def guessed(pictures: Path, recipe: dict[str, Any]) -> str:
    """What the model's CLIP takes the pictures for; without one the user must say it."""
    from sfumato.models.loaders.library import load
    from sfumato.train.subject import planning

    return taken(planning.nouns(load(recipe["model"]["start"], dtype="float32"), pictures))


def taken(nouns: Sequence[str]) -> str:
    """The likeliest noun, which is said with the others."""
    from sfumato.cli import show

    first, *others = nouns
    show.errors.print(
        f"class: {first}, by the model's CLIP (then {', '.join(others)}); --class takes another",
        highlight=False,
    )
    return first


def tables(
    pictures: str, options: dict[str, Any], own: Callable[[str], bool] | None = None
) -> dict[str, Any]:
    """The recipe as tables."""
    from sfumato.models.loaders.library import is_own
    from sfumato.train.reads import reads_of

    name = options["model"] or "emoji"
    kind = OWN if (own or is_own)(name) else LATENT
    of_pictures = ("rank", "text", "upsampler", "prior", "class_pictures", "class_folder")
    if options["word"]:
        kind = PER_LAYER if options.get("per_layer") else WORD
        for key in of_pictures:
            if options.get(key) not in (None, False):
                raise SfumatoError(
                    f"{FIELDS[key][0]}: goes with pictures, not with --word; leave one out"
                )
    elif options.get("per_layer"):
        raise SfumatoError("--per-layer: is of a learned word; give --word too")
    elif options["vectors"] is not None and not (options.get("custom") and kind is LATENT):
        raise SfumatoError("--vectors: are of a learned word; give --word too")
    if sum(bool(options.get(way)) for way in WAYS) > 1:
        both = " and ".join(f"--{way}" for way in WAYS if options.get(way))
        raise SfumatoError(f"{both}: are two ways to learn; leave one out")
    for way, tuner in TUNERS.items():
        if options.get(way):
            kind = {**kind, "tuner": tuner}
            for key in ("text", "upsampler"):
                if options.get(key):
                    raise SfumatoError(f"--{key}: is not trained with --{way}; leave one out")
    if options.get("custom"):
        kind["targets"] = ["text_kv"]
    if options.get("patches"):
        for key in ("prior", "class_pictures", "class_folder"):
            if options.get(key):
                raise SfumatoError(f"{FIELDS[key][0]}: --patches has no class; leave one out")
        options = {**options, "prior": 0.0}
    if options["class_pictures"] is not None and (options["class_folder"] or options["prior"] == 0):
        other = "--class-folder" if options["class_folder"] else "--prior 0"
        raise SfumatoError(f"--class-pictures: none are made with {other}; leave one out")
    if options["class_folder"] and options["prior"] == 0:
        raise SfumatoError("--class-folder: is not read with --prior 0; leave one out")

    def chosen(key: str, default: Any) -> Any:
        return default if options.get(key) is None else options[key]

    steps, rank = chosen("steps", kind["steps"]), chosen("rank", kind["rank"])
    rate = chosen("rate", kind["rate" if rank else "whole"])
    prior = float(chosen("prior", 1.0))
    classes: dict[str, Any] = {}
    classed = reads_of(kind["tuner"]).classes
    if classed and options["class_folder"]:
        classes["class_folder"] = _whole(options["class_folder"])
    elif classed and prior:
        classes["class_pictures"] = chosen("class_pictures", 64)
    adapter: dict[str, Any] = {}
    if not options["word"]:
        adapter = {"rank": rank, "alpha": float(rank or 8)}
        adapter |= {"targets": kind["targets"]} if rank else {}
    return {
        "name": Path(options["output"]).resolve().name,
        "tuner": kind["tuner"],
        "model": {"start": name},
        "subject": {
            "pictures": str(Path(pictures).resolve()),
            "noun": chosen("noun", ""),
            "name": chosen("name", ""),
            "wording": kind["wording"],
            "prior": prior,
            **classes,
            "text": bool(options["text"]),
            "upsampler": options.get("upsampler", False),
            "vectors": chosen("vectors", 1),
        },
        "adapter": adapter,
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
            "optimizer": "adamw-8bit" if options.get("eight_bit") else "adamw",
        },
        "run": {
            "seed": chosen("seed", 0),
            "log": 10,
            "grid": max(steps // 4, 1),
            "judge": max(steps // 4, 1),
            "save_minutes": 1.0,
        },
    }


def _whole(folder: str) -> str:
    return str(Path(folder).resolve())
