"""What a method is, how its fields are described, and how the installed ones are found.

A method is one file here (or an entry point `sfumato.methods` of another package): a frozen value
whose call edits a process. Its fields are the CLI flags, the HTTP schema, the studio's form and the
recorded recipe. No file of this package imports torch.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from importlib.metadata import entry_points
from inspect import isabstract
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    Literal,
    Self,
    TypeVar,
    dataclass_transform,
)

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    TypeAdapter,
    ValidationError,
)
from pydantic.dataclasses import dataclass as pydantic_dataclass
from pydantic.fields import FieldInfo

from sfumato.core.errors import SfumatoError
from sfumato.images import ImageInput, inputs_of
from sfumato.recipe import called, located

if TYPE_CHECKING:
    from sfumato.core.process import Process

T = TypeVar("T", bound=type)

WORDS = ("auto", "none", "model")  # of such fields; never the name of a file
Weights = Annotated[
    str,
    AfterValidator(lambda given: given if given in WORDS else located(given)),
    PlainSerializer(lambda given: given if given in WORDS else called(given)),
]
"""A field that may name a file or folder of weights; recorded without its folders."""


class Method:
    """A frozen value that edits a process; `@method` on the class makes its fields.

    verb: has a CLI verb of its own instead of being an option of others. slot: at most one method
    of a slot fits in a process. stages: "base", or "all" stages of a cascade. presets: named field
    values. needs: what it changes of a prediction without keeping x0 and eps together, such as
    {"eps"}; solvers that do not read it are refused.
    """

    id: ClassVar[str]
    verb: ClassVar[bool] = False
    slot: ClassVar[str | None] = None
    stages: ClassVar[Literal["base", "all"]] = "base"
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    needs: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(cls) -> None:
        cls.id = cls.__module__.rpartition(".")[2]

    def __call__(self, process: Process) -> Process:
        raise TypeError(f"{type(self).__name__} does not say what it does to a process")

    @property
    def guide(self) -> ImageInput | None:
        """The picture that results are to stay close to: the first one among the fields."""
        return next(iter(inputs_of(self)), None)

    @classmethod
    def preset(cls, name: str, *positional: Any, **values: Any) -> Self:
        """The method with a preset's fields; those given here, as the class takes them, win."""
        if name not in cls.presets:
            known = ", ".join(cls.presets) or "none"
            raise SfumatoError(f"{cls.id}: no preset {name!r}; there are {known}")
        return cls(*positional, **{**cls.presets[name], **values})


@dataclass_transform(frozen_default=True, field_specifiers=(Field,))
def method(cls: T) -> T:
    """Make the annotated class a validated frozen value; bad fields are one clear line."""
    made: Any = pydantic_dataclass(
        frozen=True, config=ConfigDict(arbitrary_types_allowed=True, allow_inf_nan=False)
    )(cls)
    init = made.__init__

    def validated(self: Any, *args: Any, **values: Any) -> None:
        try:
            init(self, *args, **values)
        except ValidationError as error:
            raise SfumatoError(_line(cls, error)) from None
        except TypeError as error:
            raise SfumatoError(f"{made.id}: {error}") from None

    made.__init__ = validated
    result: T = made
    return result


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
    first = error.errors()[0]
    names = [f.name for f in fields(cls)]
    where = [
        names[p] if isinstance(p, int) and k == 0 else str(p) for k, p in enumerate(first["loc"])
    ]
    value = first["input"]
    shown = "" if isinstance(value, Mapping) or not where else f" = {value!r:.60}"
    message = first["msg"].removeprefix("Value error, ")
    return f"{getattr(cls, 'id', cls.__name__)}: {'.'.join(where[:1])}{shown}: {message}"


@cache
def registry() -> dict[str, type[Method]]:
    """Every installed method by id: the files of this package, then entry points.

    A class that leaves something abstract is what several methods share.
    """
    found: dict[str, type[Method]] = {}
    for module in pkgutil.iter_modules(__path__):
        loaded = importlib.import_module(f"{__name__}.{module.name}")
        found |= {
            cls.id: cls
            for cls in vars(loaded).values()
            if isinstance(cls, type)
            and issubclass(cls, Method)
            and not isabstract(cls)
            and cls.__module__ == loaded.__name__
        }
    for entry in entry_points(group="sfumato.methods"):
        found.setdefault(entry.name, entry.load())
    return found


def find(name: str) -> type[Method]:
    """The method class of an id."""
    if name not in registry():
        raise SfumatoError(
            f"method {name!r}: unknown; installed are {', '.join(sorted(registry()))}"
        )
    return registry()[name]


def described(cls: type[Method]) -> Mapping[str, FieldInfo]:
    """Field name -> pydantic's description of it."""
    made: Any = cls
    found: Mapping[str, FieldInfo] = made.__pydantic_fields__
    return found


def field_of(method: str, field: str, where: str) -> FieldInfo:
    """A method's field; where: what an error calls the place that asks."""
    known = described(find(method))
    if field not in known:
        raise SfumatoError(f"{where}: {method} has no {field!r}, only {', '.join(known)}")
    return known[field]


def to_data(value: Any) -> dict[str, Any]:
    """What a recipe records of a method: its id and all fields; pictures as hash and name."""
    if not isinstance(value, Method):
        return {"method": f"{type(value).__module__}:{type(value).__qualname__}"}
    dumped = TypeAdapter(type(value)).dump_python(value, mode="json")
    return {"method": value.id, **dumped}


def from_data(data: Mapping[str, Any]) -> Method:
    """The method of a recipe's entry; unknown methods and fields are errors."""
    values = dict(data)
    cls = find(str(values.pop("method", None)))
    known = [f.name for f in fields(cls)]  # type: ignore[arg-type]
    for name in values:
        if name not in known:
            raise SfumatoError(f"{cls.id}: no field {name!r}; its fields: {', '.join(known)}")
    return cls(**values)


def schema(cls: type[Method]) -> dict[str, Any]:
    """JSON Schema of a method's fields."""
    return TypeAdapter(cls).json_schema()
