"""Thumbnails: small WebP copies of pictures, made when first asked for and kept beside them."""

from __future__ import annotations

import io
import threading
from contextlib import suppress
from enum import StrEnum
from pathlib import Path

from sfumato.server.store.files import Files
from sfumato.server.store.trouble import trouble

QUALITY = 85


class ThumbnailSize(StrEnum):
    """How large its longer side is at most: 128, 256 or 512 pixels. None is larger than it was."""

    SMALL = "small"
    MEDIUM = "medium"
    LARGE = "large"

    @property
    def side(self) -> int:
        return {"small": 128, "medium": 256, "large": 512}[self.value]


def path(files: Files, sha256: str, size: ThumbnailSize) -> Path:
    """Where it is, or would be."""
    return files.folder.parent / "thumbnails" / sha256[:2] / f"{sha256}.{size}.webp"


def made(files: Files, sha256: str, size: ThumbnailSize) -> bytes:
    """Its bytes; made now where it was not. StoreError where the picture is gone."""
    kept = path(files, sha256, size)
    with suppress(OSError):
        return kept.read_bytes()
    data = shrunk(files.get(sha256), size.side)
    part = kept.with_name(f"{kept.name}.{threading.get_ident()}.part")
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(data)
        part.replace(kept)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise trouble(error) from None
    return data


def shrunk(data: bytes, side: int) -> bytes:
    """A picture as WebP, upright, within a square of that side."""
    from PIL import Image

    from sfumato.images.decode import decode

    image = decode(data, "picture").with_alpha()
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=QUALITY, method=2)
    return buffer.getvalue()


def remove(files: Files, sha256: str) -> None:
    """Remove all of a picture that is gone."""
    for size in ThumbnailSize:
        with suppress(OSError):
            path(files, sha256, size).unlink(missing_ok=True)
