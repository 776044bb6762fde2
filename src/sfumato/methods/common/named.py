"""Which fields of a method name weights, and what a method names by them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, get_args

from pydantic import WithJsonSchema

from sfumato.methods import Method, described
from sfumato.methods.common.kinds import are_weights


@dataclass(frozen=True)
class WeightsField:
    """format: as in its schema. required: the method does nothing without."""

    format: str
    required: bool


def weights_fields(cls: type[Method]) -> Mapping[str, WeightsField]:
    """A method's fields that name weights."""
    kind: Any = cls
    return _fields(kind)


@cache
def _fields(cls: Any) -> Mapping[str, WeightsField]:
    formats = {name: _format(one.metadata, one.annotation) for name, one in described(cls).items()}
    return {
        name: WeightsField(format, described(cls)[name].is_required())
        for name, format in formats.items()
        if format is not None
    }


def named_weights(method: Method) -> Iterator[tuple[str, str]]:
    """Fields that name weights, with what they name; one of several once for each."""
    for name in weights_fields(type(method)):
        value = getattr(method, name)
        yield from ((name, one) for one in _each(value) if isinstance(one, str))


def _each(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def _format(metadata: Any, annotation: Any) -> str | None:
    """Of a field, or of what it may be or hold; None where it is none of weights."""
    if are_weights(metadata):
        schemas = (one.json_schema or {} for one in metadata if isinstance(one, WithJsonSchema))
        return next(str(schema["format"]) for schema in schemas)
    parts = (_format(getattr(part, "__metadata__", ()), part) for part in get_args(annotation))
    return next((format for format in parts if format is not None), None)
