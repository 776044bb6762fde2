"""What would run as a job: a recipe with its pictures, done by a server as `Composed` does it here.

Nothing of it is about a method: what methods say is in the recipe, and their pictures are found
among their fields.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from sfumato import documents, images
from sfumato.cli import show
from sfumato.cli.asked import Asked, check_target, plan_text, say_what_it_knows
from sfumato.cli.remote import sweeping
from sfumato.cli.remote.chosen import Chosen
from sfumato.cli.remote.results import result_of
from sfumato.cli.remote.server import Server, done, server_of
from sfumato.cli.remote.weights import Recorded, referred
from sfumato.cli.swept import Swept
from sfumato.core.errors import SfumatoError
from sfumato.measure.axis import Axis, written
from sfumato.methods import from_data
from sfumato.methods.common.named import weights_fields
from sfumato.methods.common.secret import secrets_of
from sfumato.models import recorded
from sfumato.models import replay as replays
from sfumato.models.files.adapter_folders import only_file
from sfumato.models.result import Result
from sfumato.recipe import Recipe
from sfumato.recipe.fields import UNKNOWN, Adapter
from sfumato.recipe.names import bare
from sfumato.server.events import AnyEvent, Step

ADAPTER_BYTES = 16 << 30
PLAN = ("prompt", "calls", "times", "solver", "work_size", "size", "edited", "seconds", "work",
        "weights", "memory", "peaks", "methods", "recipe")  # fmt: skip
"""What a plan here says."""


log = logging.getLogger("sfumato")


@dataclass(frozen=True)
class Sent:
    """A recipe for a server. methods: as in the recipe, with their pictures.

    searches: METHOD.FIELD of numbers that the server finds first, by `target`.
    """

    server: Server
    recipe: Recipe
    methods: Sequence[Any]
    searches: tuple[str, ...] = ()
    target: str = "rms"

    @property
    def prompt(self) -> str:
        return self.server.model(self.recipe.model).phrase(self.recipe.prompt)

    @property
    def seed(self) -> int:
        return self.recipe.seed

    @property
    def n(self) -> int:
        return self.recipe.n

    @property
    def size(self) -> tuple[int, int] | None:
        """The server knows; what cannot be saved as it was asked is saved as a PNG."""
        return None

    @property
    def inputs(self) -> list[images.ImageInput]:
        return [picture for method in self.methods for picture in images.inputs_of(method)]

    @property
    def row(self) -> dict[str, Any]:
        """What is asked of the server."""
        recipe = self.recipe.to_data()
        recipe["methods"] = [
            {**entry, **{name: getattr(method, name).text(name) for name in secrets_of(method)}}
            for entry, method in zip(recipe["methods"], self.methods, strict=True)
        ]
        return {"recipe": recipe, "search": list(self.searches), "target": self.target}

    def with_numbers(self, values: Mapping[str, Any]) -> Sent:
        """The server searches, in the job."""
        return self

    def plan(self, as_json: bool) -> str:
        self.server.upload(self.inputs)
        plan = self._found_first() if self.searches else self.server.plan(self.row)
        for note in plan.get("notes", ()):
            log.info("%s", note)
        if as_json:
            return json.dumps({name: plan[name] for name in PLAN})
        return plan_text(plan["sentences"])

    def _found_first(self) -> dict[str, Any]:
        """The plan, where numbers have to be found before: that takes a job."""
        (id,) = self.server.send([{"kind": "plan", **self.row}])
        job = done(self.server.follow(id))
        text = self.server.fetch(id, job.results[0])
        return documents.parse_json(dict[str, Any], text, job.results[0].name)

    @contextmanager
    def watched(self, quiet: bool) -> Iterator[Any]:
        """A bar over the job's network calls."""
        with show.followed("waits", quiet) as update:

            def watch(event: AnyEvent) -> None:
                if isinstance(event, Step):
                    stage = "base" if event.stage == 0 else f"upsampler {event.stage}"
                    at = event.progress
                    update(f"{stage} {event.i}/{event.n}", at.done, at.total)

            yield watch

    def sample(self, progress: Any = None) -> Result:
        self.server.upload(self.inputs)
        (id,) = self.server.send([{"kind": "recipe", **self.row}])
        job = self.server.follow(id, progress or (lambda event: None))
        return result_of(self.server, done(job))

    def swept(self, over: Axis, values: Mapping[str, Any], update: Callable[[int], None]) -> Swept:
        prompts = [self.server.model(self.recipe.model).phrase(t) for t in values["prompts"]]
        self.server.upload(self.inputs)
        asked = {
            **self.row, "kind": "sweep", "over": written(over), "seeds": values["seeds"],
            "prompts": list(values["prompts"]), "choose": values["choose"],
        }  # fmt: skip
        cells = [(text, v) for text in dict.fromkeys(prompts or [self.prompt]) for v in over.values]
        folder = Path(values["folder"])
        return sweeping.swept(self.server, asked, folder, over, cells, update)


def composed(
    chosen: Chosen, asked: Asked, values: Mapping[str, Any], models: dict[str, Any] | None
) -> Sent:
    """What was asked for, to be sent. models: given by callers that compose many."""
    check_here(values)
    server = server_of(chosen)
    recipe = replace(
        asked.recipe, model=bare(asked.model or asked.recipe.model), parents=asked.parents,
        embedded={}, run=dtype_of(values["dtype"]), versions={},
    )  # fmt: skip
    offered = server.model(recipe.model)
    with replays.inputs_from(asked.recipe, asked.folders):
        methods = [from_data(entry, "recipe") for entry in recipe.methods]
    for wanted in asked.methods:
        methods = wanted.among(methods)
    check_way(server, methods)
    check_target(asked, values)
    if models is None:
        say_what_it_knows(offered.name, offered.title, methods, asked)
    adapters = (adapter_of(text, scale, offered.adapters) for text, scale in asked.adapters)
    entries = tuple(referred(server, method, recorded_weights(asked.recipe)) for method in methods)
    recipe = replace(recipe, adapters=(*recipe.adapters, *adapters), methods=entries)
    return Sent(server, recipe, methods, asked.searches, values["target"])


def replayed(chosen: Chosen, source: str, values: Mapping[str, Any]) -> Sent:
    """A recipe as it was recorded, to be sent."""
    check_here(values)
    server, recipe = server_of(chosen), replays.read_recipe(source, whole=True)
    server.model(recipe.model)
    with replays.inputs_from(recipe, [Path(source).resolve().parent, Path.cwd()]):
        methods = [from_data(entry, "recipe") for entry in recipe.methods]
    run: Any = {**recipe.run, **dtype_of(values["dtype"])}
    entries = tuple(
        {**entry, **{name: told[name] for name in weights_fields(type(method)) if name in entry}}
        for entry, method in zip(recipe.methods, methods, strict=True)
        for told in [referred(server, method, recorded_weights(recipe))]
    )
    return Sent(server, replace(recipe, embedded={}, run=run, methods=entries), methods)


def check_way(server: Server, methods: Sequence[Any]) -> None:
    """Secrets go to a server by a way that nobody reads."""
    for method in methods:
        if (secrets := secrets_of(method)) and not server.connection.private:
            raise SfumatoError(
                f"{method.id}: {secrets[0]} is a secret, which others could read on the way to "
                f"{server.connection.url}; take https, or a tunnel"
            )


def recorded_weights(recipe: Recipe) -> Recorded:
    """What a recipe's run says of weights that methods brought."""
    used = recorded.method_weights(recipe.run)
    return {(field.partition(" ")[0], name): sha256 for field, (name, sha256) in used.items()}


def check_here(values: Mapping[str, Any]) -> None:
    """Options that say what this machine does."""
    if values["device"] != "auto":
        raise SfumatoError(f"--device {values['device']}: the server has its own; leave it out")
    if values["offload"] != "none":
        raise SfumatoError(f"--offload {values['offload']}: the server has its own; leave it out")
    if values.get("download"):
        raise SfumatoError("--download: a server offers what it has; leave it out")


def dtype_of(dtype: str) -> Any:
    """What a recipe says of the number format, which its run then takes."""
    return {} if dtype == "auto" else {"dtype": dtype}


def adapter_of(text: str, scale: float, named: Mapping[str, str]) -> Adapter:
    """An adapter of the server: a name on the model's card, a file that it offers or has made."""
    path = Path(text)
    if text not in named and path.exists():
        file = only_file(path) if path.is_dir() else path
        data = documents.read_bytes(file, ADAPTER_BYTES)
        return {"file": file.name, "sha256": sha256(data).hexdigest(), "scale": scale}
    return {"file": bare(named.get(text, text)), "sha256": UNKNOWN, "scale": scale}
