"""Secret: a text that a method needs and no recipe holds; what is recorded is its digest."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, fields, is_dataclass
from hashlib import sha256
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias, get_args

from pydantic_core import CoreSchema, core_schema

from sfumato.core.errors import SfumatoError

RECORDED = re.compile("sha256:[0-9a-f]{64}")
_known: ContextVar[Mapping[str, str]] = ContextVar("sfumato_secrets", default=MappingProxyType({}))


@dataclass(frozen=True)
class SecretText:
    """digest: "sha256:" and the text's, from which a short text can be guessed. Its text is shown
    nowhere; one that comes from a recipe has none."""

    digest: str
    _text: str | None = field(default=None, repr=False, compare=False)

    def __str__(self) -> str:
        return "(secret)"

    @classmethod
    def of(cls, value: Any) -> SecretText:
        """From a text, or from what a recipe recorded of it."""
        if isinstance(value, cls):
            return value
        if not isinstance(value, str) or not value:
            raise ValueError("must be a text")
        if RECORDED.fullmatch(value):
            return cls(value, _known.get().get(value))
        return cls(f"sha256:{sha256(value.encode()).hexdigest()}", value)

    @property
    def known(self) -> bool:
        """Whether its text is here."""
        return self._text is not None

    def text(self, where: str) -> str:
        """The text; where: what an error calls the field."""
        if self._text is None:
            raise SfumatoError(f"{where}: the recipe holds a digest of it alone; give it again")
        return self._text

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls.of,
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda value: value.digest
            ),
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: Any) -> dict[str, Any]:
        return {"type": "string", "format": "password"}


@contextmanager
def secrets_known(texts: Mapping[str, str]) -> Iterator[None]:
    """While active, what is read as one of these digests has its text."""
    token = _known.set(texts)
    try:
        yield
    finally:
        _known.reset(token)


def secret_fields(cls: type[Any]) -> list[str]:
    """Fields of a method that hold secrets."""
    described: Mapping[str, Any] = cls.__pydantic_fields__
    return [name for name, one in described.items() if _is_secret(one.annotation)]


def _is_secret(annotation: Any) -> bool:
    return annotation is SecretText or any(map(_is_secret, get_args(annotation)))


def secrets_of(method: Any) -> list[str]:
    """Fields of a method that hold a secret's text, which no document takes along."""
    return [
        one.name
        for one in (fields(method) if is_dataclass(method) else ())
        if isinstance(value := getattr(method, one.name), SecretText) and value.known
    ]


def secret_texts(method: Any) -> dict[str, str]:
    """The texts of these, by their digests."""
    held = [getattr(method, name) for name in secrets_of(method)]
    return {secret.digest: secret.text(method.id) for secret in held}


# How a method's field reads: `key: Secret`. Type checkers see Any, since the field takes a text.
if TYPE_CHECKING:
    Secret: TypeAlias = Any
else:
    Secret = SecretText
