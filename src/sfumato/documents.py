"""Documents: JSON and TOML that came from somewhere, read into strict and bounded values.

Every kind of file this project reads (recipe, card, adapter's note, training recipe, ...) is one
pydantic class; reading it gives a value or one SfumatoError, a line that names the document, the
field, its value, and what is allowed. What the fields mean is said where the classes are.
"""

from __future__ import annotations

import json
import os
import stat
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sfumato.core.errors import SfumatoError

if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError

T = TypeVar("T")

LIMIT = 4 << 20
"""Bytes of a document, unless its kind says otherwise."""

# without waiting for the other end of a pipe; Windows has no such flag, and its own for bytes
_AT_ONCE = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def expanded(text: str | Path) -> Path:
    """The path, of which ~ is a home; SfumatoError where nobody has it."""
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise SfumatoError(f"{text}: cannot be read ({error}); check the path") from None


def is_folder(path: Path) -> bool:
    """Whether it is a folder; no, and no error, of a name that none can have."""
    return stat.S_ISDIR(_mode(path))


def is_file(path: Path) -> bool:
    """The same of a regular file."""
    return stat.S_ISREG(_mode(path))


def is_there(path: Path) -> bool:
    """The same of anything."""
    return _mode(path) != 0


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except (OSError, ValueError):  # a name that is too long; ValueError: a null byte in it
        return 0


def check_regular(path: Path) -> None:
    """Refuses what is no regular file: a folder, a pipe that waits, a device without an end."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise SfumatoError(f"{path}: no such file; check the path") from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        text = getattr(error, "strerror", None) or error
        raise SfumatoError(f"{path}: cannot be read ({text})") from None
    if not stat.S_ISREG(mode):
        what = "a folder" if stat.S_ISDIR(mode) else "no regular file"
        raise SfumatoError(f"{path}: is {what}; give a file")


def read_bytes(path: Path, limit: int = LIMIT) -> bytes:
    """The bytes of a regular file of at most `limit` bytes; pipes and devices are refused."""
    check_regular(path)
    try:
        with os.fdopen(os.open(path, _AT_ONCE), "rb") as stream:
            status = os.fstat(stream.fileno())  # what was looked at may have been exchanged
            if not stat.S_ISREG(status.st_mode):
                raise SfumatoError(f"{path}: is no regular file; give a file")
            data = b"" if status.st_size > limit else stream.read(limit + 1) or b""
    except FileNotFoundError:
        raise SfumatoError(f"{path}: no such file; check the path") from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        text = getattr(error, "strerror", None) or error
        raise SfumatoError(f"{path}: cannot be read ({text})") from None
    if status.st_size > limit or len(data) > limit:
        raise SfumatoError(f"{path}: is larger than {_size(limit)}, more than such a file can be")
    return data


def read_text(path: Path, limit: int = LIMIT) -> str:
    """The text of a regular UTF-8 file, without a byte order mark."""
    try:
        return read_bytes(path, limit).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SfumatoError(f"{path}: is not UTF-8 text (byte {error.start})") from None


def read_json(kind: type[T], path: Path, limit: int = LIMIT) -> T:
    """A JSON file as a value of `kind`."""
    return parse_json(kind, read_text(path, limit), path.name)


class _RepeatedError(Exception):
    """A key that an object has twice."""


def repeated_key(text: str | bytes) -> str | None:
    """A key that an object of a JSON text has twice, of which readers take one or the other."""

    def unique(pairs: list[tuple[str, Any]]) -> None:
        seen = set()
        for key, _ in pairs:
            if key in seen:
                raise _RepeatedError(key)
            seen.add(key)

    try:
        json.loads(text, object_pairs_hook=unique, parse_int=str, parse_float=str)
    except _RepeatedError as error:
        return str(error)
    return None


def parse_json(
    kind: type[T] | TypeAdapter[T], text: str | bytes, where: str, context: Any = None
) -> T:
    """A JSON text as a value of `kind`; `where` is what an error calls the text.

    Strictly, also where a class takes more from Python. context: of the class's own validators.
    """
    value = _parsed(kind, text, where, context)
    if (key := repeated_key(text)) is not None:
        raise SfumatoError(f"{where}: has {key!r:.80} twice; leave one out")
    return value


def _parsed(kind: type[T] | TypeAdapter[T], text: str | bytes, where: str, context: Any) -> T:
    from pydantic import TypeAdapter, ValidationError

    adapter = kind if isinstance(kind, TypeAdapter) else TypeAdapter(kind)
    try:
        return adapter.validate_json(text, strict=True, context=context)
    except ValidationError as error:
        raise SfumatoError(f"{where}: {explained(error)}") from None
    except SfumatoError as error:  # of a field that has a check of its own
        raise SfumatoError(f"{where}: {error}") from None


def read_toml(kind: type[T], path: Path, limit: int = LIMIT) -> T:
    """A TOML file as a value of `kind`; dates are texts."""
    return parse_data(kind, toml_table(read_text(path, limit), str(path)), path.name)


def toml_table(text: str, where: str) -> dict[str, Any]:
    """A TOML text as plain data; dates are texts."""
    try:
        table: dict[str, Any] = json.loads(json.dumps(tomllib.loads(text), default=str))
    except (ValueError, RecursionError) as error:  # ValueError: also numbers of 5,000 digits
        raise SfumatoError(f"{where}: is not TOML ({error})") from None
    return table


def parse_data(kind: type[T] | TypeAdapter[T], data: Any, where: str, context: Any = None) -> T:
    """Plain data (what JSON can say) as a value of `kind`, as strict as a file."""
    try:
        text = json.dumps(data, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise SfumatoError(f"{where}: {next(_unencoded(data))}") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise SfumatoError(f"{where}: is not plain data ({error})") from None
    return _parsed(kind, text, where, context)


def _unencoded(data: Any, *path: str | int) -> Iterator[str]:
    """Of every text in plain data that has no encoding: its field, and what stands around it."""
    if isinstance(data, Mapping):
        for key, value in data.items():
            yield from _unencoded(str(key), *path)
            yield from _unencoded(value, *path, key)
    elif isinstance(data, list | tuple):
        for place, value in enumerate(data):
            yield from _unencoded(value, *path, place)
    elif isinstance(data, str):
        try:
            data.encode()
        except UnicodeEncodeError as error:
            around = data[max(error.start - 20, 0) : error.end + 20]
            field = f"{'.'.join(map(_named, path))} " if path else ""
            yield f"{field}is not UTF-8 text at {around!r}"


def explained(error: ValidationError) -> str:
    """The first thing that is wrong, as `field value: what is allowed`."""
    first = error.errors(include_url=False)[0]
    where = ".".join(_named(part) for part in first["loc"])
    kind, context = first["type"], first.get("ctx", {})
    message = first["msg"].removeprefix("Value error, ")
    if kind == "json_invalid":
        return f"is not JSON ({context.get('error', message)})"
    if kind == "missing":
        return f"{where} is missing"
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"there is no field {where!r:.80}; leave it out"
    value = first["input"]
    shown = "" if isinstance(value, dict) else f" = {value!r:.60}"
    message = message[:1].lower() + message[1:]
    return f"{where}{shown}: {message}" if where else message


def _named(part: str | int) -> str:
    """A step on the way to a field; keys may be any text."""
    text = str(part)
    return text[:80] if text.isprintable() else f"{text!r:.80}"


def _size(count: int) -> str:
    return f"{count >> 20} MiB" if count >= 1 << 20 else f"{count} bytes"
