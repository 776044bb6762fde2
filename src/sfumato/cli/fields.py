"""How a method's fields become command line options, and options a method again."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from inspect import Parameter
from pathlib import Path
from types import GenericAlias, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from sfumato import documents
from sfumato.core.errors import SfumatoError, quoted, shortened
from sfumato.core.idle import Needs
from sfumato.images import ImageInput
from sfumato.methods import Method, described, field_of, find, main_field, registry

PANEL = "Of this method"
AUTO = "auto"


def number_or_auto(kind: type, low: float | None, high: float | None) -> Callable[[str], Any]:
    """Parser of a number in a range, or "auto": found by a search (sfumato.measure.auto)."""

    def parse(text: str | float) -> Any:
        if text == AUTO:
            return text
        try:
            value = kind(text)
        except ValueError:
            raise typer.BadParameter(f"{quoted(str(text))} is neither a number nor auto") from None
        if (low is not None and value < low) or (high is not None and value > high):
            raise typer.BadParameter(f"{text} is not in the range {low}<=x<={high}")
        return value

    return parse


def plain(annotation: Any) -> Any:
    """The type behind Annotated and `| None`, of a tuple's parts too."""
    if get_origin(annotation) is tuple:
        return GenericAlias(tuple, tuple(p if p is ... else plain(p) for p in get_args(annotation)))
    if get_origin(annotation) is Annotated:
        return plain(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return next(plain(a) for a in get_args(annotation) if a is not type(None))
    return annotation


def own(field: str) -> str:
    """What the value of a verb's own field is called, whatever the program's options are."""
    return f"own_{field}"


def brief(method: str) -> str:
    """What the value of --ID is called, which stands for a method's main field."""
    return f"brief_{method}"


def repeated(kind: Any) -> bool:
    """Whether a field takes any number of values, as an option that may be given again."""
    return get_origin(kind) is tuple and get_args(kind)[-1] is ...


def listed(kind: Any, given: Any) -> Any:
    """Values of a repeated option; of a kind that it cannot read itself, @FILE is a JSON list."""
    if not repeated(kind):
        return given
    values: list[Any] = []
    for value in given:
        part = get_args(kind)[0]
        if spoken(part) or part is ImageInput or not str(value).startswith("@"):
            values.append(value)
        else:
            values += documents.read_json(list[Any], Path(str(value)[1:]))
    return tuple(values)


def spoken(kind: Any) -> bool:
    """Whether the command line can read a type by itself; others are read as text."""
    if get_origin(kind) is tuple:
        return all(spoken(part) for part in get_args(kind))
    return kind in (str, int, float, bool) or get_origin(kind) is Literal


def parameter(
    name: str, field: str, info: FieldInfo, flag: str, panel: str = PANEL, whole: bool = False
) -> Parameter:
    """One field as a typer parameter called `name`; a required one is an argument.

    whole: the field stands for its whole method. An option that is not given is None, so that a
    default never wins over a preset or a recipe; the help shows the default all the same.
    """
    kind = plain(info.annotation)
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    needs = next((str(m) for m in info.metadata if isinstance(m, Needs)), "")
    text = f"{info.description or ''} ({extra['unit']})" if extra.get("unit") else info.description
    text = f"{text}; needs {needs}" if needs else text
    many = repeated(kind)
    kind = get_args(kind)[0] if many else kind
    file = "FILE" if kind is ImageInput else "TEXT|@FILE" if many and not spoken(kind) else None
    kind = kind if spoken(kind) else str
    hint: Any = GenericAlias(list, (kind,)) if many else kind
    if info.is_required() and not whole:
        argument = typer.Argument(help=text, show_default=False, metavar=field.upper())
        return Parameter(
            name, Parameter.POSITIONAL_OR_KEYWORD, annotation=Annotated[hint, argument]
        )
    low, high = limit(info, "ge", "gt"), limit(info, "le", "lt")
    number = kind in (int, float)
    default = False if info.default in (None, ()) or whole else str(as_typed(info.default))
    if extra.get("auto"):
        option = typer.Option(
            flag,
            help=text,
            rich_help_panel=panel,
            show_default=default,
            parser=number_or_auto(kind, low, high),
            metavar=f"NUMBER|auto [{low}<=x<={high}]",
        )
        return Parameter(
            name, Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[Any, option]
        )
    option = typer.Option(
        flag,
        help=text,
        rich_help_panel=panel,
        show_default=default,
        metavar=file,
        min=low if number else None,
        max=high if number else None,
    )
    return Parameter(
        name, Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[hint | None, option]
    )


def as_typed(default: Any) -> Any:
    """A default as one would type it."""
    if isinstance(default, bool):
        return "yes" if default else "no"
    return " ".join(map(str, default)) if isinstance(default, tuple) else default


def limit(info: FieldInfo, *names: str) -> float | None:
    """A bound among a field's constraints."""
    bounds = (getattr(m, name, None) for m in info.metadata for name in names)
    return next((value for value in bounds if value is not None), None)


def method_parameters(cls: type[Method], taken: Collection[str] = ()) -> list[Parameter]:
    """All fields of a verb's method, the required pictures first.

    taken: flags of the program itself; a field of such a name is --METHOD-FIELD.
    """
    parameters = []
    for field, info in described(cls).items():
        flag = f"--{field}".replace("_", "-")
        if {flag, flag[1:]} & set(taken):  # -n and --n would be two things
            flag = f"--{cls.id}-{field}".replace("_", "-")
        parameters.append(parameter(own(field), field, info, flag))
    return parameters


def other_parameters(taken: Collection[str] = ()) -> list[Parameter]:
    """--ID VALUE for the main field of every method that is no verb, unless that flag is taken."""
    parameters = []
    for name, cls in sorted(registry().items()):
        flag = f"--{name}".replace("_", "-")
        if not cls.verb and not {flag, flag[1:]} & set(taken):
            field = main_field(cls)
            info = described(cls)[field]
            option = parameter(brief(name), field, info, flag, "Other methods", whole=True)
            parameters.append(option)
    return parameters


def assignments(texts: Sequence[str]) -> dict[str, dict[str, Any]]:
    """--with METHOD.FIELD=VALUE, grouped by method."""
    by_method: dict[str, dict[str, Any]] = {}
    for text in texts:
        target, equals, value = text.partition("=")
        name, dot, field = target.partition(".")
        if not (equals and dot):
            raise SfumatoError(
                f"--with {shortened(text)}: write METHOD.FIELD=VALUE, such as cfg.window=0.2,1"
            )
        kind = plain(field_of(name, field, f"--with {shortened(text)}").annotation)
        if repeated(kind):
            fields = by_method.setdefault(name, {})
            fields[field] = (*fields.get(field, ()), *one_more(kind, value))
            continue
        typed = parsed(value) if get_origin(kind) is tuple else value
        if by_method.setdefault(name, {}).setdefault(field, typed) != typed:
            raise _twice(name, field)
    return by_method


def _twice(method: str, field: str) -> SfumatoError:
    return SfumatoError(f"{method}.{field}: is given twice, with two values; leave one out")


def one_more(kind: Any, value: str) -> tuple[Any, ...]:
    """What one --with adds to a repeated field: several as JSON writes them, else one."""
    values = parsed(value)
    texts = isinstance(values, tuple) and all(isinstance(v, str) for v in values)
    whole = isinstance(values, tuple) and bool(values) and (get_args(kind)[0] is not str or texts)
    added: tuple[Any, ...] = values if whole else listed(kind, [value])
    return added


def parsed(value: str) -> Any:
    try:
        return tuple(json.loads(f"[{value}]"))
    except (ValueError, RecursionError):
        return value


@dataclass(frozen=True)
class Wanted:
    """A method that a command line asks for, with the fields it gives."""

    cls: type[Method]
    values: Mapping[str, Any]
    preset: str | None = None

    @property
    def searched(self) -> list[str]:
        """Numeric fields given as "auto", which a search must turn into numbers."""
        kinds = {name: plain(info.annotation) for name, info in described(self.cls).items()}
        return [n for n, value in self.values.items() if value == AUTO and kinds[n] is float]

    @property
    def given(self) -> dict[str, Any]:
        """The fields that need no search."""
        left = self.searched
        return {name: value for name, value in self.values.items() if name not in left}

    @property
    def changes(self) -> dict[str, Any]:
        """What it changes of a method that is there already."""
        return {**self.cls.presets.get(self.preset or "", {}), **self.given}

    def method(self) -> Method:
        return self.cls.preset(self.preset, **self.given) if self.preset else self.cls(**self.given)

    def onto(self, process: Any) -> Any:
        """The process with this method, or with these fields if it has the method already."""
        if self.cls.id in {getattr(method, "id", None) for method in process.methods}:
            return process.revised(self.cls.id, **self.changes)
        return process | self.method()

    def among(self, methods: Sequence[Any]) -> list[Any]:
        """The same of methods that no process has yet."""
        if self.cls.id not in {method.id for method in methods}:
            return [*methods, self.method()]
        return [replace(m, **self.changes) if m.id == self.cls.id else m for m in methods]


def methods_of(
    verb: type[Method] | None,
    values: Mapping[str, Any],
    extra: Sequence[str],
    preset: str | None,
    columns: Sequence[str] = (),
) -> list[Wanted]:
    """The methods that a command line asks for. columns: METHOD.FIELD=VALUE that win over it."""
    chosen = assignments(extra)
    for name, cls in registry().items():
        if not cls.verb and (value := values.get(brief(name))) not in (None, []):
            field = main_field(cls)
            value = listed(plain(described(cls)[field].annotation), value)
            if str(chosen.setdefault(name, {}).setdefault(field, value)) != str(value):
                raise _twice(name, field)
    if verb is not None:
        mine = chosen.setdefault(verb.id, {})
        for field in described(verb):
            value = values.get(own(field))
            if value is not None:
                value = listed(plain(described(verb)[field].annotation), value)
            if value not in (None, ()) and str(mine.setdefault(field, value)) != str(value):
                raise _twice(verb.id, field)
    for name, of_row in assignments(columns).items():
        chosen[name] = {**chosen.get(name, {}), **of_row}
    wanted = []
    if verb is not None:
        if preset is not None and preset not in verb.presets:
            known = ", ".join(verb.presets) or "none"
            raise SfumatoError(
                f"--preset: {verb.id} has no preset {quoted(preset)}; it has {known}"
            )
        wanted.append(Wanted(verb, chosen.pop(verb.id, {}), preset))
    return wanted + [Wanted(find(name), fields_) for name, fields_ in chosen.items()]
