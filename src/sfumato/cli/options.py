"""How a method's fields become command line options, and options a method again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from inspect import Parameter
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from sfumato.core.errors import SfumatoError
from sfumato.images import ImageInput
from sfumato.methods import Method, find, registry

PANEL = "Of this method"


def described(cls: type[Method]) -> dict[str, FieldInfo]:
    """Field name -> pydantic's description of it."""
    found: dict[str, FieldInfo] = cls.__pydantic_fields__  # type: ignore[attr-defined]
    return found


def main_field(cls: type[Method]) -> str:
    """The field to show first."""
    for name, info in described(cls).items():
        extra = info.json_schema_extra
        if isinstance(extra, dict) and extra.get("main"):
            return name
    return fields(cls)[0].name  # type: ignore[arg-type]


def plain(annotation: Any) -> Any:
    """The type behind Annotated and `| None`."""
    if get_origin(annotation) is Annotated:
        return plain(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return next(plain(a) for a in get_args(annotation) if a is not type(None))
    return annotation


def parameter(name: str, info: FieldInfo, flag: str | None = None, panel: str = PANEL) -> Parameter:
    """One field as a typer parameter; a required picture is an argument.

    With `flag` the field stands for its whole method, so leaving it out means: not this method.
    """
    kind = plain(info.annotation)
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    text = f"{info.description or ''} ({extra['unit']})" if extra.get("unit") else info.description
    if kind is ImageInput:
        kind = str
    if info.is_required() and flag is None:
        argument = typer.Argument(help=text, show_default=False)
        return Parameter(
            name, Parameter.POSITIONAL_OR_KEYWORD, annotation=Annotated[kind, argument]
        )
    low, high = limit(info, "ge", "gt"), limit(info, "le", "lt")
    number = kind in (int, float)
    option = typer.Option(
        flag or f"--{name.replace('_', '-')}",
        help=text,
        rich_help_panel=panel,
        show_default=info.default is not None and flag is None,
        min=low if number else None,
        max=high if number else None,
    )
    default = None if flag else info.default
    return Parameter(
        name, Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind | None, option]
    )


def limit(info: FieldInfo, *names: str) -> float | None:
    """A bound among a field's constraints."""
    found = (getattr(m, name, None) for m in info.metadata for name in names)
    return next((value for value in found if value is not None), None)


def method_parameters(cls: type[Method]) -> list[Parameter]:
    """All fields of a verb's method, the required pictures first."""
    return [parameter(name, info) for name, info in described(cls).items()]


def other_parameters() -> Iterator[Parameter]:
    """--ID VALUE for the main field of every method that is no verb."""
    for name, cls in sorted(registry().items()):
        if not cls.verb:
            field = main_field(cls)
            yield parameter(
                name, described(cls)[field], f"--{name.replace('_', '-')}", "Other methods"
            )


def assignments(texts: Sequence[str]) -> dict[str, dict[str, Any]]:
    """--with METHOD.FIELD=VALUE, grouped by method."""
    found: dict[str, dict[str, Any]] = {}
    for text in texts:
        target, equals, value = text.partition("=")
        name, dot, field = target.partition(".")
        if not (equals and dot):
            raise SfumatoError(f"--with {text}: write METHOD.FIELD=VALUE, such as cfg.window=0.2,1")
        cls = find(name)
        known = described(cls)
        if field not in known:
            raise SfumatoError(f"--with {text}: {name} has no {field!r}, only {', '.join(known)}")
        kind = plain(known[field].annotation)
        found.setdefault(name, {})[field] = parsed(value) if get_origin(kind) is tuple else value
    return found


def parsed(value: str) -> Any:
    try:
        return tuple(json.loads(f"[{value}]"))
    except ValueError:
        return value


def methods_of(
    verb: type[Method] | None, values: Mapping[str, Any], extra: Sequence[str], preset: str | None
) -> list[Method]:
    """The methods that a command line asks for."""
    chosen = assignments(extra)
    for name, cls in registry().items():
        if not cls.verb and values.get(name) is not None:
            chosen.setdefault(name, {})[main_field(cls)] = values[name]
    made = []
    if verb is not None:
        own = {n: values[n] for n, info in described(verb).items() if values[n] != info.default}
        own |= chosen.pop(verb.id, {})
        made.append(verb.preset(preset, **own) if preset else verb(**own))
    return made + [find(name)(**fields_) for name, fields_ in chosen.items()]
