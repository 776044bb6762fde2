"""Rebuild the packed emoji set from the public packages that hold its drawings.

Needs resvg-py (renders SVG) and npm, or a folder with the unpacked packages. Concepts, split and
pictures are those of the packed set's README; licences of the drawings are in LICENCES.
"""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sfumato.core.errors import SfumatoError
from sfumato.documents import read_json
from sfumato.train import checkpoint
from sfumato.train.data.packages import (
    LARGEST,
    SOURCES,
    WORDS,
    Icons,
    Source,
    concepts,
    fetch,
    named,
    table,
)

SIDE = 256
SMALL = 64
COVERED = 0.01
"""Least part of a picture that must not be transparent."""

LICENCES = (
    "fluent, flat, ink: Fluent Emoji, Copyright (c) Microsoft Corporation, MIT. "
    "noto, blob: Noto Emoji, Google Inc, Apache-2.0. "
    "twemoji: Twemoji, Copyright Twitter, Inc and other contributors, CC-BY 4.0. "
    "emojione: EmojiOne 2.3.0, CC-BY 4.0. All rasterised and resized. "
    "Labels and tags: emojibase, MIT."
)


LARGE = ("fluent", "ink")
"""Styles that are also packed at 256 px."""

Say = Callable[[str], None]


def build(target: Path, packages: Path | None = None, say: Say = print) -> None:
    """Write metadata.jsonl, emoji-64.zip and emoji-256.zip into a folder."""
    with checkpoint.writing(target):
        target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = packages or Path(temporary)
        for source in (WORDS, *SOURCES.values()):
            fetch(source, folder)
        rows = concepts(folder / WORDS.folder / "package")
        places = {style: folder / source.folder / "package" for style, source in SOURCES.items()}
        tables = [table(place) for place in places.values()]
        drawn = {}
        for style, source in SOURCES.items():
            drawn[style] = draw(places[style], source, rows, tables)
            say(f"{style}: {len(drawn[style])} pictures")
        pack(target, rows, drawn)
    checkpoint.put_text(target / "LICENCES", LICENCES + "\n")


def draw(
    folder: Path,
    source: Source,
    rows: Mapping[str, Mapping[str, Any]],
    tables: Sequence[Mapping[str, str]],
) -> dict[str, Image.Image]:
    """Pictures of a package, 256 px RGBA, by code-point sequence; twins and blanks dropped.

    tables: all packages' character tables, for a package that has none.
    """
    icons = read_json(Icons, folder / "icons.json", LARGEST)
    pictures: dict[str, Image.Image] = {}
    seen: set[bytes] = set()
    names = named(icons, rows, [table(folder), *tables])
    for code, name in sorted(names.items(), key=lambda item: item[1]):  # of twins the first stays
        picture = _render(icons, name, source.box)
        pixels = np.asarray(picture)
        if (pixels[..., 3] > 0).mean() < COVERED:
            continue
        data = pixels.tobytes()
        if data not in seen:
            seen.add(data)
            pictures[code] = picture
    return pictures


def _render(icons: Icons, name: str, box: float) -> Image.Image:
    """An icon in a square view box with its margin, on transparency; transparent pixels zeroed."""
    try:
        import resvg_py
    except ImportError:
        raise SfumatoError(
            "data build-emoji: resvg-py is missing; pip install resvg-py (extra 'data')"
        ) from None
    icon = icons.icon(name)
    if icon is None:
        raise SfumatoError(f"data build-emoji: icon {name:.80} is another name of none")
    width, height = icon.width or icons.width, icon.height or icons.height
    side = max(width, height) / box
    left = icon.left - (side - width) / 2
    top = icon.top - (side - height) / 2
    body = icon.body.replace("currentColor", "#161616")
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{left:g} {top:g} {side:g} {side:g}" width="{SIDE}" height="{SIDE}">{body}</svg>'
    )
    png = bytes(resvg_py.svg_to_bytes(svg_string=svg, skip_system_fonts=True))
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGBA")).copy()
    pixels[pixels[..., 3] == 0] = 0
    return Image.fromarray(pixels)


def pack(
    target: Path, rows: Mapping[str, dict[str, Any]], drawn: Mapping[str, Mapping[str, Image.Image]]
) -> None:
    """The two zips and metadata.jsonl, sorted by label."""
    lines = []
    for code, row in sorted(rows.items(), key=lambda item: (item[1]["label"].lower(), item[0])):
        styles = [style for style in SOURCES if code in drawn[style]]
        if styles:
            lines.append(json.dumps({**row, "styles": styles}, ensure_ascii=False))
    checkpoint.put_text(target / "metadata.jsonl", "\n".join(lines) + "\n")
    _zip(target / f"emoji-{SMALL}.zip", drawn, tuple(SOURCES), SMALL)
    _zip(target / f"emoji-{SIDE}.zip", drawn, LARGE, SIDE)


def _zip(
    file: Path,
    drawn: Mapping[str, Mapping[str, Image.Image]],
    styles: Sequence[str],
    side: int,
) -> None:
    with (
        checkpoint.beside(file) as part,
        zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as packed,
    ):
        for style in styles:
            for code, picture in sorted(drawn[style].items()):
                stream = io.BytesIO()
                lossless = style != "fluent" or side == SMALL
                small = picture if side == SIDE else averaged(picture, side)
                small.save(stream, "WEBP", lossless=lossless, quality=88, exact=True)
                info = zipfile.ZipInfo(f"{style}/{code}.webp")  # fixed date: equal files each time
                packed.writestr(info, stream.getvalue())


def averaged(picture: Image.Image, side: int) -> Image.Image:
    """Box average in premultiplied alpha."""
    pixels = np.asarray(picture, dtype=np.float64)
    factor = pixels.shape[0] // side
    alpha = pixels[..., 3:] / 255
    boxes = np.concatenate([pixels[..., :3] * alpha, alpha], axis=2)
    boxes = boxes.reshape(side, factor, side, factor, 4).mean((1, 3))
    alpha = boxes[..., 3:]
    colour = np.where(alpha > 0, boxes[..., :3] / np.maximum(alpha, 1e-9), 0)
    whole = np.concatenate([colour, alpha * 255], axis=2).round().astype(np.uint8)
    whole[whole[..., 3] == 0] = 0
    return Image.fromarray(whole)
