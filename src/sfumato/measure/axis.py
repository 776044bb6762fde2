"""The axis of a sweep or search: one numeric field of a process, and its values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import TypeAdapter, ValidationError

from sfumato import documents
from sfumato.core.errors import SfumatoError, quoted, shortened
from sfumato.methods import field_of, find


@dataclass(frozen=True)
class Axis:
    """A numeric field of a method, or "steps" of the process (method ""), and its values."""

    method: str
    field: str
    values: tuple[float, ...]

    @property
    def name(self) -> str:
        return f"{self.method}.{self.field}" if self.method else self.field

    def at(self, process: Any, value: float) -> Any:
        """The process with the field at a value; a method that is missing is composed."""
        if not self.method:
            if value != int(value):
                raise SfumatoError(f"steps = {value:g}: must be a whole number")
            return process.based(n_steps=int(value))
        if self.method in {getattr(method, "id", None) for method in process.methods}:
            return process.revised(self.method, **{self.field: value})
        return process | find(self.method)(**{self.field: value})


def axis(text: str, method: str = "") -> Axis:
    """From METHOD.FIELD=LOW:HIGH:COUNT or =A,B,C; without METHOD, the given one's field or steps.

    Whole values stay whole, for fields that are.
    """
    name, equals, spread = text.partition("=")
    if not equals:
        raise SfumatoError(f"--over {shortened(text)}: write FIELD=LOW:HIGH:COUNT or FIELD=A,B,C")
    owner, dot, field = name.rpartition(".")
    if not dot and name != "steps":
        owner = method
    if owner:
        field_of(owner, field, f"--over {shortened(text)}")
    elif name != "steps":
        raise SfumatoError(f"--over {shortened(text)}: write METHOD.FIELD=…, or steps=…")
    values = sorted({_whole(value) for value in _numbers(spread, text)})
    if len(values) < 2:
        raise SfumatoError(f"--over {shortened(text)}: gives {len(values)} value; give at least 2")
    if owner:
        _allowed(owner, field, values, text)
    return Axis(owner, field, tuple(values))


def written(over: Axis) -> str:
    """As `axis` reads it."""
    return f"{over.name}={','.join(map(repr, over.values))}"


def _allowed(owner: str, field: str, values: Sequence[float], text: str) -> None:
    """Refuse a spread of which the field takes nothing; single values fail in their own cell."""
    info: Any = field_of(owner, field, f"--over {shortened(text)}")
    kind = info.annotation
    for constraint in info.metadata:
        kind = Annotated[kind, constraint]
    reader: TypeAdapter[Any] = TypeAdapter(kind)
    reason = ""
    for value in reversed(values):
        try:
            reader.validate_python(value)
            return
        except ValidationError as error:
            reason = f"{owner}.{field} = {value:g}: {documents.explained(error)}"
    raise SfumatoError(f"--over {shortened(text)}: {reason}")


def _numbers(spread: str, text: str) -> list[float]:
    parts = spread.split(":") if ":" in spread else spread.split(",")
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        raise SfumatoError(f"--over {shortened(text)}: {quoted(spread)} are no numbers") from None
    if not all(map(math.isfinite, numbers)):
        raise SfumatoError(f"--over {shortened(text)}: {quoted(spread)} is not finite")
    if ":" not in spread:
        return numbers
    if len(numbers) != 3 or not 2 <= numbers[2] <= 1000 or numbers[2] % 1:
        raise SfumatoError(f"--over {shortened(text)}: write LOW:HIGH:COUNT, such as 0.1:0.9:9")
    low, high, count = numbers[0], numbers[1], int(numbers[2])
    return [round(low + (high - low) * k / (count - 1), 6) for k in range(count)]


def _whole(value: float) -> float:
    return int(value) if value == int(value) else value
