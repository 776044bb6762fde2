"""What a command line asks for, ready to run: composed on a model here, or sent to a server."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from json import dumps
from typing import Any, Protocol

from sfumato.cli import show
from sfumato.cli.asked import Asked, asked, check_target, plan_text, say_what_it_knows
from sfumato.cli.fields import Wanted
from sfumato.cli.remote import sent
from sfumato.cli.remote.chosen import chosen
from sfumato.cli.swept import Swept, swept_here
from sfumato.core.process import Process
from sfumato.core.ranges import SEEDS, whole
from sfumato.measure.axis import Axis
from sfumato.models import cost
from sfumato.models import replay as replays
from sfumato.models.cascade import base_of
from sfumato.models.loaders import library
from sfumato.models.planning import plan_data, sentences
from sfumato.models.result import Result


class Run(Protocol):
    """What is ready to run, here or elsewhere.

    prompt: as files are called; size: of the pictures, None where it is not known before.
    """

    @property
    def methods(self) -> Sequence[Any]: ...
    @property
    def prompt(self) -> str: ...
    @property
    def seed(self) -> int: ...
    @property
    def n(self) -> int: ...
    @property
    def size(self) -> tuple[int, int] | None: ...

    def with_numbers(self, values: dict[str, Any]) -> Run:
        """With every number found that is to be searched for."""

    def plan(self, as_json: bool) -> str:
        """What would run, as it is printed."""

    def watched(self, quiet: bool) -> AbstractContextManager[Any]:
        """Progress while it runs: what `sample` is given."""

    def sample(self, progress: Any = None) -> Result:
        """Run it; the recipes name their parents."""

    def swept(self, over: Axis, values: dict[str, Any], update: Callable[[int], None]) -> Swept:
        """Vary a field of it; update: told how many values are done."""


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
    def methods(self) -> Sequence[Any]:
        methods: Sequence[Any] = self.process.methods
        return methods

    @property
    def prompt(self) -> str:
        return self.base.prompt

    @property
    def n(self) -> int:
        return self.base.n

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

    def plan(self, as_json: bool) -> str:
        data = plan_data(self.process, self.seed)
        return dumps(data) if as_json else plan_text(sentences(self.process, self.seed, data))

    def watched(self, quiet: bool) -> AbstractContextManager[Any]:
        return show.progress(self.process.calls, quiet, cost.shares(self.process))

    def sample(self, progress: Any = None) -> Result:
        result: Result = self.process.sample(self.seed, progress=progress)
        return result.descended(self.parents) if self.parents else result

    def swept(self, over: Axis, values: dict[str, Any], update: Callable[[int], None]) -> Swept:
        return swept_here(self.process, over, values, self.seed, self.parents, update)


@dataclass(frozen=True)
class Replayed(Composed):
    """A recipe composed again, of whose batch maybe one picture is wanted."""

    again: replays.Replay = field(kw_only=True)

    def sample(self, progress: Any = None) -> Result:
        return self.again.sample(progress)


def composed(
    methods: Sequence[Wanted], values: dict[str, Any], models: dict[str, Any] | None = None
) -> Run:
    """--recipe, then the options, then the methods; those already there get their fields.

    models: those loaded so far, by name, for callers that compose many.
    """
    wanted = asked(methods, values)
    if (server := chosen()) is not None:
        run: Run = sent.composed(server, wanted, values, models)
        return run
    return composed_here(wanted, values, models)


def replayed(source: str, values: dict[str, Any]) -> Run:
    """A picture or a recipe, to be run as it was."""
    if (server := chosen()) is not None:
        run: Run = sent.replayed(server, source, values)
        return run
    dtype = None if values["dtype"] == "auto" else values["dtype"]
    again = replays.Replay.of(
        source, device=values["device"], dtype=dtype, offload=values["offload"]
    )
    return Replayed(again.process, again.recipe.seed, again=again)


def composed_here(wanted: Asked, values: dict[str, Any], models: dict[str, Any] | None) -> Composed:
    """The same on a model that is loaded here."""
    recipe, folders = wanted.recipe, wanted.folders
    loaded = {} if models is None else models
    name = wanted.model or recipe.model
    if name not in loaded:
        model = library.load(
            wanted.model or replays.resolve_model(recipe.model, folders),
            device=values["device"],
            dtype=values["dtype"],
            offload=values["offload"],
            download=values["download"],
        )
        model = replays.with_adapters(recipe, model, folders)
        for adapter in wanted.adapters:
            model = model.adapt(*adapter)
        loaded[name] = model
    model = loaded[name]
    process: Any = replays.compose(recipe, model, folders, other_times=wanted.retimed)
    for method in wanted.methods:
        process = method.onto(process)
    check_target(wanted, values)
    if models is None:
        say_what_it_knows(model.name, model.card.title, process.methods, wanted)
    seed = whole(recipe.seed, "seed", SEEDS)
    return Composed(process, seed, wanted.parents, wanted.searches)


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
