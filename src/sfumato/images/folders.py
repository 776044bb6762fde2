"""Folders of pictures: which of their files are pictures, for batches and training alike."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image as PILImage

from sfumato.images.decode import FORMATS

# photos that not every installation reads: tried, so that the reason is said
_FOREIGN = (".heic", ".heif", ".hif", ".jxl", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf")
_SIGNED = tuple(kind for kind in FORMATS if kind != "TGA")  # which anything may pass for


@dataclass(frozen=True)
class Listing:
    """pictures: files to open, by name; others: names of what is no picture."""

    pictures: Sequence[Path]
    others: Sequence[str]

    @property
    def note(self) -> str:
        """One line that names what is left out, empty if nothing is."""
        if not self.others:
            return ""
        named = ", ".join(self.others[:5])
        more = f" and {len(self.others) - 5} more" if len(self.others) > 5 else ""
        return f"no pictures, left out: {named}{more}"


def pictures_in(folder: Path, beside: Sequence[str] = ()) -> Listing:
    """The folder's pictures by their suffix, or where that says nothing by their first bytes.

    beside: suffixes of files that belong to pictures, such as captions, and are no news. Hidden
    files are left out, and named where their suffix is a picture's.
    """
    known = suffixes()
    pictures, others = [], []
    for file in sorted(folder.iterdir()):
        hidden, suffix = file.name.startswith("."), file.suffix.lower()
        if not hidden and file.is_file() and (suffix in known or _looks_like_one(file)):
            pictures.append(file)
        elif suffix in known if hidden else not (suffix in beside and file.is_file()):
            others.append(f"{file.name}/" if file.is_dir() else file.name)
    return Listing(pictures, others)


def suffixes() -> set[str]:
    """Of every format that the decoder reads, and of pictures that it only knows by name."""
    kinds = PILImage.registered_extensions().items()
    return {suffix for suffix, kind in kinds if kind in FORMATS} | set(_FOREIGN)


def _looks_like_one(file: Path) -> bool:
    kinds = [kind for kind in _SIGNED if kind in PILImage.OPEN]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            PILImage.open(file, formats=kinds).close()
        return True
    except PILImage.DecompressionBombError:
        return True  # whoever opens it says so
    except Exception:  # decoders raise anything on files of other kinds
        return False
