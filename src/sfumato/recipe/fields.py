"""The fields of a recipe: types that refuse what is unknown, of another type or out of range."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    JsonValue,
    PlainValidator,
    TypeAdapter,
    WithJsonSchema,
    with_config,
)
from typing_extensions import TypedDict

from sfumato.core.errors import SfumatoError
from sfumato.core.frame import SIDES, sides
from sfumato.core.ranges import LENGTH, PICTURES, STEPS, Range
from sfumato.core.solvers import ALIASES, SOLVERS, acting, options_of, solver
from sfumato.core.spacing import NAMES, declared
from sfumato.recipe.names import Name

SCHEMA = 1
UNKNOWN = "0" * 64
"""Digest of an adapter that stands elsewhere, of which nothing is recorded yet."""
STRENGTH = Range(-1000, 1000)  # of an adapter

Text = Annotated[str, Field(max_length=LENGTH)]
Short = Annotated[str, Field(max_length=1000)]
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Count = Annotated[int, Range(ge=0, le=1 << 62)]


def _read_here(schema: int) -> int:
    if schema != SCHEMA:
        raise SfumatoError(
            f"is a recipe of schema {schema!r:.20}, this version reads {SCHEMA}; update sfumato"
        )
    return schema


def _solver(value: Any) -> Any:
    if not isinstance(value, str | Mapping):
        raise SfumatoError(f"solver {value!r:.60} must be a name, or an object with its options")
    solver(acting(value) if isinstance(value, Mapping) else value)  # what does nothing: value.py
    return value


class _SolverSchema:
    """JSON Schema of a solver: its id, or an object with the options it takes."""

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        objects = []
        for name, make in SOLVERS.items():
            kind: Any = getattr(make, "func", make)
            options = options_of(name)
            fields = TypeAdapter(kind).json_schema().get("properties", {}) if options else {}
            own = {"solver": {"const": name}, **{key: fields[key] for key in options}}
            objects.append(
                {"type": "object", "properties": own, "required": ["solver"],
                 "additionalProperties": False}
            )  # fmt: skip
        return {"anyOf": [{"enum": [*SOLVERS, *ALIASES, None]}, *objects]}


def _entry(entry: dict[str, Any]) -> dict[str, Any]:
    name = entry.get("method")
    if not isinstance(name, str):
        raise SfumatoError(f"methods: method {name!r:.60} must be a name")
    return entry


@with_config(ConfigDict(strict=True, extra="forbid", allow_inf_nan=False))
class Adapter(TypedDict):
    """An adapter that was composed: its name, the digest of its file, its strength."""

    file: Name
    sha256: Digest
    scale: Annotated[float, STRENGTH]


class Level(TypedDict, total=False):
    """The start level in three units."""

    t0: Annotated[float, Range(0, 1)]
    ratio: float
    alpha_bar: float


@with_config(ConfigDict(strict=True, extra="allow"))
class Ran(TypedDict, total=False):
    """What ran: parts of a run may add reports of their own."""

    dtype: Short
    decoder: Literal["float32", "bfloat16"]
    tile: Annotated[int, Range(1, 1 << 15)]
    device: Short
    batch: Annotated[int, PICTURES]
    index: Annotated[int, Range(0, PICTURES.le)]
    calls: list[Count]
    evaluations: dict[str, Count]
    work_size: list[Count]
    size: Annotated[list[Count], Field(min_length=2, max_length=2)] | None
    start: Level
    threads: Count
    answers: dict[Short, JsonValue]


Schema = Annotated[int, AfterValidator(_read_here)]
Steps = Annotated[int, STEPS]
Entry = Annotated[dict[str, JsonValue], AfterValidator(_entry)]
Solved = Annotated[Any, PlainValidator(_solver), _SolverSchema()]
Times = Annotated[
    Any,
    PlainValidator(declared),
    WithJsonSchema(
        {
            "anyOf": [
                {"enum": list(NAMES)},
                {"type": "string"},
                {"type": "array", "items": {"type": "number", "minimum": 0, "maximum": 1}},
                {"type": "null"},
            ]
        }
    ),
]
_SIDE = {"type": "integer", "minimum": SIDES.ge, "maximum": SIDES.le}
Sides = Annotated[
    Any,
    PlainValidator(sides),
    WithJsonSchema(
        {
            "anyOf": [
                _SIDE,
                {"type": "array", "items": _SIDE, "minItems": 1, "maxItems": 2},
                {"enum": ["input", "native", None]},
            ]
        }
    ),
]
