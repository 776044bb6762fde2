"""What a command line asks for, before any model: a recipe, and the methods that go on top."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sfumato import images
from sfumato.cli.fields import Wanted
from sfumato.core.errors import SfumatoError, quoted, shortened
from sfumato.core.ranges import real
from sfumato.core.spacing import NAMES
from sfumato.images.photos import photographic
from sfumato.measure.axis import Axis
from sfumato.methods import find
from sfumato.models import replay as replays
from sfumato.models.known_words import known_words, unknown_words
from sfumato.models.loaders import library
from sfumato.recipe import Recipe
from sfumato.recipe.fields import STRENGTH

TARGET = "rms"  # what a search goes by where nothing else is said
FIELDS = (
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


@dataclass(frozen=True)
class Asked:
    """recipe: --recipe, if any, with the options on top. methods: go on top of the recipe's.

    model: as it was typed, None where it is the recipe's; adapters: typed names with strengths.
    folders: where what the recipe names is looked for. parents: recipes it stems from. retimed: its
    spacing is not the recipe's.
    """

    recipe: Recipe
    methods: Sequence[Wanted]
    model: str | None
    adapters: Sequence[tuple[str, float]]
    folders: list[Path]
    parents: tuple[str, ...]
    retimed: bool = False

    @property
    def searches(self) -> tuple[str, ...]:
        """METHOD.FIELD of every number that is to be searched for."""
        return tuple(f"{m.cls.id}.{field}" for m in self.methods for field in m.searched)


def asked(methods: Sequence[Wanted], values: Mapping[str, Any]) -> Asked:
    """--recipe, then the options."""
    for name in ("model", "recipe", "solver", "spacing", "size"):
        if values[name] == "":
            raise SfumatoError(f"--{name}: is empty; leave it out, or say which")
    check_base(methods, values)
    source = values["recipe"]
    start = Recipe(model="emoji") if source is None else replays.read_recipe(source)
    parents = () if source is None else (start.id,)
    if "index" in start.run:  # a picture of a batch: that one, not its batch
        run = start.run.copy()
        del run["index"]
        start = replace(start, seed=start.seed + start.run["index"], n=1, run=run)
    options = {name: values[name] for name in FIELDS if values.get(name) is not None}
    if options.get("seed") == "random":
        options["seed"] = secrets.randbelow(1 << 31)
        logging.getLogger("sfumato").info("seed %d", options["seed"])
    if values["size"] is not None:
        options["size"] = parse_size(values["size"])
    if values["spacing"] is not None:
        options["spacing"] = parse_spacing(values["spacing"])
    if ("spacing" in options) != ("steps" in options):  # each may fix what the recipe's other says
        fixed = options.get("spacing", start.spacing)
        if fixed is not None and fixed not in NAMES:
            options |= {"steps": options.get("steps"), "spacing": options.get("spacing")}
    wanted = replace(start, **options)
    Recipe.from_data(replace(wanted, embedded={}).to_data(), "command line")  # before a model loads
    here = Path.cwd()
    folders = [here] if source is None else [Path(source).resolve().parent, here]
    adapters = [parse_adapter(text) for text in values["adapt"]]
    retimed = "spacing" in options
    return Asked(wanted, methods, values["model"], adapters, folders, parents, retimed)


BASES_OWN = ("negative", "stages", "steps", "solver", "spacing", "size")
"""Options of the base, which a start that leaves it out (upscale) does not read."""


def check_base(
    methods: Sequence[Wanted], values: Mapping[str, Any], over: Axis | None = None
) -> None:
    """Refuse what is typed for a base that the verb leaves out.

    over: what is swept.
    """
    verb = next((m.cls.id for m in methods if getattr(m.cls, "upsamples", False)), None)
    if verb is None:
        return
    idle = [f"--{name}" for name in BASES_OWN if values[name] is not None]
    idle += [m.cls.id for m in methods if m.cls.id != verb and m.cls.stages == "base"]
    if over is not None and _of_base(over.method, verb):
        idle.append(f"--over {over.method or over.field}")
    if idle:
        raise SfumatoError(f"{verb}: leaves the base out, where {idle[0]} acts; leave that out too")


def _of_base(method: str, verb: str) -> bool:
    """Whether a method that is swept, or the process itself, acts in the base alone."""
    return not method or (method != verb and find(method).stages == "base")


def check_target(asked: Asked, values: Mapping[str, Any]) -> None:
    """--target says how to search, so something must be searched for."""
    if not asked.searches and values["target"] != TARGET:
        raise SfumatoError(f"--target {values['target']}: no field is given as auto; leave it out")


def say_what_it_knows(name: str, title: str, methods: Sequence[Any], asked: Asked) -> None:
    """A line where the bundled model, which saw drawings of some things alone, is given a photo,
    and one where half of the prompt's words or more are none of its captions'."""
    if name not in library.BUNDLED:
        return
    known = known_words(library.BUNDLED[name])
    strange = unknown_words(asked.recipe.prompt, known)
    if strange and not (asked.adapters or asked.recipe.adapters):  # which teach words of their own
        logging.getLogger("sfumato").info(
            "prompt: no caption that model %s learned from has %s; it knows %s",
            name, ", ".join(f"“{word}”" for word in strange), title.partition(",")[0],
        )  # fmt: skip
    photo = next((text for text, p in images.guides_of(methods).items() if photographic(p)), None)
    if photo is not None:
        logging.getLogger("sfumato").info(
            "%s: looks like a photo; model %s knows %s; `sfumato models` lists models of photos",
            photo, name, title.partition(",")[0],
        )  # fmt: skip


def plan_text(lines: Sequence[str]) -> str:
    """A plan's sentences as they are printed."""
    return "\n".join([*lines, "Nothing was made or written; leave --plan out to run it."])


def parse_spacing(text: str) -> str | tuple[float, ...]:
    """A rule's name, a respacing of whole numbers, or times such as 0.9,0.5,0.1."""
    if "," not in text or "." not in text:
        return text
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise SfumatoError(
            f"--spacing {shortened(text)}: write times such as 0.9,0.5,0.1"
        ) from None


def parse_size(text: str | None) -> Any:
    """N, WxH, "input" or "native"."""
    if text is None or text in ("input", "native"):
        return text
    try:
        sides = [int(side) for side in text.lower().split("x")]
    except ValueError:
        sides = []
    if len(sides) not in (1, 2):
        raise SfumatoError(f"--size {shortened(text)}: write N, WxH, input or native")
    return sides[0] if len(sides) == 1 else (sides[0], sides[1])


def parse_adapter(text: str) -> tuple[str, float]:
    """NAME or FILE, maybe with =STRENGTH."""
    name, equals, strength = text.rpartition("=")
    name = name if equals else text
    if not name:
        raise SfumatoError(f"--adapt {quoted(text)}: write NAME or FILE, maybe =STRENGTH")
    try:
        scale = float(strength) if equals else 1.0
    except ValueError:
        raise SfumatoError(
            f"--adapt {shortened(text)}: strength {quoted(strength)} is no number"
        ) from None
    return name, real(scale, "--adapt: strength", STRENGTH)
