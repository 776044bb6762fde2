"""From file bytes or any PIL image to upright, sRGB, 8-bit RGB with its alpha apart.

Finding the bytes is inputs.py.
"""

from __future__ import annotations

import io
import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

from PIL import Image as PILImage
from PIL import ImageFile, UnidentifiedImageError

from sfumato.core.errors import PictureWarning, SfumatoError
from sfumato.images.picture import Picture

log = logging.getLogger("sfumato")

# raster formats with a decoder inside Pillow (HEIF: where a plugin registered it); never those
# that call another program, such as EPS. TGA is last, as it has no signature.
FORMATS = (
    *("PNG", "JPEG", "MPO", "WEBP", "AVIF", "HEIF", "GIF", "BMP", "DIB", "TIFF", "PPM", "JPEG2000"),
    *("QOI", "ICO", "PSD", "TGA"),
)

_ORIENTATION = 0x0112
_TURNS = {
    2: PILImage.Transpose.FLIP_LEFT_RIGHT,
    3: PILImage.Transpose.ROTATE_180,
    4: PILImage.Transpose.FLIP_TOP_BOTTOM,
    5: PILImage.Transpose.TRANSPOSE,
    6: PILImage.Transpose.ROTATE_270,
    7: PILImage.Transpose.TRANSVERSE,
    8: PILImage.Transpose.ROTATE_90,
}
_PROFILE_MODES = {"GRAY": "L", "RGB": "RGB", "CMYK": "CMYK", "Lab": "LAB"}
_identifying = threading.Lock()

READABLE = "PNG, JPEG, WebP, AVIF, GIF, TIFF or BMP"
_FOREIGN: tuple[tuple[bytes, tuple[bytes, ...], str], ...] = (
    (b"%!PS", (), "PostScript"),
    (b"\xc5\xd0\xd3\xc6", (), "PostScript"),
    (b"%PDF", (), "a PDF"),
    (b"\xff\x0a", (), "JPEG XL"),
    (b"\0\0\0\x0cJXL ", (), "JPEG XL"),
    (b"<svg", (), "an SVG drawing"),
    (b"\xd7\xcd\xc6\x9a", (), "a Windows metafile"),
    (b"\x1aE\xdf\xa3", (), "a film"),
    (b"PK\x03\x04", (), "a ZIP archive"),
    (
        b"HEIC",
        (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"mif2"),
        "a HEIC photo",
    ),
    (b"MP4", (b"isom", b"iso2", b"mp41", b"mp42", b"avc1", b"M4V ", b"qt  "), "a film"),
)


def suffixes() -> frozenset[str]:
    """Endings of the picture files that can be decoded here: lower case, with their dot."""
    PILImage.init()
    endings = PILImage.registered_extensions().items()
    return frozenset(end for end, kind in endings if kind in FORMATS and kind in PILImage.OPEN)


@contextmanager
def unwarned() -> Iterator[None]:
    """Without Pillow's warnings of damaged texts and tables; bombs are errors.

    Warning filters belong to the whole process: one thread at a time.
    """
    with _identifying, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", PILImage.DecompressionBombWarning)
        yield


def identify(data: bytes, name: str) -> PILImage.Image:
    """Open without decoding the pixels; refuses unknown formats and decompression bombs."""
    PILImage.init()
    known = [kind for kind in FORMATS if kind in PILImage.OPEN]
    try:
        with unwarned():
            image = PILImage.open(io.BytesIO(data), formats=known)
    except UnidentifiedImageError:
        raise SfumatoError(f"{name}: {_unknown(data)}") from None
    except (PILImage.DecompressionBombError, PILImage.DecompressionBombWarning):
        raise SfumatoError(
            f"{name}: has more than {PILImage.MAX_IMAGE_PIXELS:,} pixels; make it smaller first"
        ) from None
    except MemoryError:
        raise
    except Exception as error:  # decoders raise anything on broken files
        raise _broken(name, error) from None
    for key in ("exif", "icc_profile", "xmp"):  # a table may say that they are numbers
        if not isinstance(image.info.get(key), bytes | str):
            image.info.pop(key, None)
    return image


def decode(data: bytes, name: str) -> Picture:
    """The picture in a file's bytes, as `converted` describes."""
    return converted(identify(data, name), name)


def decode_mask(data: bytes, name: str) -> Picture:
    """The same of a mask, whose wide integers and floats count what they say.

    Two values are the ends of the range, and numbers up to 255 are those of 8 bits.
    """
    return converted(identify(data, name), name, levels=True)


def converted(image: PILImage.Image, name: str, *, levels: bool = False) -> Picture:
    """Upright, sRGB, 8-bit RGB; alpha apart, None when fully opaque; the first frame of several.

    EXIF orientation and the ICC profile are applied. 16-bit values v become round(v/257), except
    that Pillow itself cuts 16-bit RGB to the high byte. Mode I counts to 65535, or to 255 when no
    value is larger; mode F to 1, or to 255 when a value is larger than 1. RGB is not premultiplied.
    levels: as `decode_mask` says.
    Raises SfumatoError for anything broken or empty.
    """
    if isinstance(image, ImageFile.ImageFile) and image.tile and image.format not in FORMATS:
        raise SfumatoError(
            f"{name}: is {image.format}, which is not decoded here; call its load() first, or "
            f"save it as {READABLE}"
        )
    try:
        with unwarned() if image.format == "TIFF" else nullcontext():  # its tables are read now
            image.load()
        if min(image.size) < 1:
            raise SfumatoError(f"{name}: is {image.width}x{image.height}, an empty picture")
        pixels, alpha = _parted(image, name, levels)  # where palettes and keys are looked at
    except (MemoryError, SfumatoError):
        raise
    except Exception as error:  # decoders raise anything on broken files
        raise _broken(name, error) from None
    if _moves(image):
        log.info("%s: holds several pictures; the first is taken", name)
    profile = image.info.get("icc_profile")
    pixels = _srgb(pixels, profile, name) if profile else pixels.convert("RGB")
    pixels.info = {}
    if alpha is not None and alpha.getextrema() == (255, 255):
        alpha = None
    turn = _TURNS.get(_orientation(image))
    if turn is not None:
        pixels = pixels.transpose(turn)
        alpha = None if alpha is None else alpha.transpose(turn)
    return Picture.of(pixels, alpha=alpha, name=name)


def wide(image: PILImage.Image) -> PILImage.Image | None:
    """A picture of 16-bit greys as it is, for a file of it; None of others, which are `converted`.

    A mask may mean two numbers that are one in 8 bits.
    """
    import numpy as np

    if not image.mode.startswith("I") or {"transparency", "icc_profile"} & image.info.keys():
        return None
    if _orientation(image) != 1 or min(image.size) < 1:
        return None
    image.load()
    values = np.asarray(image)
    if image.mode == "I" and values.max() <= 255:
        return None
    return PILImage.fromarray(np.clip(values, 0, 65535).astype("u2"))


def _parted(
    image: PILImage.Image, name: str, levels: bool
) -> tuple[PILImage.Image, PILImage.Image | None]:
    """Colours in the mode their profile is for (L, RGB, CMYK, LAB), and alpha."""
    if image.mode == "F" or image.mode.startswith("I"):
        return _eight_bit(image, name, levels)
    if image.mode in ("La", "RGBa"):
        image = image.convert(image.mode.upper())
    if not image.has_transparency_data:
        return _opaque(image), None
    key = image.info.get("transparency")
    if isinstance(key, tuple) and max(key) > 255:  # of a 16-bit file, now in 8 bits
        image = image.copy()
        image.info["transparency"] = tuple(value >> 8 for value in key)
    both = image.convert("RGBA")
    grey = image.mode in ("1", "L", "LA")
    return both.getchannel("R") if grey else both.convert("RGB"), both.getchannel("A")


def _opaque(image: PILImage.Image) -> PILImage.Image:
    if image.mode in ("CMYK", "LAB"):
        return image
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def _eight_bit(
    image: PILImage.Image, name: str, levels: bool
) -> tuple[PILImage.Image, PILImage.Image | None]:
    import numpy as np

    values = np.asarray(image)
    alpha = None
    if "transparency" in image.info:
        alpha = PILImage.fromarray(
            np.where(values == image.info["transparency"], 0, 255).astype("u1")
        )
    if image.mode == "F" and not np.isfinite(values).all():
        raise SfumatoError(f"{name}: has values that are not numbers; repair it first")
    low, high = values.min(), values.max()
    if levels and low < high and ((values == low) | (values == high)).all():
        scaled = (values == high) * 255
    elif image.mode == "F":
        scaled = np.rint(values.astype("f8") * (255 if high <= 1 else 1))
    elif (image.mode == "I" or levels) and high <= 255:
        scaled = values
    else:
        scaled = (np.clip(values, 0, 65535).astype("i4") + 128) // 257
    return PILImage.fromarray(np.clip(scaled, 0, 255).astype("u1")), alpha


def _srgb(pixels: PILImage.Image, profile: bytes, name: str) -> PILImage.Image:
    """Colours by their ICC profile; a broken or foreign profile is ignored with a warning."""
    from PIL import ImageCms

    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = source.profile.xcolor_space.strip()
        if ImageCms.getProfileDescription(source).startswith("sRGB"):
            return pixels.convert("RGB")  # as it is, instead of equal up to rounding
        if space == "RGB" and pixels.mode == "L":
            pixels = pixels.convert("RGB")
        if _PROFILE_MODES.get(space) != pixels.mode:
            raise ValueError(f"it describes {space or 'no'} colours, the picture is {pixels.mode}")
        target = ImageCms.createProfile("sRGB")
        transform = ImageCms.buildTransform(source, target, pixels.mode, "RGB")
        return transform.apply(pixels)
    except (ImageCms.PyCMSError, ImportError, OSError, ValueError, TypeError) as error:
        text = str(error).splitlines()[0] if str(error) else "unreadable"
        line = f"{name}: its colour profile was ignored ({text})"
        warnings.warn(line, PictureWarning, stacklevel=2)
        return pixels.convert("RGB")


def _orientation(image: PILImage.Image) -> Any:
    try:
        with unwarned():
            return image.getexif().get(_ORIENTATION, 1)
    except Exception:  # broken EXIF raises anything
        return 1


def _moves(image: PILImage.Image) -> bool:
    """Whether it is a film or has pages; a photo's depth map and a drawing's layers are neither."""
    if image.format not in ("GIF", "PNG", "WEBP", "AVIF", "TIFF"):
        return False
    try:
        with unwarned():
            return bool(getattr(image, "is_animated", False))
    except Exception:  # what comes behind the first picture may be broken
        return False


def _unknown(data: bytes) -> str:
    for start, brands, what in _FOREIGN:
        if data.startswith(start) or (data[4:8] == b"ftyp" and data[8:12] in brands):
            return f"is {what}, not a picture that can be read; save it as {READABLE}"
    with suppress(UnicodeDecodeError):
        if data[:4096].decode("utf-8").lstrip("\ufeff \t\r\n").startswith("<"):
            return f"is a page of text, not a picture; download the picture itself: {READABLE}"
    return f"is not a picture that can be read; give {READABLE}"


def _broken(name: str, error: Exception) -> SfumatoError:
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return SfumatoError(f"{name}: is damaged or cut short ({text}); save or download it again")
