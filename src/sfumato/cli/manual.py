"""The help of the program, in two levels, and what it says when a command line cannot be read.

`--help` shows what is needed first with two examples, `--help-all` every option. Texts come from
the same parameters as the options; nothing is drawn, so that help is fast.
"""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from inspect import Parameter
from types import NoneType
from typing import Annotated, Any, ClassVar, Literal, NoReturn, get_args, get_origin

import typer
from typer.core import TyperCommand, TyperGroup

from sfumato.cli.options import declared
from sfumato.core.errors import one_line
from sfumato.core.synonyms import meant

# public by way of a subclass only: what is wrong with a command line
UsageError: type[Any] = typer.BadParameter.__mro__[1]

MAIN = frozenset(
    ("--prompt", "--model", "--steps", "--size", "--seed", "-n", "--cfg", "--output", "--sheet",
     "--plan", "--preset", "--over", "--seeds")
)  # fmt: skip
FEW = 12  # options of which none is worth hiding


@dataclass(frozen=True)
class Manual:
    """What there is to say of a verb. main: flags that come first, None for all of them."""

    text: str
    parameters: tuple[Parameter, ...]
    examples: tuple[str, ...] = ()
    main: frozenset[str] | None = MAIN

    def page(self, path: str, every: bool) -> str:
        """The help text. path: how the verb is called."""
        arguments = [p for p in self.parameters if p.kind is Parameter.POSITIONAL_OR_KEYWORD]
        options = [p for p in self.parameters if p.kind is Parameter.KEYWORD_ONLY]
        first = [p for p in options if self.comes_first(p)]
        if every or len(options) <= FEW or self.main is None:
            first, every = options, True
        names = " ".join(_shown(p) for p in arguments)
        parts = [f"Usage: {path} {f'{names} ' if names else ''}[options]", _wrapped(self.text)]
        if arguments:
            parts.append(_table((_shown(p), _told(p).help or "") for p in arguments))
        for title, panel in _panels(first):
            parts.append(f"{title}:\n{_table(_line(p) for p in panel)}")
        if self.examples:
            parts.append(
                "Examples:\n" + "\n".join(f"  {path} {one}".rstrip() for one in self.examples)
            )
        if not every:
            rest = len(options) - len(first)
            parts.append(f"{rest} more options: {path} --help-all")
        return "\n\n".join(parts)

    def comes_first(self, parameter: Parameter) -> bool:
        given = _told(parameter)
        return bool(set(declared(given)) & (self.main or frozenset())) or given.metavar == "FILE"


class Verb(TyperCommand):
    """A verb with its manual; what cannot be read is one line."""

    manual: ClassVar[Manual]

    def get_help(self, ctx: Any) -> str:
        return self.manual.page(ctx.command_path, every=False)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        known = {flag: p for p in self.get_params(ctx) for flag in (*p.opts, *p.secondary_opts)}
        try:
            return super().parse_args(ctx, list(args))
        except UsageError as error:
            word = str(getattr(error, "option_name", ""))
            if not word or word in known:
                refuse(ctx, f"{error.format_message().rstrip('.')}{given(error, args)}")
            refuse(ctx, f"there is no option {word}{self.hint(word, list(known))}")

    def hint(self, word: str, known: Sequence[str]) -> str:
        """What was probably meant by an unknown option."""
        name = word.lstrip("-")
        own = {flag.lstrip("-"): flag for flag in known if flag.startswith("-")}
        arguments = [_shown(p) for p in self.manual.parameters if p.kind is not p.KEYWORD_ONLY]
        where = meant(name, [*own, *(shown.lower() for shown in arguments)])
        if where in own:
            return f"; here it is {own[where]}"
        if where is not None:
            return f"; give the {where} itself: {where.upper()}"
        elsewhere = meant(name, ["image", "t0", "mask", "strokes"])
        return "; to begin from a picture take sdedit" if elsewhere else ""


def verb(manual: Manual) -> type[Verb]:
    """The class of a verb's command."""
    return type("Verb", (Verb,), {"manual": manual})  # typer takes a class


class Program(TyperGroup):
    """`sfumato` and its groups: verbs under headings."""

    examples: ClassVar[tuple[str, ...]] = ()
    headings: ClassVar[tuple[tuple[str, tuple[str, ...]], ...]] = ()

    def get_help(self, ctx: Any) -> str:
        path, left = ctx.command_path, dict(self.commands)
        parts = [f"Usage: {path} VERB ...", _wrapped(self.help or "")]
        for heading, names in self.headings:
            there = [left.pop(name) for name in names if name in left]
            if there:
                parts.append(f"{heading}:\n{_table((c.name or '', _brief(c)) for c in there)}")
        if left:
            title = "Others" if self.headings else "Verbs"
            parts.append(f"{title}:\n{_table((name, _brief(c)) for name, c in left.items())}")
        if self.examples:
            parts.append(
                "Examples:\n" + "\n".join(f"  {path} {one}".rstrip() for one in self.examples)
            )
        parts.append(f"{path} VERB --help says more of each.")
        return "\n\n".join(parts)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except UsageError as error:
            if not args:  # the help is what it says
                raise
            refuse(ctx, error.format_message())

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in self.commands:
            near = meant(args[0], list(self.commands))
            hint = f"; here it is {near}" if near else ""
            refuse(ctx, f"there is no verb {args[0]!r:.60}{hint}")
        return super().resolve_command(ctx, args)


def program(
    examples: Sequence[str], headings: Sequence[tuple[str, tuple[str, ...]]] = ()
) -> type[Program]:
    """The class of a group of verbs."""
    return type("Program", (Program,), {"examples": tuple(examples), "headings": tuple(headings)})


def refuse(ctx: Any, message: str) -> NoReturn:
    """One line about the command line, and exit code 2."""
    line = one_line(message).rstrip(".")
    typer.echo(f"{ctx.command_path}: {line[:1].lower()}{line[1:]} (--help says more)", err=True)
    raise typer.Exit(2)


def given(error: Any, args: Sequence[str]) -> str:
    """The value that is wrong, where the message leaves it out."""
    flags = getattr(getattr(error, "param", None), "opts", ())
    for k, word in enumerate(args):
        flag, equals, value = word.partition("=")
        value = value if equals else next(iter(args[k + 1 : k + 2]), "")
        if flag in flags and value not in error.format_message():
            return f", not {value!r:.60}"
    return ""


def all_options() -> Parameter:
    """--help-all."""

    def told(ctx: typer.Context, wanted: bool) -> None:
        if wanted:
            command: Any = ctx.command
            typer.echo(command.manual.page(ctx.command_path, every=True))
            raise typer.Exit

    option = typer.Option(
        "--help-all", is_eager=True, expose_value=False, callback=told, help="every option"
    )
    return Parameter(
        "help_all", Parameter.KEYWORD_ONLY, default=False, annotation=Annotated[bool, option]
    )


def _told(parameter: Parameter) -> Any:
    """What typer is told of a parameter."""
    return get_args(parameter.annotation)[1]


def _shown(parameter: Parameter) -> str:
    name = _told(parameter).metavar or parameter.name.upper()
    return f"[{name}]" if parameter.default is not Parameter.empty else str(name)


def _panels(options: Sequence[Parameter]) -> Iterator[tuple[str, list[Parameter]]]:
    """Options by heading, a method's own first."""
    found: dict[str, list[Parameter]] = {}
    for option in options:
        found.setdefault(_told(option).rich_help_panel or "Options", []).append(option)
    for title in sorted(found, key=lambda name: ("Of this method", "Options").index(name)
                        if name in ("Of this method", "Options") else 2):  # fmt: skip
        yield title, found[title]


def _line(parameter: Parameter) -> tuple[str, str]:
    """Flags with what they take; text, range and default."""
    given = _told(parameter)
    flags = sorted(declared(given), key=len)
    lead = "" if len(flags[0]) == 2 else "    "
    takes, limits = _takes(parameter)
    text = given.help or ""
    notes = [limits] if limits else []
    if isinstance(given.show_default, str):
        notes.append(f"default {given.show_default}")
    elif parameter.default not in (None, False, True, "", 0) and parameter.default is not ...:
        if parameter.default != []:
            notes.append(f"default {parameter.default}")
    elif parameter.default is ...:
        notes.append("required")
    shown = f"{lead}{', '.join(flags)}{f' {takes}' if takes else ''}"
    return shown, f"{text} [{'; '.join(notes)}]" if notes else text


def _takes(parameter: Parameter) -> tuple[str, str]:
    """What stands after the flag, and its range."""
    given, kind = _told(parameter), get_args(parameter.annotation)[0]
    if given.metavar:
        name, _, limits = str(given.metavar).partition(" [")
        return name, limits.rstrip("]")
    kind = next((k for k in get_args(kind) if k is not NoneType), kind) if _optional(kind) else kind
    if kind is bool:
        return "", ""
    if get_origin(kind) is Literal:
        return "|".join(map(str, get_args(kind))), ""
    if get_origin(kind) is tuple:
        return " ".join("N" for part in get_args(kind) if part is not ...), ""
    low, high = given.min, given.max
    limits = ""
    if low is not None or high is not None:
        limits = f"{'' if low is None else f'{low:g}<='}x{'' if high is None else f'<={high:g}'}"
    return {int: "N", float: "NUMBER"}.get(kind, "TEXT"), limits


def _optional(kind: Any) -> bool:
    return NoneType in get_args(kind)


def _brief(command: Any) -> str:
    """The first sentence of a verb's text."""
    text = " ".join((command.help or "").split())
    return re.split(r"(?<=[a-z)])[.;](?: |$)", text)[0]


def _width() -> int:
    return max(60, min(100, shutil.get_terminal_size().columns))


def _wrapped(text: str) -> str:
    return textwrap.fill(" ".join(text.split()), _width())


def _table(rows: Any) -> str:
    """Two columns; a wide first cell has its line to itself."""
    cells = list(rows)
    left = min(26, max((len(first) for first, _ in cells), default=0)) + 4
    lines = []
    for first, second in cells:
        text = textwrap.wrap(" ".join(second.split()), _width() - left) or [""]
        if len(first) + 4 > left:
            lines.append(f"  {first}")
        else:
            lines.append(f"  {first:{left - 2}}{text.pop(0)}".rstrip())
        lines += [f"{'':{left}}{line}" for line in text]
    return "\n".join(lines)
