"""The help of the program, in two levels, and what it says when a command line cannot be read.

`--help` shows what is needed first with two examples, `--help-all` every option. Texts come from
the same parameters as the options; nothing is drawn, so that help is fast.
"""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from inspect import Parameter
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, ClassVar, Literal, NoReturn, get_args, get_origin

import typer
from typer.core import TyperCommand, TyperGroup

from sfumato.cli.options import declared
from sfumato.cli.verb import Verb
from sfumato.core.errors import one_line
from sfumato.core.synonyms import meant

# public by way of a subclass only: what is wrong with a command line
UsageError: type[Any] = typer.BadParameter.__mro__[1]

MAIN = frozenset(
    ("--prompt", "--model", "--steps", "--size", "--seed", "-n", "--cfg", "--output", "--sheet",
     "--plan", "--preset", "--over", "--seeds")
)  # fmt: skip
BEGIN = "to begin from a picture take sdedit"
BEFORE = "it stands before the verb: sfumato --server URL VERB"
ELSEWHERE = {
    "image": BEGIN,
    "t0": BEGIN,
    "strokes": BEGIN,
    "mask": "to change a part of a picture take inpaint",
    "upscale": "to enlarge a picture take upscale",
    "help": "it is --help",
    "server": BEFORE,
    "token-file": BEFORE,
    "detach": BEFORE,
}
"""What an option of other verbs says of the verb that is meant."""
FEW = 12  # options of which none is worth hiding


def page(verb: Verb, path: str, every: bool) -> str:
    """The help of a verb. path: how it is called. every: also what does not come first."""
    arguments = [p for p in verb.parameters if p.kind is Parameter.POSITIONAL_OR_KEYWORD]
    options = [p for p in verb.parameters if p.kind is Parameter.KEYWORD_ONLY]
    listed = [p for p in options if _comes_first(p, verb.first or frozenset())]
    if every or len(options) <= FEW or verb.first is None:
        listed, every = options, True
    names = " ".join(_name(p) for p in arguments)
    parts = [f"Usage: {path} {f'{names} ' if names else ''}[options]", _wrapped(verb.text)]
    if arguments:
        parts.append(_table((_name(p), _declaration(p).help or "") for p in arguments))
    for title, panel in _panels(listed):
        parts.append(f"{title}:\n{_table(_line(p) for p in panel)}")
    if verb.examples:
        parts.append(_examples(path, verb.examples))
    if not every:
        parts.append(f"{len(options) - len(listed)} more options: {path} --help-all")
    return "\n\n".join(parts)


def _comes_first(parameter: Parameter, first: frozenset[str]) -> bool:
    option = _declaration(parameter)
    return bool(set(declared(option)) & first) or option.metavar == "FILE"


def _examples(path: str, examples: Sequence[str]) -> str:
    return "Examples:\n" + "\n".join(f"  {path} {one}".rstrip() for one in examples)


class Command(TyperCommand):
    """The command of a verb; what cannot be read is one line."""

    verb: ClassVar[Verb]

    def get_help(self, ctx: Any) -> str:
        return page(self.verb, ctx.command_path, every=False)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        known = {flag: p for p in self.get_params(ctx) for flag in (*p.opts, *p.secondary_opts)}
        try:
            return super().parse_args(ctx, list(args))
        except UsageError as error:
            word = str(getattr(error, "option_name", ""))
            if not word or word in known:
                message = f"{error.format_message().rstrip('.')}{wrong_value(error, args)}"
                if "extra argument" in message and "--prompt" in known:
                    message = f"{message}; a prompt is given by -p"
                refuse(ctx, message)
            refuse(ctx, f"there is no option {word}{self.hint(word, list(known))}")

    def hint(self, word: str, known: Sequence[str]) -> str:
        """What was probably meant by an unknown option."""
        name = word.lstrip("-")
        own = {flag.lstrip("-"): flag for flag in known if flag.startswith("-")}
        arguments = [p for p in self.verb.parameters if p.kind is not p.KEYWORD_ONLY]
        where = meant(name, [*own, *(_name(p).strip("[]").lower() for p in arguments)])
        if where in own:
            return f"; here it is {own[where]}"
        if where is not None:
            itself = "themselves" if where.endswith("s") else "itself"
            return f"; give the {where} {itself}: {where.upper()}"
        elsewhere = meant(name, list(ELSEWHERE))
        return f"; {ELSEWHERE[elsewhere]}" if elsewhere else ""


def command_class(verb: Verb) -> type[Command]:
    """The class of a verb's command."""
    return type("Command", (Command,), {"verb": verb})  # typer takes a class


class Commands(TyperGroup):
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
            parts.append(_examples(path, self.examples))
        parts.append(f"{path} VERB --help says more of each.")
        return "\n\n".join(parts)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, list(args))  # which takes words away
        except UsageError as error:
            if not args:  # the help is what it says
                raise
            refuse(ctx, error.format_message())

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in self.commands:
            refuse(ctx, f"there is no verb {args[0]!r:.60}{self.hint(args[0])}")
        return super().resolve_command(ctx, args)

    def hint(self, word: str) -> str:
        """What was probably meant by an unknown verb."""
        if near := meant(word, list(self.commands)):
            return f"; here it is {near}"
        if word == "help":
            return "; put --help after a verb"
        if Path(word[:255]).exists() and "sdedit" in self.commands:
            return f"; a verb comes first, such as sdedit {word:.60}"
        return '; a prompt comes after a verb: generate "…"' if " " in word else ""


def group_class(
    examples: Sequence[str], headings: Sequence[tuple[str, tuple[str, ...]]] = ()
) -> type[Commands]:
    """The class of a group of verbs."""
    return type("Commands", (Commands,), {"examples": tuple(examples), "headings": tuple(headings)})


def refuse(ctx: Any, message: str) -> NoReturn:
    """One line about the command line, and exit code 2."""
    line = one_line(message).rstrip(".")
    typer.echo(f"{ctx.command_path}: {line[:1].lower()}{line[1:]} (--help says more)", err=True)
    raise typer.Exit(2)


def wrong_value(error: Any, args: Sequence[str]) -> str:
    """The value that is wrong, where the message leaves it out."""
    flags = getattr(getattr(error, "param", None), "opts", ())
    for k, word in reversed(list(enumerate(args))):  # of an option given twice the last counts
        flag, equals, value = word.partition("=")
        value = value if equals else next(iter(args[k + 1 : k + 2]), "")
        if flag in flags:
            return "" if value in error.format_message() else f", not {value!r:.60}"
    return ""


def all_options() -> Parameter:
    """--help-all."""

    def show(ctx: typer.Context, wanted: bool) -> None:
        if wanted:
            command: Any = ctx.command
            typer.echo(page(command.verb, ctx.command_path, every=True))
            raise typer.Exit

    option = typer.Option(
        "--help-all", is_eager=True, expose_value=False, callback=show, help="every option"
    )
    return Parameter(
        "help_all", Parameter.KEYWORD_ONLY, default=False, annotation=Annotated[bool, option]
    )


def _declaration(parameter: Parameter) -> Any:
    """What typer is told of a parameter."""
    return get_args(parameter.annotation)[1]


def _name(parameter: Parameter) -> str:
    name = _declaration(parameter).metavar or parameter.name.upper()
    return f"[{name}]" if parameter.default is not Parameter.empty else str(name)


def _panels(options: Sequence[Parameter]) -> Iterator[tuple[str, list[Parameter]]]:
    """Options by heading, a method's own first."""
    panels: dict[str, list[Parameter]] = {}
    for option in options:
        panels.setdefault(_declaration(option).rich_help_panel or "Options", []).append(option)
    for title in sorted(panels, key=lambda name: ("Of this method", "Options").index(name)
                        if name in ("Of this method", "Options") else 2):  # fmt: skip
        yield title, panels[title]


def _line(parameter: Parameter) -> tuple[str, str]:
    """Flags with what they take; text, range and default."""
    option = _declaration(parameter)
    flags = sorted(declared(option), key=len)
    lead = "" if len(flags[0]) == 2 else "    "
    takes, limits = _takes(parameter)
    text = option.help or ""
    notes = [limits] if limits else []
    if isinstance(option.show_default, str):
        notes.append(f"default {option.show_default}")
    elif parameter.default not in (None, False, True, "", 0) and parameter.default is not ...:
        if parameter.default != []:
            notes.append(f"default {parameter.default}")
    elif parameter.default is ...:
        notes.append("required")
    usage = f"{lead}{', '.join(flags)}{f' {takes}' if takes else ''}"
    return usage, f"{text} [{'; '.join(notes)}]" if notes else text


def _takes(parameter: Parameter) -> tuple[str, str]:
    """What stands after the flag, and its range."""
    option, kind = _declaration(parameter), get_args(parameter.annotation)[0]
    if option.metavar:
        name, _, limits = str(option.metavar).partition(" [")
        return name, limits.rstrip("]")
    kind = next((k for k in get_args(kind) if k is not NoneType), kind) if _optional(kind) else kind
    if kind is bool:
        return "", ""
    if get_origin(kind) is Literal:
        return "|".join(map(str, get_args(kind))), ""
    if get_origin(kind) is tuple:
        return " ".join("N" for part in get_args(kind) if part is not ...), ""
    low, high = option.min, option.max
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
