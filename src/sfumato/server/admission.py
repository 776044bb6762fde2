"""What a request must be to become a job: within the limits, of what is offered, of own pictures.

Whatever can be said without a network is said here, in one line, before anything is kept.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sfumato import images, methods
from sfumato.core.errors import SfumatoError
from sfumato.measure.filled import check_fills
from sfumato.methods import Method
from sfumato.methods.common.named import named_weights, weights_fields
from sfumato.recipe import Recipe
from sfumato.recipe.names import Reference
from sfumato.recipe.places import offered
from sfumato.server import requests
from sfumato.server.offered import Catalogue, own_weights
from sfumato.server.requests import AnyJob
from sfumato.server.runner.protocol import ModelInfo
from sfumato.server.settings import Limits

HASH = re.compile("[0-9a-f]{64}")
REMEMBERED = 512  # methods that were looked at, with their pictures


class RefusedError(SfumatoError):
    """A request that is refused; field: which part of it is wrong; status: of the answer."""

    def __init__(self, message: str, part: str = "", status: int = 422) -> None:
        super().__init__(message)
        self.field, self.status = part, status


@dataclass(frozen=True)
class Seen:
    """A method that was looked at: its id, its slot, its fields that name weights."""

    id: str
    slot: str | None
    weights: tuple[tuple[str, str], ...]


@dataclass(frozen=True, eq=False)
class Admission:
    """offered: what recipes may name. has: whether a client may use a picture; read: its bytes."""

    offered: Callable[[], Catalogue]
    limits: Limits
    has: Callable[[str, str], bool]
    read: Callable[[str], bytes]
    seen: dict[str, Seen] = field(default_factory=dict)

    def check(self, client: str, job: AnyJob) -> list[str]:
        """Hashes of the pictures that a request uses; RefusedError where it cannot be done."""
        if isinstance(job, requests.TrainJob):
            return self._training(client, job)
        if isinstance(job, requests.EvalJob):
            self._model(job.model, "model")
            return []
        if isinstance(job, requests.CompareJob):
            return self._comparison(client, job)
        rows = job.rows if isinstance(job, requests.BatchJob) else (job,)
        hashes: dict[str, None] = {}
        for k, row in enumerate(rows):
            field = f"rows.{k}.recipe" if isinstance(job, requests.BatchJob) else "recipe"
            hashes |= dict.fromkeys(self.recipe(client, row.recipe, field))
            _search(row)
        if isinstance(job, requests.SweepJob):
            self._sweep(job)
        return list(hashes)

    def recipe(self, client: str, recipe: Recipe, field: str) -> list[str]:
        """Hashes of a recipe's pictures."""
        model = self._model(recipe.model, f"{field}.model")
        if recipe.embedded:
            raise RefusedError(
                "recipe: has embedded pictures; upload them and name them by their hash",
                f"{field}.embedded",
            )
        if recipe.n > self.limits.pictures:
            raise RefusedError(
                f"n = {recipe.n}: at most {self.limits.pictures} pictures of one recipe here; "
                "send a batch",
                f"{field}.n",
            )
        self._size(recipe, field)
        names, own = {*model.adapters, *model.adapters.values()}, self._trained(client, recipe)
        known = {*own, *(one.sha256 for one in self.offered().files)}
        for adapter in recipe.adapters:
            if adapter["file"] not in names and adapter["sha256"] not in known:
                raise RefusedError(
                    f"adapter {adapter['file']!r:.80}: not offered by this server",
                    f"{field}.adapters",
                )
        for sha256 in pictures_of(recipe):
            self._own(client, sha256, f"{field}.methods")
        token = images.resolver.set(lambda digest, name: self.read(digest))
        try:
            self._methods(client, recipe, field)
        finally:
            images.resolver.reset(token)
        return self.used(client, recipe)

    def used(self, client: str, recipe: Recipe) -> list[str]:
        """Hashes of what a recipe takes of the client's files: pictures, what its trainings have
        made, and pictures among its parents, which are kept as long as it is."""
        parents = (name for name in recipe.parents if HASH.fullmatch(name))
        before = [sha256 for sha256 in parents if self.has(client, sha256)]
        trained = [*self._trained(client, recipe), *self._own_weights(client, recipe)]
        return list(dict.fromkeys([*pictures_of(recipe), *trained, *before]))

    def _trained(self, client: str, recipe: Recipe) -> list[str]:
        """Adapters that the client's own trainings have made."""
        files = (a["sha256"] for a in recipe.adapters if a["file"].endswith(".safetensors"))
        return [sha256 for sha256 in files if self.has(client, sha256)]

    def _own_weights(self, client: str, recipe: Recipe) -> Iterator[str]:
        """The same of weights that methods name."""
        for entry in recipe.methods:
            for name in weights_fields(methods.find(entry.get("method"))):
                value = entry.get(name)
                for one in value if isinstance(value, list | tuple) else (value,):
                    if isinstance(one, str) and (sha256 := self._owned(client, one)):
                        yield sha256

    def _model(self, name: str, field: str) -> ModelInfo:
        models = self.offered().models
        if name not in models:
            raise RefusedError(
                f"model {name!r:.80}: not offered by this server; it offers {', '.join(models)}",
                field,
            )
        return models[name]

    def _size(self, recipe: Recipe, field: str) -> None:
        size: Any = recipe.size
        sides = (size, size) if isinstance(size, int) else size
        if not isinstance(sides, tuple | list):
            return
        if max(sides) > self.limits.side or sides[0] * sides[1] > self.limits.pixels:
            raise RefusedError(
                f"size = {sides[0]}x{sides[1]}: at most {self.limits.side} a side and "
                f"{self.limits.pixels:,} pixels here",
                f"{field}.size",
            )

    def _own(self, client: str, sha256: str, field: str) -> None:
        if not self.has(client, sha256):
            raise RefusedError(
                f"picture {sha256[:12]}…: not here; upload it by POST /v1/images first", field
            )

    def _methods(self, client: str, recipe: Recipe, field: str) -> None:
        slots: dict[str, str] = {}
        for k, entry in enumerate(recipe.methods):
            where = f"{field}.methods.{k}"
            try:
                seen = self._seen(entry)
            except SfumatoError as error:
                raise RefusedError(str(error), where) from None
            if seen.slot is not None and seen.slot in slots:
                raise RefusedError(
                    f"{seen.id}: {slots[seen.slot]} is there already; leave one out", where
                )
            slots[seen.slot or f"{k}"] = seen.id
            self._weights(client, seen, where)

    def _weights(self, client: str, seen: Seen, where: str) -> None:
        catalogue, fields = self.offered(), weights_fields(methods.find(seen.id))
        for name, value in seen.weights:
            field, format = f"{seen.id}.{name}", fields[name].format
            if catalogue.offers(field, format, value) or self._owned(client, value):
                continue
            known = ", ".join(catalogue.names(field, format))
            raise RefusedError(
                f"{seen.id}: {name} = {value!r:.160}: not offered by this server"
                + (f"; it offers {known}" if known else ""),
                f"{where}.{name}",
            )

    def _owned(self, client: str, value: str) -> str | None:
        """The hash, where it is that of a file of the client's own trainings."""
        reference = own_weights(value)
        if reference is None or not self.has(client, reference.sha256):
            return None
        return reference.sha256

    def _seen(self, entry: Mapping[str, Any]) -> Seen:
        """An entry read and its pictures decoded; once, since most jobs differ in a number."""
        key = json.dumps(entry, sort_keys=True)
        if (seen := self.seen.pop(key, None)) is None:
            token = offered.set(_by_hash)  # runners know where it leads
            try:
                method = methods.from_data(entry)
            finally:
                offered.reset(token)
            look_at(method)
            seen = Seen(method.id, type(method).slot, tuple(named_weights(method)))
        self.seen[key] = seen
        if len(self.seen) > REMEMBERED:
            del self.seen[next(iter(self.seen))]
        return seen

    def _sweep(self, job: requests.SweepJob) -> None:
        from sfumato.measure.axis import axis, said

        try:
            over = axis(job.over)
        except SfumatoError as error:
            raise RefusedError(str(error), "over") from None
        cells = len(over.values) * max(1, len(job.prompts))
        if cells > requests.LARGEST_SWEEP:
            raise RefusedError(
                f"sweep: has {cells:,} cells; at most {requests.LARGEST_SWEEP:,} here", "over"
            )
        self._seeds(job.seeds)
        if job.choose is not None and job.choose not in over.values:
            known = ", ".join(map(said, over.values))
            raise RefusedError(f"choose = {job.choose:g}: not among the values {known}", "choose")

    def _comparison(self, client: str, job: requests.CompareJob) -> list[str]:
        hashes: dict[str, None] = {}
        names = [way.name for way in job.ways]
        for k, way in enumerate(job.ways):
            if way.name in names[:k] or not way.name.strip() or not way.name.isprintable():
                why = "is there twice" if way.name in names[:k] else "is no name"
                raise RefusedError(
                    f"ways: {way.name!r:.60} {why}; give each way a name of its own",
                    f"ways.{k}.name",
                )
            hashes |= dict.fromkeys(self.recipe(client, way.recipe, f"ways.{k}.recipe"))
            if way.fills is not None:
                used = (str(entry["method"]) for entry in way.recipe.methods)
                try:
                    check_fills(way.fills, {name: methods.find(name) for name in used})
                except SfumatoError as error:
                    raise RefusedError(str(error), f"ways.{k}.fills") from None
        for k, picture in enumerate(job.inputs):
            self._own(client, picture.sha256, f"inputs.{k}")
            hashes[picture.sha256] = None
        self._seeds(job.seeds)
        cells = len(job.ways) * max(1, len(job.inputs)) * max(1, len(job.prompts))
        if cells > requests.LARGEST_SWEEP:
            raise RefusedError(
                f"compare: has {cells:,} ways and rows; at most {requests.LARGEST_SWEEP:,} here",
                "ways",
            )
        return list(hashes)

    def _seeds(self, seeds: int) -> None:
        if seeds > self.limits.pictures:
            raise RefusedError(
                f"seeds = {seeds}: at most {self.limits.pictures} pictures of one recipe here",
                "seeds",
            )

    def _training(self, client: str, job: requests.TrainJob) -> list[str]:
        from sfumato.server import training

        config = training.config_of(job)
        for part, name in training.model_names(config).items():
            self._model(name, f"config.{part}")
        parts = {
            "pictures": [picture.sha256 for picture in job.pictures],
            "class_pictures": [picture.sha256 for picture in job.class_pictures],
            "run": [file.sha256 for file in job.run],
        }
        for part, hashes in parts.items():
            for sha256 in hashes:
                self._own(client, sha256, part)
        return list(dict.fromkeys(sha256 for hashes in parts.values() for sha256 in hashes))


def _search(row: requests.Row | requests.SweepJob) -> None:
    """Numbers that are to be found first must be such."""
    for name in row.search:
        method, _, field_ = name.partition(".")
        try:
            extra = methods.field_of(method, field_, "search").json_schema_extra
        except SfumatoError as error:
            raise RefusedError(f"search: {error}", "search") from None
        if not isinstance(extra, Mapping) or "auto" not in extra:
            raise RefusedError(f"search: {name} has no range to be searched in", "search")
        if method not in {entry.get("method") for entry in row.recipe.methods}:
            raise RefusedError(f"search: {name}: the recipe has no {method}", "search")


def _by_hash(name: str) -> str | None:
    return name if Reference.of(name) else None


def pictures_of(recipe: Recipe) -> list[str]:
    """Hashes of a recipe's pictures."""
    return list(dict.fromkeys(_pictures(recipe.methods)))


def _pictures(value: Any) -> Iterator[str]:
    """Hashes of every picture in plain data, however deep."""
    if isinstance(value, Mapping):
        if isinstance(value.get("sha256"), str):
            yield value["sha256"]
        else:
            for part in value.values():
                yield from _pictures(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _pictures(part)


def look_at(method: Method) -> None:
    """Decode a method's pictures and masks; SfumatoError where they do not go together."""
    for picture in images.inputs_of(method):
        if picture.is_tensor:
            raise SfumatoError(f"{method.id}: {picture.name} is a tensor; upload a picture")
        picture.picture()
    place = getattr(method, "place", None)
    if place is not None:
        place()
