"""Where weights stand on this machine: recipes name them, their places are remembered here."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

from sfumato import documents
from sfumato.core.errors import SfumatoError
from sfumato.home import home, put, storing
from sfumato.recipe.names import Reference, bare, is_weights, unshadowed

PLACES = 1000  # files and folders of weights whose place is remembered


def called(text: str) -> str:
    """How a recipe calls weights: a file or folder by its own name, any other text as it is.

    Folders are nobody else's business; where it stands is remembered here, for `placed`.
    """
    try:
        path = Path(text).expanduser()
        if not text or not path.exists():
            return text
    except (OSError, RuntimeError, ValueError):  # a text that cannot be a path
        return text
    path = path.parent.resolve() / path.name  # a link of the hub's cache keeps its own name
    if storing():
        known = _places()
        if known.pop(path.name, None) != str(path) or len(known) >= PLACES:
            known = dict(list(known.items())[1 - PLACES :])
        with suppress(OSError):  # a recipe is read without it too, as long as the file is beside it
            data = json.dumps(known | {path.name: str(path)}, indent=1).encode()
            put(home() / "places.json", data)
    return path.name


def placed(name: str, folders: Iterable[Path]) -> Path | None:
    """Weights that a recipe calls so: in the folders, else where they were last used from here.

    None for what is not there, and for the hub's org/name.
    """
    if "/" in bare(name):
        return None
    paths = [folder / name for folder in folders]
    if name in (remembered := _places()):
        paths.append(Path(remembered[name]))
    return next((path for path in paths if is_weights(path)), None)


def _places() -> dict[str, str]:
    """Where weights were last used from here; a damaged file counts as none, and is replaced."""
    try:
        places = documents.read_json(dict[str, str], home() / "places.json")
    except SfumatoError:
        return {}
    return {name: place for name, place in places.items() if Path(place).is_absolute()}


beside: ContextVar[tuple[Path, ...]] = ContextVar("sfumato_beside", default=())
"""Folders of the recipe that is being composed."""


Find = Callable[[str], str | None]


def nowhere(name: str) -> None:
    """Of weights that are where they always are."""


offered: ContextVar[Find] = ContextVar("sfumato_offered", default=nowhere)
"""Where weights stand that are known by name or hash whatever folder they are in, as a server's."""
naming: ContextVar[Callable[[str], str]] = ContextVar("sfumato_naming", default=called)
"""How a recipe calls the weights that its methods name."""


@contextmanager
def naming_by(name: Callable[[str], str]) -> Iterator[None]:
    """While active, recipes call weights so, where that is to lead to them again."""
    token = naming.set(name)
    try:
        yield
    finally:
        naming.reset(token)


def located(name: str) -> str:
    """The path of weights that the recipe being composed calls so; else the name as it is."""
    if (place := offered.get()(name)) is not None:
        return place
    if (reference := Reference.of(name)) is not None:
        raise SfumatoError(
            f"weights {reference.name or 'sha256'} are named by their hash ({reference.sha256[:12]}"
            "…), by which only a server knows its own; name the file"
        )
    folders, name = beside.get(), unshadowed(name)
    path = placed(name, folders) if folders else None
    return name if path is None else str(path)
