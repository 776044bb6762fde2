"""Destination: where results go, as a user typed it; checked before anything is made.

Patterns, file names and what formats can hold. Writing the file is writing.py.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import Image as PILImage

from sfumato.core.errors import SfumatoError
from sfumato.core.frame import Sides
from sfumato.images.metadata import PNG_TEXT, SEGMENT, SEGMENTED, WITH_XMP
from sfumato.images.picture import format_of, reread
from sfumato.images.writing import NAME_BYTES, try_folder

FIELDS = ("i", "seed", "prompt")
LONGEST = {"JPEG": 65_500, "MPO": 65_500, "WEBP": 16_383, "AVIF": 65_535, "GIF": 65_535,
           "TGA": 65_535}  # fmt: skip
UNLIMITED = ("PNG", "TIFF", "BMP")

_PLACE = re.compile(r"\{([^{}]*)\}")
_NAMED = re.compile(r"[A-Za-z_]\w*")
# control characters, and those that turn text around; Windows allows a few others nowhere
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069" + (':*?"<>|' if os.name == "nt" else "") + "]+"
)


@dataclass(frozen=True)
class Destination:
    """pattern: a file's path in which {fields} stand for what belongs to a picture."""

    pattern: str
    fields: tuple[str, ...] = FIELDS

    @classmethod
    def of(cls, place: str | Path, *more: str) -> Destination:
        """From a file, a folder or a pattern; more: fields beside {i}, {seed} and {prompt}.

        A folder gets {prompt}-{seed}.png. Raises SfumatoError where no picture can be saved so.
        """
        text = str(place)
        if not text.strip():
            raise SfumatoError("output: is empty; give a file, a folder or a pattern")
        if "\0" in text:
            raise SfumatoError(f"output {text!r:.80}: a name holds no null characters")
        if os.path.isdir(text) or text.endswith(("/", os.sep)):  # noqa: PTH112  (never raises)
            text = str(Path(text) / "{prompt}-{seed}.png")
        fields = (*FIELDS, *more)
        for field in _PLACE.findall(text):
            if field not in fields and _NAMED.match(field):
                known = ", ".join(f"{{{name}}}" for name in fields)
                raise SfumatoError(f"{text}: there is no {{{field}}} here; there are {known}")
        if _encodable(text) != text:
            raise SfumatoError(f"{text!r:.60}: has letters that no file's name can have here")
        kind = format_of(Path(text))
        if why := unable(kind, (16, 16)):
            raise SfumatoError(f"{text}: {why}; use .png, .jpg or .webp")
        return cls(text, fields)

    @property
    def kind(self) -> str:
        """Pillow's name of the format."""
        return format_of(Path(self.pattern))

    @property
    def folder(self) -> Path:
        """The part of its folders that is the same for every picture."""
        parts = []
        for part in Path(self.pattern).parent.parts:
            if _PLACE.search(part):
                break
            parts.append(part)
        return Path(*parts)

    def paths(self, prompt: str, seed: int, indices: Sequence[int], **more: str) -> list[Path]:
        """The path of each picture of a batch; several without {i} or {seed} get -1, -2, ...

        Values never leave the folder that was typed: they lose separators, dots in front and
        control characters. Raises SfumatoError for a value of which nothing is left.
        """
        path = Path(self.pattern)
        if len(indices) > 1 and not {"i", "seed"} & set(_PLACE.findall(self.pattern)):
            path = path.with_name(f"{path.stem}-{{i}}{path.suffix}")
        slug = _encodable(re.sub(r"\W+", "-", prompt.lower())).strip("-")[:40] or "picture"
        asked = set(_PLACE.findall(self.pattern))
        same = {"prompt": slug, **{k: bare(k, v) for k, v in more.items() if k in asked}}
        paths = []
        for index in indices:
            values = {"i": str(index + 1), "seed": str(seed + index), **same}
            text = _PLACE.sub(lambda place, v=values: v.get(place[1], place[0]), str(path))  # type: ignore[misc]
            paths.append(Path(text))
        return paths

    def check(
        self,
        paths: Collection[Path],
        *,
        size: Sides | None = None,
        embedded: int = 0,
        makes: bool = False,
    ) -> None:
        """Raise SfumatoError unless pictures can be written there.

        size: of the pictures, where it is known; embedded: characters of inputs inside the recipe;
        makes: missing folders are made later.
        """
        for folder in dict.fromkeys(path.parent for path in paths):
            _ready(folder, self.pattern, makes)
        for path in paths:
            if (count := len(os.fsencode(path.name))) > NAME_BYTES:
                raise SfumatoError(
                    f"{path.name[:40]}…: the name is {count} bytes long, a file's may be "
                    f"{NAME_BYTES}; give a shorter one"
                )
        if embedded and (room := text_room(self.kind)) < embedded:
            other = "" if self.kind == "PNG" else " or use PNG"
            raise SfumatoError(
                f"{self.pattern}: the inputs are {_size(embedded)} as text, readers of {self.kind} "
                f"take {_size(room)}; leave out --embed{other}"
            )
        if size is None:
            return
        if why := unable(self.kind, size):
            raise SfumatoError(f"{self.pattern}: {why}; use .png")
        # far less than any but an empty picture takes, so that only what is certain is refused
        least = len(paths) * (size[0] * size[1] // 16 + embedded)
        if paths and (free := _free(next(iter(paths)).parent)) < least:
            raise SfumatoError(
                f"{self.pattern}: {len(paths)} pictures take {_size(least)} or more, "
                f"{_size(free)} are free there; free some space or choose another folder"
            )


def bare(field: str, value: str) -> str:
    """A value as a part of a file's name, whatever it holds."""
    parts = (part.lstrip(".") for part in re.split(r"[/\\]", _UNSAFE.sub("-", value)))
    name = _encodable("-".join(part for part in parts if part))
    if not name.strip("- "):
        raise SfumatoError(
            f"{field} = {value!r:.60}: nothing of it can be a file's name; give another"
        )
    return name


def _encodable(text: str) -> str:
    """Without the letters that names cannot have here."""
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        code = sys.getfilesystemencoding()
        return text.encode(code, "ignore").decode(code)
    return text


def text_room(kind: str) -> int:
    """Characters of a recipe that a file of this format holds."""
    if kind == "PNG":
        return PNG_TEXT
    if kind in SEGMENTED:
        return SEGMENT
    return 1 << 30 if kind in WITH_XMP else 0


@lru_cache
def unable(kind: str, size: Sides) -> str:
    """Why a format cannot hold colour pictures of this size; empty where it can."""
    if kind in LONGEST or kind in UNLIMITED:
        longest = LONGEST.get(kind)
        if longest and max(size) > longest:
            return f"{kind} pictures have up to {longest} px a side, not {max(size)}"
        return ""
    colour = (200, 10, 20)
    buffer = io.BytesIO()
    try:
        PILImage.new("RGB", size, colour).save(buffer, kind)
    except Exception as error:  # writers raise anything
        return f"{kind} cannot hold this picture ({error})"
    back = reread(buffer, kind)
    if back is None:
        return ""
    if back.size != size:
        return f"{kind} would make it {back.width}x{back.height} instead of {size[0]}x{size[1]}"
    pixel = back.convert("RGB").getpixel((0, 0))
    assert isinstance(pixel, tuple)
    if max(abs(a - b) for a, b in zip(pixel, colour, strict=True)) > 16:
        return f"{kind} keeps no colours"
    return ""


def check_file(path: Path) -> None:
    """Raise SfumatoError unless a new file, of any kind, can be written there."""
    if path.is_dir():
        raise SfumatoError(f"{path}: is a folder; give a file name")
    if path.exists() and not path.is_file():
        raise SfumatoError(f"{path}: is a device or a pipe; give a file name")
    _ready(path.parent, str(path), makes=False)


def _ready(folder: Path, path: str, makes: bool) -> None:
    try:
        while makes and not folder.exists() and folder != folder.parent:
            folder = folder.parent
        if not folder.exists():
            raise SfumatoError(f"{path}: the folder {folder} does not exist; make it first")
        if not folder.is_dir():
            raise SfumatoError(f"{path}: {folder} is no folder; choose another")
        try_folder(folder)
    except OSError as error:
        raise SfumatoError(
            f"{path}: nothing can be written in {folder} ({error.strerror or error}); choose "
            "another folder"
        ) from None


def _free(folder: Path) -> int:
    """Bytes left on the folder's disk; more than anyone needs where the system does not say."""
    try:
        usage = shutil.disk_usage(folder)
    except OSError:
        return 1 << 62
    return usage.free if usage.total else 1 << 62


def _size(count: int) -> str:
    return f"{count / (1 << 20):,.1f} MiB" if count >= 1 << 20 else f"{count:,} bytes"
