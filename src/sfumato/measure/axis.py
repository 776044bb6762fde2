"""The axis of a sweep or search: one field of a process, and its values."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Annotated, Any, TypeAlias, TypeGuard

from pydantic import TypeAdapter, ValidationError

from sfumato import documents
from sfumato.core import spacing
from sfumato.core.errors import SfumatoError, quoted, shortened
from sfumato.core.ranges import words
from sfumato.core.solvers import solver
from sfumato.methods import field_of, find, schema
from sfumato.methods.common.kinds import DENOISER, WEIGHTS

Value: TypeAlias = float | bool | str | tuple[float | str, ...]
"""A number, a switch, a choice or words, or several numbers or words, such as a window."""

OWN = ("steps", "negative", "solver", "spacing")
"""Fields of the process itself."""
SWITCH: Mapping[str, bool] = {"yes": True, "true": True, "no": False, "false": False}
UNSWEPT: Mapping[str, str] = {
    "image": "is a picture",
    WEIGHTS: "names weights",
    DENOISER: "names weights",
    "password": "is a secret",
}
"""Formats of fields that a sweep does not vary."""


class Kind(Enum):
    """How a field's values are written."""

    NUMBER = "LOW:HIGH:COUNT or A,B,C"
    CHOICE = "A,B,C"
    SWITCH = "no,yes"
    WORDS = "A|B|C"
    NUMBERS = "A,B|C,D"
    TEXTS = "A|B|C or a JSON list"


@dataclass(frozen=True)
class Axis:
    """A field of a method, or of the process itself (method ""), and its values: numbers rising,
    others as they were given."""

    method: str
    field: str
    values: tuple[Value, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.method, str) or not isinstance(self.field, str):
            raise SfumatoError(f"axis {self.method!r:.60}.{self.field!r:.60}: give texts")
        values: Any = self.values
        if not isinstance(values, list | tuple):
            raise SfumatoError(f"axis {self.name}: values = {values!r:.60}: give a tuple")
        whole = tuple(tuple(one) if isinstance(one, list) else one for one in values)
        object.__setattr__(self, "values", whole)

    @property
    def name(self) -> str:
        return f"{self.method}.{self.field}" if self.method else self.field

    def at(self, process: Any, value: Value) -> Any:
        """The process with the field at a value; a method that is missing is composed."""
        if not self.method:
            if self.field != "steps":
                return process.based(**{self.field: value})
            if not is_number(value) or value != int(value):
                raise SfumatoError(f"steps = {said(value)}: must be a whole number")
            return process.based(n_steps=int(value))
        if self.method in {getattr(method, "id", None) for method in process.methods}:
            return process.revised(self.method, **{self.field: value})
        return process | find(self.method)(**{self.field: value})


def is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def said(value: Value) -> str:
    """A value as one would type it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(map(said, value))
    return value if isinstance(value, str) else f"{value:g}"


def axis(text: str, method: str = "") -> Axis:
    """From METHOD.FIELD=LOW:HIGH:COUNT or =A,B,C; without METHOD, the given one's field, or one of
    the process itself (OWN).

    Words are written A|B|C, windows A,B|C,D, and any values but numbers as a JSON list too. Whole
    values stay whole, for fields that are.
    """
    name, equals, spread = text.partition("=")
    where = f"--over {shortened(text)}"
    if not equals:
        raise SfumatoError(f"{where}: write FIELD=LOW:HIGH:COUNT or FIELD=A,B,C")
    owner, dot, field = name.rpartition(".")
    if not dot and name not in OWN:
        owner = method
    if owner:
        field_of(owner, field, where)
    elif name == "prompt":
        raise SfumatoError(f"{where}: prompts are swept beside a field; give them by --prompts")
    elif name not in OWN:
        raise SfumatoError(f"{where}: write METHOD.FIELD=…, or {'=…, '.join(OWN)}=…")
    kind = _kind(owner, field, f"--over {shortened(name)}")  # values may be secrets
    values = _values(kind, spread, where)
    if len(values) < 2:
        raise SfumatoError(
            f"{where}: gives {len(values)} value; give at least 2, as {field}={kind.value}"
        )
    if owner:
        _allowed(owner, field, values, where)
    else:
        _check_own(field, values, where)
    return Axis(owner, field, tuple(values))


def written(over: Axis) -> str:
    """As `axis` reads it."""
    if all(map(is_number, over.values)):
        return f"{over.name}={','.join(map(repr, over.values))}"
    return f"{over.name}={json.dumps(over.values, ensure_ascii=False)}"


def takes_numbers(method: str, field: str) -> bool:
    """Whether an axis of that field has numbers. SfumatoError where it can have no values."""
    return _kind(method, field, "--over") is Kind.NUMBER


def _kind(owner: str, field: str, where: str) -> Kind:
    """Of a field's schema; SfumatoError where it is not to be swept."""
    if not owner:
        if field not in OWN:
            raise SfumatoError(f"{where}: {field:.60} is not swept; {', '.join(OWN)} are")
        return {"steps": Kind.NUMBER, "negative": Kind.WORDS}.get(field, Kind.CHOICE)
    cls: Any = find(owner)
    whole: Mapping[str, Any] = _properties(cls).get(field, {})
    part = next((one for one in whole.get("anyOf", ()) if one.get("type") != "null"), whole)
    item = part.get("items", {})
    format = part.get("format", item.get("format"))
    if format in UNSWEPT:
        raise SfumatoError(f"{where}: {owner}.{field} {UNSWEPT[format]}; a batch can vary it")
    if "enum" in part:
        return Kind.CHOICE
    if "prefixItems" in part:
        return Kind.NUMBERS
    plain = {"number": Kind.NUMBER, "integer": Kind.NUMBER, "boolean": Kind.SWITCH,
             "string": Kind.WORDS}  # fmt: skip
    kind = Kind.TEXTS if item.get("type") == "string" else plain.get(part.get("type", ""))
    if kind is None:
        raise SfumatoError(f"{where}: {owner}.{field} has parts of its own; a batch can vary it")
    return kind


@cache
def _properties(cls: Any) -> Mapping[str, Any]:
    properties: Mapping[str, Any] = schema(cls).get("properties", {})
    return properties


def _values(kind: Kind, spread: str, where: str) -> list[Value]:
    """Each once."""
    if kind is Kind.NUMBER:
        return sorted({_whole(value) for value in _numbers(spread, where)})
    values = _listed(spread, where)
    if values is None:
        between = "|" if "|" in spread or kind in (Kind.WORDS, Kind.TEXTS) else ","
        values = [_typed(kind, part.strip()) for part in spread.split(between)]
    return list(dict.fromkeys(values))


def _listed(spread: str, where: str) -> list[Value] | None:
    """Of a JSON list; None where it is none."""
    if not spread.lstrip().startswith("["):
        return None
    try:
        data = documents.parse_json(TypeAdapter(list[Value]), spread, "--over")
    except SfumatoError:
        return None  # words may begin so too
    return [_of_json(value, where) for value in data]


def _of_json(value: Any, where: str) -> Any:
    if isinstance(value, tuple):
        return tuple(_of_json(part, where) for part in value)
    if not is_number(value):
        return value
    if not math.isfinite(value):
        raise SfumatoError(f"{where}: {value} is not finite")
    return _whole(value)


def _typed(kind: Kind, text: str) -> Value:
    """One value; what cannot be read stays a text, which its field refuses."""
    if kind is Kind.SWITCH:
        return SWITCH.get(text.lower(), text)
    if kind is Kind.TEXTS:
        return (text,)
    if kind is not Kind.NUMBERS or "," not in text:
        return text
    try:
        return tuple(_whole(float(part)) for part in text.split(","))
    except (ValueError, OverflowError):  # words; what is not finite is no whole number
        return text


def _check_own(field: str, values: Sequence[Value], where: str) -> None:
    """Refuse what the process would refuse; of steps each cell says it."""
    for value in () if field == "steps" else values:
        try:
            if field == "solver":
                solver(words(value, field))
            elif field == "spacing":
                spacing.declared(words(value, field))
            else:
                words(value, field)
        except SfumatoError as error:
            raise SfumatoError(f"{where}: {error}") from None


def _allowed(owner: str, field: str, values: Sequence[Value], where: str) -> None:
    """Refuse a spread of which the field takes nothing; single values fail in their own cell."""
    info: Any = field_of(owner, field, where)
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
            reason = f"{owner}.{field} = {shortened(said(value))}: {documents.explained(error)}"
    raise SfumatoError(f"{where}: {reason}")


def _numbers(spread: str, where: str) -> list[float]:
    parts = spread.split(":") if ":" in spread else spread.split(",")
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        raise SfumatoError(f"{where}: {quoted(spread)} are no numbers") from None
    if not all(map(math.isfinite, numbers)):
        raise SfumatoError(f"{where}: {quoted(spread)} is not finite")
    if ":" not in spread:
        return numbers
    if len(numbers) != 3 or not 2 <= numbers[2] <= 1000 or numbers[2] % 1:
        raise SfumatoError(f"{where}: write LOW:HIGH:COUNT, such as 0.1:0.9:9")
    low, high, count = numbers[0], numbers[1], int(numbers[2])
    if not math.isfinite((high - low) * count):
        raise SfumatoError(f"{where}: {quoted(spread)} is wider than numbers are")
    return [round(low + (high - low) * k / (count - 1), 6) for k in range(count)]


def _whole(value: float) -> float:
    return int(value) if value == int(value) else value
