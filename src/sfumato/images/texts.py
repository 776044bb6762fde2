"""Text found in picture files: the recipe, its `parameters` copy, what other programs write."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from PIL import Image as PILImage

from sfumato.images.decode import identify, unwarned
from sfumato.images.inputs import read_bytes
from sfumato.images.metadata import COMPOSITE, EXIF_IFD, NAMESPACE, USER_COMMENT

OWN = ("sfumato", "parameters")
FOREIGN = ("invokeai_metadata", "prompt", "sd-metadata", "Dream")
"""Keys of other programs' settings in PNG files, besides parameters."""


def read_metadata(source: str | Path | bytes, *, foreign: bool = False) -> dict[str, str]:
    """`sfumato` (recipe JSON) and `parameters`, where a PNG, JPEG, WebP, AVIF or TIFF has them.

    foreign: of a PNG other programs' keys too.

    Raises SfumatoError when the file cannot be read or is no picture.
    """
    name = "picture" if isinstance(source, bytes) else Path(source).name
    data = source if isinstance(source, bytes) else read_bytes(source)
    image = identify(data, name)
    keys = (*OWN, *FOREIGN) if foreign else OWN
    texts = texts_of(image, keys)
    if image.format == "PNG" and "sfumato" not in texts:
        with suppress(Exception):  # some programs put text behind the pixels, even of broken files
            image.load()
            texts = texts_of(image, keys)
    return texts


def texts_of(image: PILImage.Image, keys: Sequence[str] = OWN) -> dict[str, str]:
    """What an opened file says, before its pixels are decoded."""
    texts = {k: v for k in keys if isinstance(v := image.info.get(k), str)}
    packet = image.info.get("xmp")
    if "sfumato" not in texts and packet and (recipe := _recipe_of(packet)):
        texts["sfumato"] = recipe
    if "parameters" not in texts and (comment := _comment_of(image)):
        texts["parameters"] = str(comment)
    return texts


def shows_photo(image: PILImage.Image) -> bool:
    """Whether an opened PNG of this program's says that parts of a photo are in it."""
    return COMPOSITE in str(image.info.get("XML:com.adobe.xmp", ""))


def _comment_of(image: PILImage.Image) -> str | None:
    try:
        with unwarned():
            value = image.getexif().get_ifd(EXIF_IFD).get(USER_COMMENT)
    except Exception:  # broken EXIF raises anything
        return None
    if isinstance(value, str):
        value = value.encode("latin-1", "replace")
    if not isinstance(value, bytes):
        return None
    code, text = value[:8], value[8:]
    if code == b"UNICODE\0":
        # writers disagree on the byte order; in Latin text the high bytes are zero
        little = text[1::2].count(0) > text[0::2].count(0)
        return text.decode("utf-16-le" if little else "utf-16-be", "replace")
    return text.decode("utf-8", "replace") if code == b"ASCII\0\0\0" else None


def _recipe_of(packet: Any) -> str | None:
    """The recipe in an XMP packet, as the element we write or the attribute others turn it into.

    A packet that declares a document type is not read, in whatever encoding: entities can expand
    without bound, and XMP has none.
    """
    from xml.parsers import expat

    if isinstance(packet, str):
        packet = packet.encode("utf-8", "replace")
    if not isinstance(packet, bytes):  # a table may say of a packet that it is numbers
        return None
    key = f"{NAMESPACE} recipe"
    texts: list[list[str]] = []
    open_texts: list[list[str]] = []

    def begins(name: str, attributes: dict[str, str]) -> None:
        if key in attributes:
            texts.append([attributes[key]])
        if name == key:
            texts.append([])
            open_texts.append(texts[-1])

    def ends(name: str) -> None:
        if name == key:
            open_texts.pop()

    def text(data: str) -> None:
        if open_texts:
            open_texts[-1].append(data)

    def refused(*_: Any) -> None:
        raise ValueError("XMP has no document type")

    reader = expat.ParserCreate(namespace_separator=" ")
    reader.StartElementHandler, reader.EndElementHandler = begins, ends
    reader.CharacterDataHandler = text
    reader.StartDoctypeDeclHandler = refused
    try:
        wide = packet[:2] in (b"\xff\xfe", b"\xfe\xff")  # zeros are half of every letter
        reader.Parse(packet if wide else packet.strip(b"\0 \n"), True)
    except (expat.ExpatError, ValueError, LookupError):
        return None
    return next((joined for parts in texts if (joined := "".join(parts))), None)
