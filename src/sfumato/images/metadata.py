"""Text put into picture files: the recipe, its `parameters` copy, the mark of machine-made media.

PNG has text chunks; JPEG, WebP, AVIF and TIFF take an XMP packet and EXIF. Reading it back is
texts.py.
"""

from __future__ import annotations

import re
import warnings
from typing import Any, Protocol

from PIL import Image as PILImage

from sfumato.core.errors import PictureWarning, SfumatoError

SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/"
COMPOSITE = "compositeWithTrainedAlgorithmicMedia"
NAMESPACE = "urn:sfumato:ns:1.0/"
WITH_XMP = ("JPEG", "MPO", "WEBP", "AVIF", "TIFF")
SEGMENTED = ("JPEG", "MPO")
SEGMENT = 65_000  # a JPEG segment holds 65533 bytes, headers included
PNG_TEXT = 60 << 20  # Pillow reads 64 MB of text in all

_IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
EXIF_IFD, USER_COMMENT, _XMP = 0x8769, 0x9286, 700
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
        info = options.get("pnginfo")
        return {
            **options,
            "pnginfo": _png_text(text if fits else None, comment, composite, info),
        }
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
    source = SOURCE_TYPE + (COMPOSITE if composite else "trainedAlgorithmicMedia")
    own = "" if recipe is None else f"<sfumato:recipe>{_escaped(recipe)}</sfumato:recipe>"
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{_RDF}">'
        f'<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="{_IPTC}" xmlns:sfumato="{NAMESPACE}">'
        f"<Iptc4xmpExt:DigitalSourceType>{source}</Iptc4xmpExt:DigitalSourceType>{own}"
        '</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
    ).encode()


def lost(line: str) -> None:
    """Say what a file does not hold."""
    warnings.warn(line, PictureWarning, stacklevel=5)


def _png_text(text: str | None, comment: str, composite: bool, earlier: Any) -> Any:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    if earlier is not None and not isinstance(earlier, PngInfo):
        raise SfumatoError(f"pnginfo {earlier!r:.60}: give a PngInfo")
    if earlier is not None:
        info.chunks = list(earlier.chunks)
    if text is not None:
        info.add_itxt("sfumato", text)
    info.add_itxt("parameters", comment)
    info.add_itxt("XML:com.adobe.xmp", xmp(composite).decode())
    return info


def _json_for_xml(text: str) -> str:
    """Characters that neither XML nor UTF-8 can hold, as JSON's own escapes."""
    return _NOT_XML.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _exif(comment: str, packet: bytes | None = None) -> bytes:
    exif = PILImage.Exif()  # big-endian, and so is its Unicode comment
    if packet is not None:
        exif[_XMP] = packet
    exif.get_ifd(EXIF_IFD)[USER_COMMENT] = b"UNICODE\0" + comment.encode("utf-16-be")
    return exif.tobytes()
