"""Options and arguments as typer takes them, written in a line each."""

from __future__ import annotations

from collections.abc import Iterable
from inspect import Parameter
from typing import Annotated, Any, get_args

import typer


def keyword(
    name: str, kind: Any, default: Any, *flags: str, text: str, panel: str | None = None
) -> Parameter:
    """An option of these flags, whose value the body gets under the name."""
    option = typer.Option(
        *flags,
        help=text,
        rich_help_panel=panel,
        show_default=default is not None,
        callback=_filled if "--output" in flags else None,
    )
    return Parameter(
        name, Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option]
    )


def _filled(value: str | None) -> str | None:
    """The value of -o; an empty one would be the working folder."""
    if value is not None and not value.strip():
        raise typer.BadParameter("is empty; give a file or a folder")
    return value


def argument(name: str, text: str, default: Any = Parameter.empty) -> Parameter:
    """An argument, needed where it has no default."""
    argument = typer.Argument(help=text, show_default=False)
    kind = str if default is Parameter.empty else str | None
    return Parameter(
        name, Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=Annotated[kind, argument]
    )


def flags(parameters: Iterable[Parameter]) -> set[str]:
    """Every flag of these parameters."""
    known = {"--help", "-h"}
    for parameter in parameters:
        for option in get_args(parameter.annotation)[1:]:
            known |= set(declared(option))
    return known


def declared(option: Any) -> list[str]:
    """An option's flags; typer keeps the first of an annotated one as its default."""
    flags = (getattr(option, "default", None), *(getattr(option, "param_decls", None) or ()))
    return [flag for flag in flags if isinstance(flag, str) and flag.startswith("-")]
