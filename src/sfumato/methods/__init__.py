"""What a method is, how its fields are described, and how the installed ones are found.

A method is one file here (or an entry point `sfumato.methods` of another package): a frozen value
whose call edits a process. Its fields are the options of the program, the published schema and the
recorded recipe. No file of this package imports torch.

A value made in Python, or of the command line, may name files by their paths: the user types them.
One made from a document (`from_data`) is read as JSON, which names pictures by their hash and
weights by a bare name; pydantic's mode tells the two apart, for every field of every method.
"""

from __future__ import annotations

import importlib
import logging
import pkgutil
from collections.abc import Mapping
from dataclasses import fields, replace
from functools import cache
from importlib.metadata import entry_points
from inspect import isabstract
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Literal,
    Self,
    TypeVar,
    dataclass_transform,
    get_args,
)

from pydantic import (
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic.dataclasses import dataclass as pydantic_dataclass
from pydantic.fields import FieldInfo

from sfumato import documents
from sfumato.core.errors import SfumatoError, quoted
from sfumato.core.idle import default_of, idle, needs_of, refuse_idle
from sfumato.core.synonyms import hinted
from sfumato.images import ImageInput, inputs_of
from sfumato.recipe.value import reader

if TYPE_CHECKING:
    from sfumato.core.process import Process

T = TypeVar("T", bound=type)

log = logging.getLogger("sfumato")


class Method:
    """A frozen value that edits a process; `@method` on the class makes its fields.

    verb: has a CLI verb of its own instead of being an option of others. slot: at most one method
    of a slot fits in a process. stages: "base", or "all" stages of a cascade. presets: named field
    values. examples: what a verb is called with, for its help. needs: what it changes of a
    prediction without keeping x0 and eps together, such as {"eps"}; solvers that do not read it are
    refused. solver, defaults: what it brings where nobody said otherwise, before the card's: a
    solver, and methods of other slots. levels: fields that set the level a run starts from.
    """

    id: ClassVar[str]
    verb: ClassVar[bool] = False
    slot: ClassVar[str | None] = None
    stages: ClassVar[Literal["base", "all"]] = "base"
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    examples: ClassVar[tuple[str, ...]] = ()
    needs: ClassVar[frozenset[str]] = frozenset()
    solver: ClassVar[str | Mapping[str, Any] | None] = None
    defaults: ClassVar[tuple[Method, ...]] = ()
    levels: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        cls.id = cls.__module__.rpartition(".")[2]

    def __call__(self, process: Process) -> Process:
        raise TypeError(f"{type(self).__name__} does not say what it does to a process")

    @property
    def reference_picture(self) -> ImageInput | None:
        """The picture that results are to stay close to: the first one among the fields."""
        return next(iter(inputs_of(self)), None)

    @classmethod
    def preset(cls, name: str, *positional: Any, **values: Any) -> Self:
        """The method with a preset's fields; those given here, as the class takes them, win."""
        if not isinstance(name, str) or name not in cls.presets:
            known = ", ".join(cls.presets) or "none"
            raise SfumatoError(f"{cls.id}: no preset {quoted(str(name))}; there are {known}")
        return cls(*positional, **{**cls.presets[name], **values})

    def changed(self, **values: Any) -> Self:
        """With other values; one given before that does nothing beside them is left out."""
        cls = type(self)
        _no_bools(cls, (), values)
        needs = needs_of(cls)
        known = {field.name: field for field in fields(cls)}  # type: ignore[arg-type]
        changed = self._unchecked({name: getattr(self, name) for name in known} | values)
        while carried := [name for name in idle(changed, needs) if name not in values]:
            kept = {name: getattr(changed, name) for name in known}
            changed = self._unchecked(kept | {name: default_of(known[name]) for name in carried})
        checked: Self = replace(changed)
        return checked

    def _unchecked(self, values: Mapping[str, Any]) -> Any:
        """The same class with these values, of which some may do nothing."""
        cls = type(self)
        try:
            return TypeAdapter(cls).validate_python(dict(values), context=RAN)
        except ValidationError as error:
            raise SfumatoError(_line(cls, error)) from None


RAN = {"ran": True}
"""Context of reading what a run recorded: a field that does nothing stays."""


def _acting(value: Any, info: ValidationInfo) -> Any:
    if not (info.context or {}).get("ran"):
        refuse_idle(value.id, idle(value, needs_of(type(value))))
    return value


@dataclass_transform(frozen_default=True, field_specifiers=(Field,))
def method(cls: T) -> T:
    """Make the annotated class a validated frozen value; bad fields are one clear line."""
    cls._acting = model_validator(mode="after")(_acting)  # type: ignore[attr-defined]
    frozen: Any = pydantic_dataclass(
        frozen=True,
        config=ConfigDict(arbitrary_types_allowed=True, allow_inf_nan=False, extra="forbid"),
    )(cls)
    for name in set(described(frozen)) & {n for n in vars(Method) if not n.startswith("_")}:
        raise TypeError(f"{frozen.__name__}: field {name} has the name of what every method has")
    init = frozen.__init__

    def validated(self: Any, *args: Any, **values: Any) -> None:
        try:
            _no_bools(frozen, args, values)
            init(self, *args, **values)
        except ValidationError as error:
            raise SfumatoError(_line(cls, error)) from None
        except TypeError as error:
            raise SfumatoError(f"{frozen.id}: {error}") from None

    frozen.__init__ = validated
    result: T = frozen
    return result


def _no_bools(cls: type[Method], args: tuple[Any, ...], values: Mapping[str, Any]) -> None:
    """True is no number here, though Python has it that way."""
    for name, value in [*zip(described(cls), args, strict=False), *values.items()]:
        parts = value if isinstance(value, list | tuple) else (value,)
        if any(type(part) is bool for part in parts) and name in described(cls):
            annotation = described(cls)[name].annotation
            if not {bool, Any} & {annotation, *get_args(annotation)}:
                raise SfumatoError(f"{cls.id}: {name} = {value!r}: must not be a bool")


def knob(
    text: str,
    *,
    main: bool = False,
    unit: str = "",
    ge: float | None = None,
    le: float | None = None,
    gt: float | None = None,
    auto: tuple[float, float] | None = None,
) -> Any:
    """Describe a field: help text, range, unit, and whether it is the one to show first.

    auto: the range in which measure.auto may search it; the distance to the picture that the method
    was given must grow with it.
    """
    extra: dict[str, Any] = {"main": main, "unit": unit}
    if auto is not None:
        extra["auto"] = list(auto)
    return Field(description=text, ge=ge, le=le, gt=gt, json_schema_extra=extra)


def _line(cls: type, error: ValidationError) -> str:
    """The first thing that is wrong with values given in Python."""
    every = error.errors()
    strange = ("unexpected_keyword_argument", "unexpected_positional_argument")
    first = next((one for one in every if one["type"] in strange), every[0])
    own = getattr(cls, "id", cls.__name__)
    names = [f.name for f in fields(cls)]
    if first["type"] in strange:
        keyword = first["type"] == "unexpected_keyword_argument"
        word = str(first["loc"][0])
        known = f"no field {word!r:.60}{hinted(word, names)}"
        what = known if keyword else "has more values than fields"
        return f"{own}: {what}; its fields: {', '.join(names)}"
    where = [
        names[p] if isinstance(p, int) and k == 0 else str(p) for k, p in enumerate(first["loc"])
    ]
    if first["type"].startswith("missing"):
        return f"{own}: {'.'.join(where[:1])} is missing; give it"
    value = first["input"]
    assigned = "" if isinstance(value, Mapping) or not where else f" = {value!r:.60}"
    message = first["msg"].removeprefix("Value error, ")
    return f"{own}: {'.'.join(where[:1])}{assigned}: {message}"


def main_field(cls: type[Method]) -> str:
    """The field to show first."""
    extras = {name: info.json_schema_extra for name, info in described(cls).items()}
    marked = (name for name, x in extras.items() if isinstance(x, dict) and x.get("main"))
    return next(marked, next(iter(extras)))


@cache
def registry() -> dict[str, type[Method]]:
    """Every installed method by id: the files of this package, then entry points.

    A class that leaves something abstract is what several methods share.
    """
    methods: dict[str, type[Method]] = {}
    for module in pkgutil.iter_modules(__path__):
        if module.ispkg:  # what methods share
            continue
        loaded = importlib.import_module(f"{__name__}.{module.name}")
        methods |= {
            cls.id: cls
            for cls in vars(loaded).values()
            if isinstance(cls, type)
            and issubclass(cls, Method)
            and not isabstract(cls)
            and cls.__module__ == loaded.__name__
        }
    for entry in entry_points(group="sfumato.methods"):
        try:
            cls = entry.load()
            described(cls)
        except Exception as error:  # of another package, which must not take this program down
            log.warning("method %s: could not be loaded (%s)", entry.name, error)
            continue
        methods.setdefault(cls.id, cls)  # what its recipes call it
    return methods


def find(name: Any) -> type[Method]:
    """The method class of an id."""
    if not isinstance(name, str) or name not in registry():
        raise SfumatoError(
            f"method {name!r:.60}: unknown; installed are {', '.join(sorted(registry()))}"
        )
    return registry()[name]


def described(cls: type[Method]) -> Mapping[str, FieldInfo]:
    """Field name -> pydantic's description of it."""
    pydantic_class: Any = cls
    by_name: Mapping[str, FieldInfo] = pydantic_class.__pydantic_fields__
    return by_name


def field_of(method: str, field: str, where: str) -> FieldInfo:
    """A method's field; where: what an error calls the place that asks."""
    known = described(find(method))
    if field not in known:
        hint = hinted(field, known)
        raise SfumatoError(
            f"{where}: {method} has no {quoted(field)}{hint}, only {', '.join(known)}"
        )
    return known[field]


def to_data(value: Any) -> dict[str, Any]:
    """What a recipe records of a method: its id and all fields; pictures as hash and name."""
    if not isinstance(value, Method):
        return {"method": f"{type(value).__module__}:{type(value).__qualname__}"}
    dumped = TypeAdapter(type(value)).dump_python(value, mode="json")
    return {"method": value.id, **dumped}


def from_data(data: Mapping[str, Any], where: str = "", ran: bool = False) -> Method:
    """The method of a document's entry, read as strictly as any JSON.

    Unknown methods and fields are errors, and so is a path. where: what an error calls the entry.
    ran: it is of a run, so that a field that did nothing then does nothing now.
    """
    values = dict(data)
    cls = find(values.pop("method", None))
    prefix = f"{where}: {cls.id}" if where else cls.id
    for name in values:
        if name not in described(cls):
            known = ", ".join(described(cls))
            hint = hinted(str(name), described(cls))
            raise SfumatoError(f"{prefix}: no field {name!r:.60}{hint}; its fields: {known}")
    try:
        return documents.parse_data(TypeAdapter(cls), values, cls.id, RAN if ran else None)
    except SfumatoError as error:  # some name the method, some are told by it
        text = str(error)
        while text.startswith(f"{cls.id}: "):
            text = text.removeprefix(f"{cls.id}: ")
        raise SfumatoError(f"{prefix}: {text}") from None


def schema(cls: type[Method]) -> dict[str, Any]:
    """JSON Schema of a method's fields."""
    return TypeAdapter(cls).json_schema()


def recipe_schema() -> dict[str, Any]:
    """JSON Schema of recipes, with the fields of every installed method.

    What it takes may still be refused: a path, a picture that is nowhere, fields that exclude each
    other.
    """
    readers = {name: TypeAdapter(cls) for name, cls in registry().items()}
    inputs = [(name, "validation", one) for name, one in {"": reader(), **readers}.items()]
    references, shared = TypeAdapter.json_schemas(inputs)  # type: ignore[arg-type]  # of many kinds
    parts = shared["$defs"]
    own = {name: references[name, "validation"]["$ref"].rpartition("/")[2] for name in readers}
    for name, part in own.items():
        definition = parts[part]
        definition["properties"] = {"method": {"const": name}, **definition.get("properties", {})}
        definition["required"] = ["method", *definition.get("required", ())]
    document: dict[str, Any] = parts.pop(references["", "validation"]["$ref"].rpartition("/")[2])
    document["properties"]["methods"]["items"] = {
        "oneOf": [{"$ref": f"#/$defs/{part}"} for part in own.values()]
    }
    return {**document, "$defs": parts}
