"""What a document calls weights: a bare name, or org/name of the hub, and never a path.

Where weights are known by their hash, as at a server, it may be sha256:HASH, or NAME@sha256:HASH.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from sfumato.core.errors import SfumatoError
from sfumato.documents import is_file, is_folder

HUB = re.compile(
    r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[A-Za-z0-9_][\w.-]*(/[A-Za-z0-9_][\w.-]*)*)?", re.ASCII
)
"""org/name or org/name@revision."""
PATH = re.compile(r"[\x00-\x1f\x7f/\\]|^~|^[A-Za-z]:")
REFERENCE = re.compile(r"((?P<name>[^/\\@:]+)@)?sha256:(?P<sha256>[0-9a-f]{64})")
WEIGHTS = (".safetensors", ".pt", ".pth", ".ckpt", ".bin", ".gguf")
"""How files of weights end that a recipe may name."""
NOT_BARE = (
    "is no bare name; a recipe names weights by their own name, without folders, or as org/name"
)


def bare(text: str) -> str:
    """A name that a document gives to weights: of a file or folder, or the hub's org/name.

    Raises SfumatoError where it is a path.
    """
    if text in ("", ".", "..") or len(text.encode(errors="replace")) > 255:
        raise SfumatoError(f"{text!r:.80} {NOT_BARE}")
    if not HUB.fullmatch(text) and PATH.search(text):
        raise SfumatoError(f"{text!r:.80} {NOT_BARE}")
    return text


def _bare(text: str) -> str:
    try:
        return bare(text)
    except SfumatoError:
        raise ValueError(NOT_BARE) from None


Name = Annotated[str, AfterValidator(_bare)]


@dataclass(frozen=True)
class Reference:
    """Weights by the hash of their bytes. name: what a recipe calls them; "": as their file."""

    sha256: str
    name: str = ""

    def __str__(self) -> str:
        return f"{self.name}@sha256:{self.sha256}" if self.name else f"sha256:{self.sha256}"

    @classmethod
    def of(cls, text: str) -> Reference | None:
        """From a document's text; None where that is a name alone. SfumatoError as `bare` says."""
        match = REFERENCE.fullmatch(text)
        if match is None:
            return None
        return cls(match["sha256"], bare(match["name"]) if match["name"] else "")


def unshadowed(name: str) -> str:
    """A document's name; the hub's org/name where a path of this machine reads the same is refused.

    What loads it would take the path for typed.
    """
    if "/" in bare(name) and os.path.lexists(name):
        raise SfumatoError(
            f"{name!r:.80} is the hub's name in a recipe, and a path in the working folder too; "
            "run it from another folder"
        )
    if is_file(Path(name)) and not is_weights(Path(name)):
        raise SfumatoError(
            f"{name!r:.80}: a recipe names weights, whose files end in {', '.join(WEIGHTS)}"
        )
    return name


def is_weights(path: Path) -> bool:
    """A folder, or a file called like weights: no recipe has other files opened."""
    return is_folder(path) or (is_file(path) and path.suffix.lower() in WEIGHTS)
