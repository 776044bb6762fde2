"""From file bytes or any PIL image to upright, sRGB, 8-bit RGB with its alpha apart.

Finding the bytes is inputs.py.
"""

from __future__ import annotations

import io
import threading
import warnings
from typing import Any

from PIL import Image as PILImage
from PIL import UnidentifiedImageError

from sfumato.core.errors import PictureWarning, SfumatoError
from sfumato.images.picture import Picture

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


def identify(data: bytes, name: str) -> PILImage.Image:
    """Open without decoding the pixels; refuses unknown formats and decompression bombs."""
    PILImage.init()
    known = [kind for kind in FORMATS if kind in PILImage.OPEN]
    try:
        # warning filters belong to the whole process: one thread at a time
        with _identifying, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", PILImage.DecompressionBombWarning)
            return PILImage.open(io.BytesIO(data), formats=known)
    except UnidentifiedImageError:
        raise SfumatoError(f"{name}: {_unknown(data)}") from None
    except (PILImage.DecompressionBombError, PILImage.DecompressionBombWarning):
        raise SfumatoError(
            f"{name}: has more than {PILImage.MAX_IMAGE_PIXELS:,} pixels; make it smaller first"
        ) from None
    except Exception as error:  # decoders raise anything on broken files
        raise _broken(name, error) from None


def decode(data: bytes, name: str) -> Picture:
    """The picture in a file's bytes, as `converted` describes."""
    return converted(identify(data, name), name)


def converted(image: PILImage.Image, name: str) -> Picture:
    """Upright, sRGB, 8-bit RGB; alpha apart, None when fully opaque; the first frame of several.

    EXIF orientation and the ICC profile are applied. 16-bit values v become round(v/257), except
    that Pillow itself cuts 16-bit RGB to the high byte. Mode I counts to 65535, or to 255 when no
    value is larger; mode F to 1, or to 255 when a value is larger than 1. RGB is not premultiplied.
    Raises SfumatoError for anything broken or empty.
    """
    try:
        image.load()
    except Exception as error:  # decoders raise anything on broken files
        raise _broken(name, error) from None
    if min(image.size) < 1:
        raise SfumatoError(f"{name}: is {image.width}x{image.height}, an empty picture")
    pixels, alpha = _parted(image, name)
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


def _parted(image: PILImage.Image, name: str) -> tuple[PILImage.Image, PILImage.Image | None]:
    """Colours in the mode their profile is for (L, RGB, CMYK, LAB), and alpha."""
    if image.mode == "F" or image.mode.startswith("I"):
        return _eight_bit(image, name)
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


def _eight_bit(image: PILImage.Image, name: str) -> tuple[PILImage.Image, PILImage.Image | None]:
    import numpy as np

    values = np.asarray(image)
    alpha = None
    if "transparency" in image.info:
        alpha = PILImage.fromarray(
            np.where(values == image.info["transparency"], 0, 255).astype("u1")
        )
    if image.mode == "F":
        if not np.isfinite(values).all():
            raise SfumatoError(f"{name}: has values that are not numbers; repair it first")
        scaled = np.rint(values.astype("f8") * (255 if values.max() <= 1 else 1))
    elif image.mode == "I" and values.max() <= 255:
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
        return image.getexif().get(_ORIENTATION, 1)
    except Exception:  # broken EXIF raises anything
        return 1


def _unknown(data: bytes) -> str:
    readable = "PNG, JPEG, WebP, AVIF, GIF, TIFF or BMP"
    if data[4:8] == b"ftyp" and data[8:12] in (b"heic", b"heix", b"mif1", b"msf1"):
        return f"is a HEIC photo; save it as {readable}"
    return f"is not a picture that can be read; give {readable}"


def _broken(name: str, error: Exception) -> SfumatoError:
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return SfumatoError(f"{name}: is damaged or cut short ({text}); save or download it again")
