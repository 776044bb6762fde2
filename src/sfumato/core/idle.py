"""Fields that another field makes do nothing: what they need is declared beside them, checked here.

A need is a text, alternatives joined by |: `mask` (is given: neither None, no, 0 nor empty), `!t0`
(is not), `mode=dynamic` or `form=angle,directional` (is one of these), `art!=none`, `resample>1`,
`image~picture` (is a picture, not a tensor). Of several needs each must hold.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields
from functools import cache
from typing import Any, get_type_hints

from sfumato.core.errors import SfumatoError

_NEED = re.compile(r"(?P<no>!?)(?P<field>[a-z0-9_.]+)((?P<sign>!?=|>|~)(?P<values>.+))?")


class IdleError(SfumatoError):
    """A field that does nothing."""

    def __init__(self, message: str, field: str) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True, init=False)
class Needs:
    """Annotates a field that does nothing unless each of these needs is met."""

    needs: tuple[str, ...]

    def __init__(self, *needs: str) -> None:
        object.__setattr__(self, "needs", needs)

    def __str__(self) -> str:
        """For help; "" where it only says beside what the field does nothing."""
        return " and ".join(filter(None, map(said, self.needs)))

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> Any:
        return {**handler(schema), "needs": list(self.needs)}


def needs_of(kind: Any) -> dict[str, tuple[str, ...]]:
    """Field of a dataclass -> what it does nothing without."""
    return _declared(kind)


@cache
def _declared(kind: Any) -> dict[str, tuple[str, ...]]:
    hints = get_type_hints(kind, include_extras=True)
    declared = {name: getattr(hint, "__metadata__", ()) for name, hint in hints.items()}
    needed = {
        name: tuple(need for one in extras if isinstance(one, Needs) for need in one.needs)
        for name, extras in declared.items()
    }
    return {name: needs for name, needs in needed.items() if needs}


def unread(holder: Any, needs: Mapping[str, Sequence[str]], whole: Any = None) -> dict[str, str]:
    """Fields of a dataclass that do nothing, whatever they say -> the unmet need.

    whole: what holds the fields that are none of the holder's own.
    """
    reasons = {}
    for name in needs:
        unmet = next((need for need in needs[name] if not _met(holder, need, whole)), None)
        if unmet is not None:
            reasons[name] = unmet
    return reasons


def idle(holder: Any, needs: Mapping[str, Sequence[str]], whole: Any = None) -> dict[str, str]:
    """Those of them that differ from their defaults."""
    reasons = unread(holder, needs, whole)
    changed = [f.name for f in fields(holder) if f.name in reasons and _given(holder, f)]
    return {name: reasons[name] for name in changed}


def refuse_idle(where: str, found: Mapping[str, str]) -> None:
    """The error that names the first of them, what it needs, and what to do."""
    where = f"{where}: " if where else ""
    for name, need in found.items():
        wanted = said(need)
        if need.endswith("~picture"):
            image = _parsed(need)["field"]
            raise IdleError(
                f"{where}{name} is for pictures, and {image} is a tensor; leave {name} out (a "
                "state takes a tensor mask)",
                name,
            )
        what = f"beside {_beside(need)}" if not wanted else f"without {wanted}"
        way = f"give that too, or leave {name} out" if wanted else f"leave {name} out"
        raise IdleError(f"{where}{name} does nothing {what}; {way}", name)


def said(need: str) -> str:
    """A need in words; "" where all that it wants is that something is left out."""
    words = []
    for part in map(_parsed, need.split("|")):
        field, sign, values = part["field"], part["sign"], part["values"]
        if sign == "=":
            words.append(f"{field}={' or '.join(values.split(','))}")
        elif sign == "!=":
            words.append(f"{field} other than {values}")
        elif sign == ">":
            words.append(f"{field} above {values}")
        elif not part["no"] and not sign:
            words.append(field)
    return " or ".join(", ".join(words).rsplit(", ", 1))


def default_of(field: Field[Any]) -> Any:
    """A field's default; MISSING of one that must be given."""
    return field.default if field.default_factory is MISSING else field.default_factory()


def _beside(need: str) -> str:
    return " and ".join(_parsed(part)["field"] for part in need.split("|"))


def _parsed(part: str) -> dict[str, str]:
    match = _NEED.fullmatch(part)
    if match is None:
        raise TypeError(f"need {part!r}: is not written as this module says")
    return match.groupdict(default="")


def _given(holder: Any, field: Field[Any]) -> bool:
    default, value = default_of(field), getattr(holder, field.name)
    return default is not MISSING and value is not default and bool(value != default)


def _met(holder: Any, need: str, whole: Any) -> bool:
    return any(_holds(holder, _parsed(part), whole) for part in need.split("|"))


def _holds(holder: Any, part: Mapping[str, str], whole: Any) -> bool:
    value = _value(holder, part["field"], whole)
    if part["sign"] == ">":
        return bool(value > float(part["values"]))
    if part["sign"] == "~":
        return not getattr(value, "is_tensor", False)
    if part["sign"]:
        same = any(_same(value, text) for text in part["values"].split(","))
        return same == (part["sign"] == "=")
    there = any(value) if isinstance(value, tuple) else value is not None and bool(value)
    return there != bool(part["no"])


def _value(holder: Any, path: str, whole: Any) -> Any:
    name, _, rest = path.partition(".")
    if not hasattr(holder, name) and whole is not None:
        holder = whole
    value = getattr(holder, name)
    return _value(value, rest, None) if rest else value


def _same(value: Any, text: str) -> bool:
    if isinstance(value, bool):
        return text == ("yes" if value else "no")
    if isinstance(value, int | float):
        return value == float(text)
    return str(value) == text
