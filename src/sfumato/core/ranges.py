"""Ranges of numbers: held here, without pydantic, and told to pydantic where a schema is made.

A field is declared as `Annotated[float, Range(ge=0, le=1)]`; `fit` holds a dataclass to its fields.
"""

from __future__ import annotations

import math
import operator
from dataclasses import asdict, dataclass, fields
from functools import cache
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from sfumato.core.errors import SfumatoError
from sfumato.core.idle import idle, needs_of, refuse_idle


@dataclass(frozen=True)
class Range:
    """What a number may be: ge and le are ends that belong to it, gt and lt do not."""

    ge: float | None = None
    le: float | None = None
    gt: float | None = None
    lt: float | None = None

    def __contains__(self, value: float) -> bool:
        return (
            (self.ge is None or value >= self.ge)
            and (self.le is None or value <= self.le)
            and (self.gt is None or value > self.gt)
            and (self.lt is None or value < self.lt)
        )

    def __str__(self) -> str:
        if self.ge is not None and self.le is not None:
            return f"{self.ge:,} to {self.le:,}"
        words = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
        bounds = {name: value for name, value in asdict(self).items() if value is not None}
        return " and ".join(f"{words[name]} {bounds[name]:,}" for name in words if name in bounds)

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        bounds = {name: value for name, value in asdict(self).items() if value is not None}
        return {**handler(source), **bounds}


SEEDS = Range(-(1 << 63), (1 << 63) - 1)
PICTURES = Range(1, 4096)
COUNT = Range(ge=0)
STEPS = Range(1, 10_000)
TIME = Range(0, 1)
LENGTH = 10_000
"""Characters of a prompt; no tokenizer takes as many, and none is asked to try."""


def whole(value: Any, name: str, allowed: Range) -> int:
    """An int, of Python, numpy or torch, in a range; never a bool or a float."""
    try:
        return _whole(value, allowed)
    except ValueError as error:
        raise SfumatoError(f"{name} = {value!r:.60}: {error}") from None


def real(value: Any, name: str, allowed: Range) -> float:
    """A finite number, of Python, numpy or torch, in a range; never a bool or a text."""
    try:
        return _real(value, allowed)
    except ValueError as error:
        raise SfumatoError(f"{name} = {value!r:.60}: {error}") from None


def words(value: Any, name: str) -> str:
    """A text that has an encoding, of at most LENGTH characters."""
    if not isinstance(value, str):
        raise SfumatoError(f"{name} = {value!r:.60}: must be a text")
    if len(value) > LENGTH:
        raise SfumatoError(f"{name}: has {len(value):,} characters; give at most {LENGTH:,}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise SfumatoError(f"{name} = {value!r:.60}: is not UTF-8 text") from None
    return value


def check_heard(progress: Any) -> None:
    """Refuse what is told of progress and cannot be called."""
    if progress is not None and not callable(progress):
        raise SfumatoError(f"progress = {progress!r:.60}: give a function, or leave it out")


def fit(holder: Any, where: str) -> None:
    """Hold a frozen dataclass to its annotations: numbers, bools and literals, in their ranges.

    A field that does nothing beside the others is refused. where: what an error calls the value.
    """
    own: Any = type(holder)
    for name, (kind, allowed) in _declared(own).items():
        value = getattr(holder, name)
        try:
            object.__setattr__(holder, name, _fitted(value, kind, allowed))
        except ValueError as error:
            raise SfumatoError(f"{where}: {name} {value!r:.60} {error}") from None
    refuse_idle(where, idle(holder, needs_of(own)))


def _fitted(value: Any, kind: Any, allowed: Range) -> Any:
    if kind is float:
        return _real(value, allowed)
    if kind is int:
        return _whole(value, allowed)
    if kind is bool:
        if type(value) is not bool:
            raise ValueError("must be true or false")
        return value
    options = get_args(kind)
    if not any(type(value) is type(option) and value == option for option in options):
        raise ValueError(f"must be {' or '.join(map(str, options))}")
    return value


def _whole(value: Any, allowed: Range) -> int:
    try:
        number = operator.index(value)
    except (TypeError, ValueError, RuntimeError):
        number = None
    if number is None or type(value) is bool:
        raise ValueError("must be a whole number")
    if number not in allowed:
        raise ValueError(f"must be {allowed}")
    return number


def _real(value: Any, allowed: Range) -> float:
    try:
        number = math.nan if isinstance(value, bool | str | bytes) else float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError("must be a finite number")
    if number not in allowed:
        raise ValueError(f"must be {allowed}")
    return number


@cache
def _declared(kind: Any) -> dict[str, tuple[Any, Range]]:
    """Field -> its plain type and range; fields of other types are nobody's business here."""
    hints = get_type_hints(kind, include_extras=True)
    ranges = {}
    for field in fields(kind):
        hint, allowed = hints[field.name], Range()
        if get_origin(hint) is Annotated:
            hint, *extras = get_args(hint)
            allowed = next((extra for extra in extras if isinstance(extra, Range)), allowed)
        if hint in (int, float, bool) or get_origin(hint) is Literal:
            ranges[field.name] = (hint, allowed)
    return ranges
