"""Recipe: everything needed to make a picture again, as data with a schema number."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from hashlib import sha256
from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field, TypeAdapter

from sfumato import documents
from sfumato.core.errors import SfumatoError
from sfumato.core.ranges import PICTURES, SEEDS, Range
from sfumato.core.solvers import acting, solver
from sfumato.recipe import parameters
from sfumato.recipe.fields import (
    SCHEMA,
    Adapter,
    Count,
    Digest,
    Entry,
    Ran,
    Schema,
    Short,
    Sides,
    Solved,
    Steps,
    Text,
    Times,
)
from sfumato.recipe.names import Name

RECIPE_BYTES = 256 << 20  # of a recipe's JSON, its embedded pictures included


@dataclass(frozen=True)
class Recipe:
    """What a user asked for, and under `run` and `versions` what ran.

    methods: entries {"method": id, field: value}; pictures among the values are {"sha256", "name"}.
    run: dtype, device, batch, index in the batch, calls of each stage, work size, start level.
    embedded: inputs by hash, base64, only when asked for. parents: recipes this one came from.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(
        strict=True, extra="forbid", allow_inf_nan=False
    )

    schema: Schema = field(default=SCHEMA, kw_only=True)
    model: Name
    prompt: Text = ""
    negative: Text = ""
    label: Count | None = None
    stages: Annotated[int, Range(1, 100)] | None = None
    seed: Annotated[int, SEEDS] = 0
    n: Annotated[int, PICTURES] = 1
    steps: Steps | None = None
    solver: Solved | None = None
    spacing: Times = None
    size: Sides = None
    adapters: Annotated[tuple[Adapter, ...], Field(max_length=100)] = ()
    methods: Annotated[tuple[Entry, ...], Field(max_length=100)] = ()
    run: Ran = field(default_factory=Ran)
    versions: dict[Short, Short] = field(default_factory=dict)
    parents: Annotated[tuple[Short, ...], Field(max_length=1000)] = ()
    embedded: dict[Digest, str] = field(default_factory=dict)

    def to_data(self) -> dict[str, Any]:
        data = asdict(self)
        if not self.embedded:
            del data["embedded"]
        return data

    def to_json(self, indent: int | None = None) -> str:
        try:
            return json.dumps(self.to_data(), ensure_ascii=False, indent=indent)
        except TypeError as error:
            raise SfumatoError(f"recipe: is not plain data ({error})") from None

    @classmethod
    def from_data(cls, data: Any, where: str = "recipe") -> Recipe:
        """Read a recipe's JSON object; what is unknown, of another type or out of range is
        refused."""
        return documents.parse_data(reader(), data, where).checked(where)

    @classmethod
    def from_json(cls, text: str | bytes, where: str = "recipe") -> Recipe:
        if not isinstance(text, str | bytes):
            raise SfumatoError(f"{where}: {text!r:.60} is no text; give JSON")
        if len(text) > RECIPE_BYTES:
            raise SfumatoError(f"{where}: is larger than {RECIPE_BYTES >> 20} MiB")
        return documents.parse_json(reader(), text, where).checked(where)

    def checked(self, where: str) -> Recipe:
        """Itself, if the picture that it was kept in is one of its batch.

        Of a run's solver, the options that did something: up to 0.2.0 others were taken too.
        """
        if (index := self.run.get("index", 0)) >= self.n:
            raise SfumatoError(f"{where}: run.index = {index}: its batch has {self.n}")
        if not isinstance(self.solver, Mapping):
            return self
        if self.run:
            return replace(self, solver=acting(self.solver))
        try:
            solver(self.solver)
        except SfumatoError as error:
            raise SfumatoError(f"{where}: {error}") from None
        return self

    @property
    def id(self) -> str:
        """Digest of what was asked for, whatever ran: what children name among their parents."""
        data = {**self.to_data(), "run": {}, "versions": {}, "embedded": {}}
        text = json.dumps(data, sort_keys=True, ensure_ascii=False)
        return f"sha256 {sha256(text.encode()).hexdigest()}"

    def inputs(self) -> list[tuple[str, str]]:
        """(sha256, name) of every picture among the methods' values."""
        return [
            (str(value["sha256"]), str(value.get("name", "image")))
            for entry in self.methods
            for value in entry.values()
            if isinstance(value, Mapping) and "sha256" in value
        ]

    def parameters(self) -> str:
        """The text other tools show."""
        return parameters.text(self)


@cache
def reader() -> TypeAdapter[Recipe]:
    """What reads a recipe, and describes one."""
    return TypeAdapter(Recipe)
