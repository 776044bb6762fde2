"""Picture: a PIL image that carries its recipe, and how it is written.

Reading files is decode.py, the texts inside files metadata.py.
"""

from __future__ import annotations

import io
import os
import re
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, Self

from PIL import Image as PILImage

from sfumato.core.errors import SfumatoError
from sfumato.images.metadata import RecipeText, lost, save_options
from sfumato.images.writing import write_whole

Colour = str | tuple[int, int, int]

_CARRIED: Any = object()  # as the picture it is made of has it


class Picture(PILImage.Image):
    """A PIL image with what PIL would lose.

    recipe: written into the file by save; alpha: "L" image of the same size kept apart from RGB, or
    None, written too; name: file name without folders; sha256: of the bytes it was read from;
    composite: parts of a photo are in it. resize, crop, convert and the like return plain PIL
    images without alpha; call with_alpha() first to keep it.
    """

    recipe: Any = None
    alpha: PILImage.Image | None = None
    name: str | None = None
    sha256: str | None = None
    composite: bool = False

    @classmethod
    def of(
        cls,
        image: PILImage.Image,
        *,
        recipe: RecipeText | None = _CARRIED,
        alpha: PILImage.Image | None = _CARRIED,
        name: str | None = _CARRIED,
        sha256: str | None = _CARRIED,
        composite: bool = _CARRIED,
    ) -> Self:
        """A Picture that shares the image's pixels; `copy()` parts them.

        What is not given is as the image has it, if that is a Picture.
        """
        image.load()
        picture = cls()
        picture.im = image.im
        picture._mode, picture._size = image.mode, image.size
        picture.palette = None if image.palette is None else image.palette.copy()
        picture.info = dict(image.info)
        named = {"recipe": recipe, "alpha": alpha, "name": name, "sha256": sha256,
                 "composite": composite}  # fmt: skip
        carried = image._carried() if isinstance(image, Picture) else {}
        picture.__dict__.update(carried | {k: v for k, v in named.items() if v is not _CARRIED})
        return picture

    def copy(self) -> Self:
        alpha = None if self.alpha is None else self.alpha.copy()
        return type(self).of(super().copy(), **(self._carried() | {"alpha": alpha}))

    def with_alpha(self) -> Picture:
        """RGBA where transparency was kept apart, else the picture itself."""
        if self.alpha is None:
            return self
        image = self.convert("RGB")
        image.putalpha(self.alpha)
        return type(self).of(image, **(self._carried() | {"alpha": None}))

    def save(self, fp: Any, format: str | None = None, **params: Any) -> None:
        """Write the picture with its recipe: whole or not at all, never half a file.

        What has the name is replaced, as by PIL; Result.save takes the next free name.
        fp: a path or an open binary file. format and params as in PIL. PNG, JPEG, WebP, AVIF and
        TIFF carry the recipe; other formats warn. Raises SfumatoError when it cannot be written.
        """
        if hasattr(fp, "write"):
            self._save_open(fp, format, params)
            return
        if not isinstance(fp, str | bytes | os.PathLike):
            raise SfumatoError(f"picture: save to {fp!r:.60}: give a path or an open binary file")
        path = Path(os.fsdecode(fp))
        kind = format or format_of(path)
        write_whole(path, self.encode(kind, name=str(path), **params))

    def encode(self, format: str, *, name: str | None = None, **params: Any) -> bytes:
        """The bytes that `save` would write in this format."""
        label, kind = name or self.name or "picture", format.upper().replace("JPG", "JPEG")
        PILImage.init()
        if kind not in PILImage.SAVE:
            raise SfumatoError(f"{label}: unknown format {format!r}; use PNG, JPEG or WEBP")
        if 0 in self.size:
            raise SfumatoError(f"{label}: {self.width}x{self.height} has no pixels to save")
        if self.alpha is not None:
            return self.with_alpha().encode(format, name=name, **params)
        if not keeps_alpha(self, kind):
            raise SfumatoError(
                f"{label}: {kind} has no transparency; save as PNG or WebP, "
                'or call convert("RGB") first'
            )
        if kind == "GIF" and self.mode != "P" and self.getcolors(256) is None:
            lost(f"{label}: GIF files hold 256 colours; save as PNG to keep all")
        if self.recipe is not None:
            params = save_options(kind, self.recipe, self.composite, params, label)
        buffer = io.BytesIO()
        try:
            super().save(buffer, kind, **params)
        except (MemoryError, KeyboardInterrupt):
            raise
        except Exception as error:  # writers raise anything
            raise SfumatoError(f"{label}: cannot be written as {kind} ({error})") from None
        return buffer.getvalue()

    def _save_open(self, file: IO[bytes], format: str | None, params: dict[str, Any]) -> None:
        name = getattr(file, "name", None)
        path = Path(name) if isinstance(name, str) else Path("picture")
        kind = format or format_of(path)
        file.write(self.encode(kind, name=path.name, **params))

    def _carried(self) -> dict[str, Any]:
        names = ("recipe", "alpha", "name", "sha256", "composite")
        return {name: getattr(self, name) for name in names}

    def __getstate__(self) -> list[Any]:
        return [*super().__getstate__(), self._carried()]

    def __setstate__(self, state: list[Any]) -> None:
        super().__setstate__(state[:5])
        self.__dict__.update(state[5])


def flattened(picture: PILImage.Image, background: Colour) -> PILImage.Image:
    """RGB with transparent parts composited on a colour."""
    alpha = getattr(picture, "alpha", None)
    if alpha is None and picture.has_transparency_data:  # as PIL has it, and results
        alpha = picture.convert("RGBA").getchannel("A")
    if alpha is None:
        return picture.convert("RGB")
    return PILImage.composite(picture.convert("RGB"), ground(picture.size, background), alpha)


def ground(size: tuple[int, int], background: Colour) -> PILImage.Image:
    """RGB of one colour."""
    levels = background if isinstance(background, tuple) and len(background) == 3 else [None]
    try:
        if isinstance(background, str) or all(type(v) is int and 0 <= v <= 255 for v in levels):
            return PILImage.new("RGB", size, background)
    except (ValueError, OverflowError):  # OverflowError: rgb(…) with any numbers
        pass
    raise SfumatoError(
        f"background {background!r:.60}: is no colour; give a name such as white, or #rrggbb"
    )


def format_of(path: Path) -> str:
    """Pillow's name of the format that a file name asks for."""
    kind = PILImage.registered_extensions().get(path.suffix.lower())
    if kind not in PILImage.SAVE:
        raise SfumatoError(
            f"{path}: unknown picture suffix {path.suffix!r}; use .png, .jpg or .webp"
        )
    return kind


def keeps_alpha(image: PILImage.Image, kind: str) -> bool:
    """Whether a file of this format shows the picture as transparent as it is."""
    if image.mode not in ("RGBA", "LA") or _holds_alpha(kind):
        return True
    return kind == "GIF" and not any(image.getchannel("A").histogram()[1:255])


@lru_cache
def _holds_alpha(kind: str) -> bool:
    """Whether half-transparent pixels come back from a file of this format.

    Some writers refuse them, others leave the transparency out and show what was hidden.
    """
    buffer = io.BytesIO()
    try:
        PILImage.new("RGBA", (16, 16), (200, 10, 20, 128)).save(buffer, kind)
        back = reread(buffer, kind)
    except Exception:  # writers raise anything
        return False
    pixel = back.convert("RGBA").getpixel((0, 0)) if back else None
    return isinstance(pixel, tuple) and abs(pixel[3] - 128) < 8


def reread(buffer: io.BytesIO, kind: str) -> PILImage.Image | None:
    """A picture just written, None where Pillow reads the format only by another program."""
    if kind not in PILImage.OPEN or kind in ("EPS", "WMF"):
        return None
    return PILImage.open(buffer, formats=[kind])


def name_of(image: PILImage.Image) -> str:
    """The name of the file that a PIL image came from."""
    if isinstance(image, Picture) and image.name:
        return image.name
    return file_name(str(getattr(image, "filename", "") or "image.png"))


def file_name(text: str) -> str:
    """The last part of a path of any system; folders are nobody else's business."""
    last = re.split(r"[/\\]", text)[-1]
    return "image" if last in ("", ".", "..") else last
