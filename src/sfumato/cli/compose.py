"""What a command line describes, composed: a recipe, options and methods become a process."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sfumato import images
from sfumato.cli import show
from sfumato.cli.fields import Wanted
from sfumato.core.errors import SfumatoError, quoted, shortened
from sfumato.core.process import Process
from sfumato.core.ranges import SEEDS, real, whole
from sfumato.core.spacing import NAMES
from sfumato.images.photos import photographic
from sfumato.models import replay as replays
from sfumato.models.cascade import base_of
from sfumato.models.loaders import library
from sfumato.models.model import Model
from sfumato.models.result import Result
from sfumato.recipe import Recipe
from sfumato.recipe.fields import STRENGTH


@dataclass(frozen=True)
class Composed:
    """What a command line describes: the process, its first seed, the recipes it stems from.

    searches: METHOD.FIELD of every number that is still to be searched for (`with_numbers`).
    """

    process: Any
    seed: int
    parents: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()

    @property
    def base(self) -> Process:
        """The process itself, or of a cascade its base."""
        return base_of(self.process)

    @property
    def size(self) -> tuple[int, int] | None:
        """Of the pictures, (width, height); None where the run begins from states."""
        resolved = self.base.resolved()
        frame, _ = resolved.frame(resolved.place)
        return frame.target if frame else None

    def with_numbers(self, values: dict[str, Any]) -> Composed:
        """Every search done: its number in the process, its curve among the parents."""
        process, parents = self.process, self.parents
        for name in self.searches:
            number = search(process, name, values, self.seed)
            method, _, field = name.partition(".")
            process = process.revised(method, **{field: number.value})
            parents = (*parents, number.curve.id)
        return Composed(process, self.seed, parents)

    def sample(self, progress: Any = None) -> Result:
        """Run it; the recipes name their parents."""
        result: Result = self.process.sample(self.seed, progress=progress)
        return result.descended(self.parents) if self.parents else result


TARGET = "rms"  # what a search goes by where nothing else is said
ASKED = (
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
    """--recipe, then the options, then the methods; those already there get their fields.

    models: those loaded so far, by name, for callers that compose many.
    """
    for name in ("model", "recipe", "solver", "spacing", "size"):
        if values[name] == "":
            raise SfumatoError(f"--{name}: is empty; leave it out, or say which")
    source = values["recipe"]
    start = Recipe(model="emoji") if source is None else replays.read_recipe(source)
    parents = () if source is None else (start.id,)
    if "index" in start.run:  # a picture of a batch: that one, not its batch
        start = replace(start, seed=start.seed + start.run["index"], n=1, run={})
    asked = {name: values[name] for name in ASKED if values.get(name) is not None}
    if asked.get("seed") == "random":
        asked["seed"] = secrets.randbelow(1 << 31)
        logging.getLogger("sfumato").info("seed %d", asked["seed"])
    if values["size"] is not None:
        asked["size"] = parse_size(values["size"])
    if values["spacing"] is not None:
        asked["spacing"] = parse_spacing(values["spacing"])
    if ("spacing" in asked) != ("steps" in asked):  # each may fix what the recipe's other says
        fixed = asked.get("spacing", start.spacing)
        if fixed is not None and fixed not in NAMES:
            asked |= {"steps": asked.get("steps"), "spacing": asked.get("spacing")}
    wanted = replace(start, **asked)
    Recipe.from_data(replace(wanted, embedded={}).to_data(), "command line")  # before a model loads
    folders = [Path.cwd()] if source is None else [Path(source).resolve().parent, Path.cwd()]
    loaded = {} if models is None else models
    typed: str | None = values["model"]
    name = typed or start.model
    if name not in loaded:
        model = library.load(
            typed or replays.resolve_model(start.model, folders),
            device=values["device"],
            dtype=values["dtype"],
            download=values["download"],
        )
        model = replays.with_adapters(wanted, model, folders)
        for text in values["adapt"]:
            model = model.adapt(*parse_adapter(text))
        loaded[name] = model
    model = loaded[name]
    process: Any = replays.compose(wanted, model, folders)
    for method in methods:
        process = method.onto(process)
    searches = tuple(f"{m.cls.id}.{field}" for m in methods for field in m.searched)
    if not searches and values["target"] != TARGET:
        raise SfumatoError(f"--target {values['target']}: no field is given as auto; leave it out")
    if models is None:
        say_what_it_knows(model, process.methods)
    return Composed(process, whole(wanted.seed, "seed", SEEDS), parents, searches)


def say_what_it_knows(model: Model, methods: Sequence[Any]) -> None:
    """One line where a photo is given to the bundled model, which has seen drawings alone."""
    if model.name not in library.BUNDLED:
        return
    photo = next((name for name, p in images.guides_of(methods).items() if photographic(p)), None)
    if photo is not None:
        logging.getLogger("sfumato").info(
            "%s: looks like a photo; model %s knows %s; `sfumato models` lists models of photos",
            photo, model.name, model.card.title.partition(",")[0],
        )  # fmt: skip


def search(process: Any, name: str, values: dict[str, Any], seed: int) -> Any:
    """The number for a field given as "auto"."""
    from sfumato.measure import auto
    from sfumato.measure.search import goal_of

    measure, goal = goal_of(values["target"])
    number = auto(
        process, name, measure=measure, target=goal, seed=seed,
        say=logging.getLogger("sfumato").info,
    )  # fmt: skip
    show.errors.print(f"{name} = {number.value:g} ({number.curve.rule})")
    return number


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
