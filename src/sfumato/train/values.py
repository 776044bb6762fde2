"""What the classes of a training recipe are made of: strict values, their ranges, named choices.

The same class refuses the same value in a file, in an option and in a program.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar, dataclass_transform

from pydantic import AfterValidator, ConfigDict, Field, GetCoreSchemaHandler, ValidationError
from pydantic.dataclasses import dataclass as pydantic_dataclass
from pydantic_core import CoreSchema, core_schema

from sfumato.core.errors import SfumatoError
from sfumato.documents import explained

T = TypeVar("T", bound=type)
OWN = 0  # tag of what is none of the named ones

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
LONGEST = 10**9  # steps of a run
Steps = Annotated[int, Field(ge=1, le=LONGEST)]


def _file_name(name: str) -> str:
    if any(sign in name for sign in "/\\") or name.startswith(".") or not name.isprintable():
        raise ValueError("becomes the name of a file; leave out /, \\ and a dot at its beginning")
    return name


FileName = Annotated[str, Field(max_length=200), AfterValidator(_file_name)]
"""A text that becomes a part of a file's name."""


STRICT = ConfigDict(strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)


@dataclass_transform(frozen_default=True, field_specifiers=(Field, field))
def part(cls: T) -> T:
    """Make an annotated class a strict frozen value; a bad field is one clear line."""
    return _checked(cls, {**STRICT, "extra": "forbid"})


@dataclass_transform(frozen_default=True, field_specifiers=(Field, field))
def foreign(cls: T) -> T:
    """The same for what others write, who may say more than is read."""
    return _checked(cls, {**STRICT, "extra": "ignore"})


def _checked(cls: T, config: ConfigDict) -> T:
    strict: Any = pydantic_dataclass(frozen=True, config=config)(cls)
    init = strict.__init__

    def checked(self: Any, *args: Any, **values: Any) -> None:
        try:
            init(self, *args, **values)
        except ValidationError as error:
            raise SfumatoError(f"{cls.__name__}: {explained(error)}") from None

    strict.__init__ = checked
    result: T = strict
    return result


@dataclass(frozen=True)
class Chosen:
    """Marks a field that a file says as NAME or {name = NAME, FIELD = ...}; a program gives a value
    of one of these classes, or a function of its own."""

    known: Mapping[str, Callable[..., Any]]

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        choices: dict[Any, CoreSchema] = {
            name: core_schema.no_info_before_validator_function(
                _nameless, handler.generate_schema(kind)
            )
            for name, kind in self.known.items()
        }
        choices[OWN] = core_schema.callable_schema()
        return core_schema.tagged_union_schema(
            choices,
            discriminator=_name,
            custom_error_type="choice",
            custom_error_message=f"unknown; known are {', '.join(self.known)}",
        )


def _name(value: Any) -> Any:
    if isinstance(value, Mapping):
        return str(value.get("name"))
    if isinstance(value, str):
        return value
    return OWN if callable(value) else ""


def _nameless(choice: Any) -> Any:
    if isinstance(choice, str):
        return {}
    return {key: value for key, value in choice.items() if key != "name"}
