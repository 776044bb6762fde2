"""What a picture that a client sends must be: it is decoded, and its bytes say its type."""

from __future__ import annotations

import hashlib

from sfumato.core.errors import SfumatoError
from sfumato.images.decode import decode, identify
from sfumato.images.picture import file_name
from sfumato.server.admission import RefusedError
from sfumato.server.jobs import File
from sfumato.server.settings import Limits


def inspect(data: bytes, name: str, limits: Limits) -> File:
    """The picture as clients see it; RefusedError where it is none, or too large."""
    from PIL import Image

    label = file_name(name)[:200] if name else "picture"
    if not data:
        raise RefusedError(f"{label}: is empty", "file")
    try:
        opened = identify(data, label)
        width, height = opened.size
        if max(width, height) > limits.side or width * height > limits.pixels:
            raise RefusedError(
                f"{label}: is {width}x{height}; at most {limits.side} a side and "
                f"{limits.pixels:,} pixels here",
                "file", 413,
            )  # fmt: skip
        decode(data, label)
    except RefusedError:
        raise
    except SfumatoError as error:
        raise RefusedError(str(error), "file") from None
    kind = Image.MIME.get(opened.format or "", "application/octet-stream")
    return File(
        sha256=hashlib.sha256(data).hexdigest(), name=label, media_type=kind, bytes=len(data),
        place=0, width=width, height=height,
    )  # fmt: skip
