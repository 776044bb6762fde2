"""Pictures of every kind and damage: read, or refused with one line; none runs or waits."""

from __future__ import annotations

import io
import logging
import os
import random
import struct
import sys
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image, ImageCms, PngImagePlugin, TiffImagePlugin

from sfumato.core.errors import SfumatoError
from sfumato.images import ImageInput, decode, metadata, open_image, read_metadata
from sfumato.images.texts import texts_of

STARTS = ("subprocess.Popen", "os.exec", "os.posix_spawn", "os.system", "os.fork", "os.spawn")
started: list[str] = []
watching = threading.Event()


def _watch(event: str, arguments: Any) -> None:
    if watching.is_set() and event in STARTS:
        started.append(event)


sys.addaudithook(_watch)


@pytest.fixture(autouse=True)
def nothing_starts() -> Iterator[None]:
    """No test of this file may start a process."""
    started.clear()
    watching.set()
    yield
    watching.clear()
    assert started == []


def file(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def small(mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng(1).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def chunk(kind: bytes, body: bytes) -> bytes:
    crc = struct.pack(">I", zlib.crc32(kind + body))
    return struct.pack(">I", len(body)) + kind + body + crc


def with_chunk(kind: bytes, body: bytes) -> bytes:
    data = file(small())
    return data[:33] + chunk(kind, body) + data[33:]


def sized_png(width: int, height: int) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rest = chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + rest


def indexed_png(*chunks: bytes) -> bytes:
    """Two by two pixels of a palette that is in the chunks, if any."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 2, 8, 3, 0, 0, 0))
    rest = chunk(b"IDAT", zlib.compress(bytes(6))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + rest


def exif(orientation: int = 1, kind: int = 3) -> bytes:
    """One table with an orientation of this type: 3 is a short, 2 text."""
    entry = struct.pack(">HHIHH", 0x0112, kind, 1, orientation, 0)
    return b"Exif\0\0MM\0*\0\0\0\x08\0\x01" + entry + bytes(4)


def numbered(tag: int) -> TiffImagePlugin.ImageFileDirectory_v2:
    """A table in which the tag holds numbers, though texts are usual."""
    made = TiffImagePlugin.ImageFileDirectory_v2()
    made.tagtype[tag] = 3
    made[tag] = 7
    return made


PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"
DOS_EPS = b"\xc5\xd0\xd3\xc6" + struct.pack("<II", 30, len(EPS)) + bytes(18) + EPS
frames = [small(), small().rotate(90), small().rotate(180)]

READ: dict[str, bytes] = {
    **{kind.lower(): file(small(), kind) for kind in ("PNG", "JPEG", "WEBP", "BMP", "DIB", "GIF")},
    **{kind.lower(): file(small(), kind) for kind in ("TIFF", "PPM", "JPEG2000", "TGA", "AVIF")},
    "ico": file(small().resize((16, 16)), "ICO", sizes=[(16, 16)]),
    "one pixel": file(Image.new("RGB", (1, 1))),
    "one line": file(Image.new("RGB", (500, 1))),
    "one bit": file(small("1")),
    "16 bit": file(Image.fromarray(np.arange(30, dtype=np.uint16).reshape(6, 5))),
    "cmyk": file(small("CMYK"), "JPEG"),
    "cmyk tiff": file(small("CMYK"), "TIFF"),
    "lab": file(small("LAB"), "TIFF"),
    "grey with alpha": file(small("LA")),
    "floats": file(small("F"), "TIFF"),
    "animated gif": file(frames[0], "GIF", save_all=True, append_images=frames[1:]),
    "animated png": file(frames[0], "PNG", save_all=True, append_images=frames[1:]),
    "pages": file(frames[0], "TIFF", save_all=True, append_images=frames[1:]),
    "film cut behind its first picture": file(
        frames[0], "GIF", save_all=True, append_images=frames[1:]
    )[:-40],
    "two photos": file(frames[0], "MPO", save_all=True, append_images=frames[1:]),
    "polyglot": file(small(), "JPEG") + b"PK\x03\x04 and a page <script>alert(1)</script>",
    "eps behind a jpeg": file(small(), "JPEG") + EPS,
    "orientation of no meaning": file(small(), exif=exif(99)),
    "orientation of another type": file(small(), exif=exif(0x5800, kind=2)),
    "torn exif": file(small(), "JPEG", exif=exif()[:20]),
    "exif of noise": file(small(), "JPEG", exif=b"Exif\0\0" + bytes(range(80))),
    "exif of nothing": file(small(), "JPEG", exif=b"Exif\0\0"),
    "profile of noise": file(small(), icc_profile=bytes(range(200))),
    "profile cut short": file(small(), icc_profile=PROFILE[:200]),
    "profile of numbers": file(small(), icc_profile=PROFILE[:128] + b"\xff" * 400),
    "text chunk of noise": with_chunk(b"iTXt", b"sfumato\0\0\0\0\0\xff\xfe\xfd"),
    "packed text that is none": with_chunk(b"zTXt", b"sfumato\0\0not packed"),
    "xmp of noise": file(small(), "JPEG", xmp=b"<x:xmpmeta \xff\xfe\0"),
    "numbers as xmp": file(small(), "TIFF", tiffinfo=numbered(700)),
    "numbers as a profile": file(small(), "TIFF", tiffinfo=numbered(34675)),
    "numbers as exif": file(small(), "TIFF", tiffinfo=numbered(34665)),
}
NOTICED = ("profile",)  # a warning of ours


@pytest.mark.parametrize("name", READ)
def test_is_read(name: str) -> None:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        opened = open_image(READ[name])
        assert all(isinstance(text, str) for text in read_metadata(READ[name]).values())
    assert opened.mode == "RGB"
    assert min(opened.size) >= 1
    assert [w for w in said if "colour profile was ignored" not in str(w.message)] == []
    assert bool(said) == name.startswith(NOTICED), [str(w.message) for w in said]


REFUSED: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "is empty"),
    "text": (b"hello, this is no picture\n" * 9, "not a picture"),
    "a page": (b"\n<!DOCTYPE html><html><body>404</body></html>", "download the picture"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG"),
    "postscript": (EPS, "PostScript"),
    "postscript in a dos file": (DOS_EPS, "PostScript"),
    "pdf": (b"%PDF-1.7\n", "a PDF"),
    "heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99), "a HEIC photo"),
    "film": (b"\0\0\0\x18ftypisom\0\0\0\0isomiso2" + bytes(99), "a film"),
    "jpeg xl": (b"\xff\x0a" + bytes(99), "JPEG XL"),
    "zip": (b"PK\x03\x04" + bytes(99), "ZIP"),
    "metafile": (b"\xd7\xcd\xc6\x9a" + bytes(99), "metafile"),
    "cut png": (READ["png"][:-30], "damaged"),
    "cut jpeg": (READ["jpeg"][: len(READ["jpeg"]) // 2], "damaged"),
    "cut webp": (READ["webp"][:-9], "image"),
    "cut tiff": (READ["tiff"][:40], "image"),
    "cut avif": (READ["avif"][:-9], "damaged"),
    "no pixels": (sized_png(0, 5), "image"),
    "pixels of a bomb": (sized_png(60_000, 60_000), "pixels; make it smaller"),
    "pixels of a small bomb": (sized_png(10_000, 9_000), "pixels; make it smaller"),
    "fewer bytes than pixels": (sized_png(4_000, 4_000), "damaged"),
    "text of a bomb": (with_chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(1 << 22))), "damaged"),
    "gif of a bomb": (b"GIF89a\xff\xff\xff\xff" + READ["gif"][10:], "pixels"),
    "no palette": (indexed_png(), "damaged"),
    "more transparency than colours": (
        indexed_png(chunk(b"PLTE", b"\1\2\3"), chunk(b"tRNS", bytes(900))),
        "damaged",
    ),
    "noise": (random.Random(1).randbytes(5_000), "not a picture"),
    "zeros": (bytes(5_000), "image"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_is_refused(name: str, tmp_path: Path) -> None:
    data, word = REFUSED[name]
    path = tmp_path / "image.png"
    path.write_bytes(data)
    for source in (data, path):
        with pytest.raises(SfumatoError) as caught:
            open_image(source)
        assert word in str(caught.value)
        assert str(caught.value).startswith("image")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("seed", range(4))
def test_damage_of_any_kind(seed: int) -> None:
    draw = random.Random(seed)
    for _ in range(150):
        data = bytearray(draw.choice(list(READ.values())))
        for _ in range(draw.choice((1, 2, 8))):
            at = draw.randrange(min(len(data), draw.choice((40, 400, 10**6))))
            if draw.random() < 0.2:
                del data[at : at + draw.randrange(1, 40)]
                data += b"x" * (not data)
            else:
                data[at] = draw.choice((0, 1, 127, 255, draw.randrange(256)))
        for read in (open_image, read_metadata):
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                with suppress(SfumatoError):
                    read(bytes(data))  # type: ignore[operator]
            assert all("colour profile" in str(w.message) for w in said)


@pytest.mark.parametrize("seed", range(2))
def test_colour_profiles_of_any_kind(seed: int) -> None:
    draw, image = random.Random(seed), small()
    for _ in range(200):
        profile = bytearray(PROFILE)
        for _ in range(draw.choice((1, 4, 16))):
            profile[draw.randrange(draw.choice((132, len(profile))))] = draw.randrange(256)
        image.info["icc_profile"] = bytes(profile[: draw.choice((len(profile), 150))])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert open_image(image).size == image.size


def test_only_regular_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "long.png").touch()
    os.truncate(tmp_path / "long.png", 3 << 30)
    for name, word in (
        (tmp_path / "pipe.png", "no regular file"),
        (tmp_path / "folder.png", "is a folder"),
        (tmp_path / "loop.png", "cannot be read"),
        (tmp_path / "long.png", "is larger than 1024 MiB"),
        (tmp_path / "none.png", "no such file"),
        ("/dev/zero", "no regular file"),
        ("/dev/null", "no regular file"),
        ("a\0b.png", "cannot be read"),
        ("~nobody-of-this-name/a.png", "cannot be read"),
        ("x" * 5000, "cannot be read"),
        ("", ""),  # a folder to the system, named as empty
    ):
        for read in (ImageInput.of, open_image, read_metadata):
            with pytest.raises(SfumatoError, match=": ") as caught:
                read(name)  # type: ignore[operator]
            assert word in str(caught.value)
    (tmp_path / "link.png").symlink_to("real")
    (tmp_path / "real").write_bytes(READ["png"])
    assert open_image(tmp_path / "link.png").size == (5, 6)


def test_a_picture_that_pillow_opened_runs_nothing_either(monkeypatch: Any) -> None:
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", "/bin/true")
    opened = Image.open(io.BytesIO(EPS))
    with pytest.raises(SfumatoError, match="is EPS, which is not decoded here"):
        open_image(opened)


@pytest.mark.parametrize("name", ["animated gif", "animated png", "pages"])
def test_films_say_which_picture(name: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "sfumato"):
        assert open_image(READ[name]).size == (5, 6)
    assert "the first is taken" in caplog.text
    caplog.clear()
    for other in ("png", "two photos", "tiff", "gif"):
        open_image(READ[other])
    assert caplog.text == ""


def test_the_list_of_endings_is_what_is_read(tmp_path: Path) -> None:
    known = decode.suffixes()
    assert {".png", ".jpg", ".jpeg", ".jfif", ".webp", ".avif", ".jp2", ".tif", ".qoi"} <= known
    assert not {".eps", ".ps", ".pdf", ".wmf", ".mpg", ".h5", ".svg", ".txt"} & known
    assert all(end == end.lower() and end.startswith(".") for end in known)


XMP = metadata.xmp(False, "RECIPE").decode()
BOMB = XMP.replace('<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>', "").replace(
    "RECIPE", "&b;"
)
DECLARED = "<!DOCTYPE x [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;&a;&a;&a;&a;'>]>" + BOMB
PACKETS: dict[str, tuple[Callable[[], bytes], str | None]] = {
    "as written": (XMP.encode, "RECIPE"),
    "utf-16": (lambda: XMP.encode("utf-16"), "RECIPE"),
    "entities": (DECLARED.encode, None),
    "entities, utf-16": (lambda: DECLARED.encode("utf-16"), None),
    "entities, utf-16 without a mark": (
        lambda: ('<?xml version="1.0" encoding="utf-16-be"?>' + DECLARED).encode("utf-16-be"),
        None,
    ),
    "entities, latin": (
        lambda: ('<?xml version="1.0" encoding="latin-1"?>' + DECLARED).encode("latin-1", "ignore"),
        None,
    ),
    "unknown encoding": (
        lambda: b'<?xml version="1.0" encoding="utf-7"?><a/>',
        None,
    ),
    "deep": (lambda: b"<a>" * 200_000, None),
    "cut": (lambda: XMP.encode()[:-40], None),
    "nothing": (lambda: b"", None),
    "an attribute": (
        lambda: XMP.replace("rdf:about", "sfumato:recipe='R' rdf:about").encode(),
        "R",
    ),
}


@pytest.mark.parametrize("name", PACKETS)
def test_xmp_packets(name: str) -> None:
    packet, wanted = PACKETS[name]
    picture = small()
    picture.info["xmp"] = packet()
    assert texts_of(picture).get("sfumato") == wanted


def texts(**given: str) -> bytes:
    info = PngImagePlugin.PngInfo()
    for key, value in given.items():
        info.add_itxt(key, value)
    return file(small(), pnginfo=info)


def test_texts_of_other_programs() -> None:
    """Automatic1111 and ComfyUI write these; odd ones are texts like any other."""
    said = "a cat, <lora:x:1>\nNegative prompt: dog\nSteps: 20, Sampler: Euler a, CFG scale: 7"
    assert read_metadata(texts(parameters=said)) == {"parameters": said}
    assert read_metadata(texts(workflow='{"nodes": []}', prompt="{}")) == {}
    assert read_metadata(texts(sfumato="no json \ufeff\u2028")) == {
        "sfumato": "no json \ufeff\u2028"
    }
    comment = Image.Exif()
    comment.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + said.encode("utf-16-be")
    for kind in ("JPEG", "WEBP"):
        assert read_metadata(file(small(), kind, exif=comment)) == {"parameters": said}
    for broken in (b"UNICODE\0\xd8", b"ASCII\0\0\0\xff", b"", b"\0" * 8, b"UNICODE"):
        comment.get_ifd(0x8769)[0x9286] = broken
        found = read_metadata(file(small(), "JPEG", exif=comment))
        assert all(isinstance(value, str) for value in found.values())
