"""Text inside picture files: the recipe, its `parameters` copy, and the mark of machine-made media.

PNG has text chunks; JPEG, WebP, AVIF and TIFF take an XMP packet and EXIF. Pixels are elsewhere.
"""

from __future__ import annotations

import re
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from PIL import Image as PILImage

from sfumato.core.errors import PictureWarning

SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/"
NAMESPACE = "urn:sfumato:ns:1.0/"
WITH_XMP = ("JPEG", "MPO", "WEBP", "AVIF", "TIFF")
SEGMENTED = ("JPEG", "MPO")
SEGMENT = 65_000  # a JPEG segment holds 65533 bytes, headers included
PNG_TEXT = 60 << 20  # Pillow reads 64 MB of text in all

_IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_EXIF_IFD, _USER_COMMENT, _XMP = 0x8769, 0x9286, 700
_NOT_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class RecipeText(Protocol):
    """What a recipe gives a picture file."""

    def to_json(self) -> str: ...

    def parameters(self) -> str: ...


def save_options(
    kind: str, recipe: RecipeText, composite: bool, options: dict[str, Any], name: str
) -> dict[str, Any]:
    """PIL's save options that put the recipe into a file of this format; `options` win."""
    text = _json_for_xml(recipe.to_json())
    comment = recipe.parameters().replace("\0", "").encode("utf-8", "replace").decode()
    if kind == "PNG":
        fits = len(text.encode()) <= PNG_TEXT
        if not fits:
            lost(
                f"{name}: the recipe ({len(text):,} characters) is more than readers of PNG take "
                "and was left out; embed smaller inputs to keep it"
            )
        given = options.get("pnginfo")
        return {**options, "pnginfo": _png_text(text if fits else None, comment, composite, given)}
    if kind not in WITH_XMP:
        lost(f"{name}: {kind} files carry no recipe and no mark; save as PNG to keep them")
        return options
    if "xmp" in options or (kind == "TIFF" and {"exif", "tiffinfo"} & options.keys()):
        lost(f"{name}: the metadata given take the place of the recipe and the mark")
    packet = xmp(composite, text)
    if kind == "TIFF":  # whose writer takes no packet, but any tag of the EXIF block
        return {"exif": _exif(comment, packet), **options}
    exif = _exif(comment)
    if kind in SEGMENTED and len(packet) > SEGMENT:
        lost(
            f"{name}: the recipe ({len(text):,} characters) does not fit into a JPEG and was left "
            "out; save as PNG to keep it"
        )
        packet = xmp(composite)
    if kind in SEGMENTED and len(exif) > SEGMENT:
        exif = b""
    return {"xmp": packet, "exif": exif, **options}


def xmp(composite: bool, recipe: str | None = None) -> bytes:
    """The XMP packet: IPTC DigitalSourceType, and the recipe's JSON if given.

    composite: a photo was edited, rather than everything made.
    """
    source = SOURCE_TYPE + (
        "compositeWithTrainedAlgorithmicMedia" if composite else "trainedAlgorithmicMedia"
    )
    own = "" if recipe is None else f"<sfumato:recipe>{_escaped(recipe)}</sfumato:recipe>"
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{_RDF}">'
        f'<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="{_IPTC}" xmlns:sfumato="{NAMESPACE}">'
        f"<Iptc4xmpExt:DigitalSourceType>{source}</Iptc4xmpExt:DigitalSourceType>{own}"
        '</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
    ).encode()


def read_metadata(source: str | Path | bytes) -> dict[str, str]:
    """`sfumato` (recipe JSON) and `parameters`, where a PNG, JPEG, WebP, AVIF or TIFF has them.

    Raises SfumatoError when the file cannot be read or is no picture.
    """
    from sfumato.images.decode import identify
    from sfumato.images.inputs import read_bytes

    name = "picture" if isinstance(source, bytes) else Path(source).name
    data = source if isinstance(source, bytes) else read_bytes(source)
    image = identify(data, name)
    found = _texts(image)
    if image.format == "PNG" and "sfumato" not in found:
        with suppress(Exception):  # some programs put text behind the pixels, even of broken files
            image.load()
            found = _texts(image)
    return found


def _texts(image: PILImage.Image) -> dict[str, str]:
    found = {k: v for k in ("sfumato", "parameters") if isinstance(v := image.info.get(k), str)}
    packet = image.info.get("xmp")
    if "sfumato" not in found and packet and (recipe := _recipe_of(packet)):
        found["sfumato"] = recipe
    if "parameters" not in found and (comment := _comment_of(image)):
        found["parameters"] = str(comment)
    return found


def lost(line: str) -> None:
    """Say what a file does not hold."""
    warnings.warn(line, PictureWarning, stacklevel=5)


def _png_text(text: str | None, comment: str, composite: bool, given: Any) -> Any:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    if given is not None:
        info.chunks = list(given.chunks)
    if text is not None:
        info.add_itxt("sfumato", text)
    info.add_itxt("parameters", comment)
    info.add_itxt("XML:com.adobe.xmp", xmp(composite).decode())
    return info


def _json_for_xml(text: str) -> str:
    """Characters that neither XML nor UTF-8 can hold, as JSON's own escapes."""
    return _NOT_XML.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _exif(comment: str, packet: bytes | None = None) -> bytes:
    exif = PILImage.Exif()  # big-endian, and so is its Unicode comment
    if packet is not None:
        exif[_XMP] = packet
    exif.get_ifd(_EXIF_IFD)[_USER_COMMENT] = b"UNICODE\0" + comment.encode("utf-16-be")
    return exif.tobytes()


def _comment_of(image: PILImage.Image) -> str | None:
    from sfumato.images.decode import unwarned

    try:
        with unwarned():
            value = image.getexif().get_ifd(_EXIF_IFD).get(_USER_COMMENT)
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
