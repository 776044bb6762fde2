"""Names that a model's files give to files beside them: they stay inside the model's folder."""

from __future__ import annotations

from pathlib import PurePosixPath, PureWindowsPath
from typing import Annotated

from pydantic import AfterValidator


def check_name(name: str) -> str:
    """The name, where it is a plain relative one; a ValueError where it leads elsewhere."""
    windows = PureWindowsPath(name)
    if not name.isprintable() or not name or len(name) > 255:
        raise ValueError("must be the name of a file in this folder")
    if PurePosixPath(name).is_absolute() or windows.drive or windows.root or name[0] == "~":
        raise ValueError("must be a name inside this folder, not a path to elsewhere")
    if ".." in windows.parts:
        raise ValueError("must be a name inside this folder, without ..")
    return name


Name = Annotated[str, AfterValidator(check_name)]
"""A name that a file gives to another beside it or below."""
