"""Picture: a PIL image that carries its recipe, and how it is written.

Reading files is decode.py, the texts inside files metadata.py.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import IO, Any, Self

from PIL import Image as PILImage

from sfumato.core.errors import SfumatoError
from sfumato.images.metadata import RecipeText, save_options


class Picture(PILImage.Image):
    """A PIL image with what PIL would lose.

    recipe: written into the file by save; alpha: "L" image of the same size kept apart from RGB, or
    None; name: file name without folders; sha256: of the bytes it was read from; composite: parts
    of a photo are in it. resize, crop, convert and the like return plain PIL images without alpha;
    call with_alpha() first to keep it.
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
        recipe: RecipeText | None = None,
        alpha: PILImage.Image | None = None,
        name: str | None = None,
        sha256: str | None = None,
        composite: bool = False,
    ) -> Self:
        """A Picture that shares the image's pixels; `copy()` parts them."""
        image.load()
        made = cls()
        made.im = image.im
        made._mode, made._size = image.mode, image.size
        made.palette = None if image.palette is None else image.palette.copy()
        made.info = dict(image.info)
        made.recipe, made.alpha, made.name = recipe, alpha, name
        made.sha256, made.composite = sha256, composite
        return made

    def copy(self) -> Self:
        alpha = None if self.alpha is None else self.alpha.copy()
        return type(self).of(super().copy(), **{**self._carried(), "alpha": alpha})

    def with_alpha(self) -> Picture:
        """RGBA where transparency was kept apart, else the picture itself."""
        if self.alpha is None:
            return self
        image = self.convert("RGB")
        image.putalpha(self.alpha)
        return type(self).of(image, **{**self._carried(), "alpha": None})

    def save(self, fp: Any, format: str | None = None, **params: Any) -> None:
        """Write the picture with its recipe: whole or not at all, never half a file.

        fp: a path or an open binary file. format and params as in PIL. PNG, JPEG, WebP, AVIF and
        TIFF carry the recipe; other formats warn. Raises SfumatoError when it cannot be written.
        """
        if hasattr(fp, "write"):
            self._save_open(fp, format, params)
            return
        path = Path(os.fsdecode(fp))
        kind = format or format_of(path)
        write_whole(path, self.encode(kind, name=str(path), **params))

    def encode(self, format: str, *, name: str | None = None, **params: Any) -> bytes:
        """The bytes that `save` would write in this format."""
        label, kind = name or self.name or "picture", format.upper().replace("JPG", "JPEG")
        PILImage.init()
        if kind not in PILImage.SAVE:
            raise SfumatoError(f"{label}: unknown format {format!r}; use PNG, JPEG or WEBP")
        if self.recipe is not None:
            params = save_options(kind, self.recipe, self.composite, params, label)
        buffer = io.BytesIO()
        try:
            super().save(buffer, kind, **params)
        except (OSError, ValueError) as error:
            if self.mode in ("RGBA", "LA") and "cannot write mode" in str(error):
                raise SfumatoError(
                    f"{label}: {kind} has no transparency; save as PNG or WebP, "
                    'or call convert("RGB") first'
                ) from None
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


def write_whole(path: Path, data: bytes) -> None:
    """Replace the file at once, so that a full disk or a crash leaves the old one."""
    if path.exists() and not path.is_file():
        if path.is_dir():
            raise SfumatoError(f"{path}: is a folder; give a file name")
        path.write_bytes(data)  # a device such as /dev/stdout cannot be replaced
        return
    target = path.resolve()  # a link keeps pointing to its file
    part = target.with_name(f".sfumato-{os.urandom(8).hex()}.part")
    try:
        part.write_bytes(data)
        part.replace(target)
    except FileNotFoundError:
        raise SfumatoError(
            f"{path}: the folder {path.parent} does not exist; make it first"
        ) from None
    except OSError as error:
        raise SfumatoError(
            f"{path}: could not be written ({error.strerror or error}); free some space or choose "
            "another folder"
        ) from None
    finally:
        part.unlink(missing_ok=True)


def format_of(path: Path) -> str:
    """Pillow's name of the format that a file name asks for."""
    kind = PILImage.registered_extensions().get(path.suffix.lower())
    if kind not in PILImage.SAVE:
        raise SfumatoError(
            f"{path}: unknown picture suffix {path.suffix!r}; use .png, .jpg or .webp"
        )
    return kind
