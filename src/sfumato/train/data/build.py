"""Rebuild the packed emoji set from the public packages that hold its drawings.

Needs resvg-py (renders SVG) and npm, or a folder with the unpacked packages. Concepts, split and
pictures are those of the packed set's README; licences of the drawings are in LICENCES.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sfumato.core.errors import SfumatoError

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


@dataclass(frozen=True)
class Source:
    """A package of drawings. box: part of the picture that the drawing's box fills."""

    package: str
    version: str
    box: float = 1.0

    @property
    def folder(self) -> str:
        return f"{self.package.lstrip('@').replace('/', '-')}-{self.version}"


SOURCES: dict[str, Source] = {
    "fluent": Source("@iconify-json/fluent-emoji", "1.2.7"),
    "flat": Source("@iconify-json/fluent-emoji-flat", "1.2.6"),
    "noto": Source("@iconify-json/noto", "1.2.9", 0.97),
    "blob": Source("@iconify-json/noto-v1", "1.2.5", 0.97),
    "twemoji": Source("@iconify-json/twemoji", "1.2.5", 0.94),
    "emojione": Source("@iconify-json/emojione", "1.2.3", 0.97),
    "ink": Source("@iconify-json/fluent-emoji-high-contrast", "1.2.6"),
}
WORDS = Source("emojibase-data", "17.0.0")
LARGE = ("fluent", "ink")
"""Styles that are also packed at 256 px."""

Say = Callable[[str], None]


def build(target: Path, packages: Path | None = None, say: Say = print) -> None:
    """Write metadata.jsonl, emoji-64.zip and emoji-256.zip into a folder."""
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = packages or Path(temporary)
        for source in (WORDS, *SOURCES.values()):
            _fetch(source, folder)
        rows = concepts(folder / WORDS.folder / "package")
        places = {style: folder / source.folder / "package" for style, source in SOURCES.items()}
        tables = [table(place) for place in places.values()]
        drawn = {}
        for style, source in SOURCES.items():
            drawn[style] = draw(places[style], source, rows, tables)
            say(f"{style}: {len(drawn[style])} pictures")
        pack(target, rows, drawn)
    (target / "LICENCES").write_text(LICENCES + "\n", encoding="utf-8")


def _fetch(source: Source, folder: Path) -> None:
    """Unpack a package into the folder, unless it is there."""
    place = folder / source.folder
    if place.is_dir():
        return
    npm = shutil.which("npm")
    if npm is None:
        raise SfumatoError(
            f"{source.package} {source.version}: npm is missing; install it, or unpack the package "
            f"into {source.folder} of a folder and give that as --packages"
        )
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{source.package}@{source.version}"
    command = [npm, "pack", "--silent", name]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    archive = folder / f"{source.folder}.tgz"
    if done.returncode or not archive.is_file():
        reason = (done.stderr.strip().splitlines() or ["no archive came"])[-1]
        raise SfumatoError(f"{name}: could not be fetched by npm ({reason})")
    with tarfile.open(archive) as packed:
        packed.extractall(place, filter="data")


def slug(text: str) -> str:
    """Lower-case words joined by hyphens, as icons are named."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower().replace("’", "").replace("'", "")).strip("-")


def sequence(code: str) -> str:
    """Code points joined by "-", lower case, without the variation selector."""
    return "-".join(part for part in code.lower().split("-") if part != "fe0f")


def split_of(label: str) -> str:
    """ "test" for five percent of the concepts; gender variants fall on the same side."""
    words = re.sub(r"[^a-z0-9]+", " ", label.lower()).split()
    kept = [w for w in words if w not in GENDERS]
    digest = hashlib.sha256(" ".join(kept or words).encode()).hexdigest()
    return "test" if int(digest, 16) % 100 < 5 else "train"


GENDERS = {"man", "woman", "person", "boy", "girl", "men", "women", "people"}


def concepts(folder: Path) -> dict[str, dict[str, Any]]:
    """Metadata of every emoji but flags and components, by code-point sequence."""
    english = json.loads((folder / "en" / "data.json").read_text(encoding="utf-8"))
    korean = json.loads((folder / "ko" / "data.json").read_text(encoding="utf-8"))
    said = {row["hexcode"]: row for row in korean}
    groups = json.loads((folder / "meta" / "groups.json").read_text(encoding="utf-8"))
    made = {}
    for row in english:
        group = groups["groups"].get(str(row.get("group")))
        if group in (None, "flags", "component"):
            continue
        other = said.get(row["hexcode"], {})
        made[sequence(row["hexcode"])] = {
            "hex": sequence(row["hexcode"]),
            "emoji": row["emoji"],
            "label": row["label"],
            "tags": row.get("tags", []),
            "label_ko": other.get("label", ""),
            "tags_ko": other.get("tags", []),
            "group": group,
            "subgroup": groups["subgroups"][str(row["subgroup"])],
            "split": split_of(row["label"]),
        }
    return made


def draw(
    folder: Path,
    source: Source,
    rows: Mapping[str, Mapping[str, Any]],
    tables: Sequence[Mapping[str, str]],
) -> dict[str, Image.Image]:
    """Pictures of a package, 256 px RGBA, by code-point sequence; twins and blanks dropped.

    tables: all packages' character tables, for a package that has none.
    """
    icons = json.loads((folder / "icons.json").read_text(encoding="utf-8"))
    made: dict[str, Image.Image] = {}
    seen: set[bytes] = set()
    found = named(icons, rows, [table(folder), *tables])
    for code, name in sorted(found.items(), key=lambda item: item[1]):  # of twins the first stays
        picture = _render(icons, name, source.box)
        pixels = np.asarray(picture)
        if (pixels[..., 3] > 0).mean() < COVERED:
            continue
        data = pixels.tobytes()
        if data not in seen:
            seen.add(data)
            made[code] = picture
    return made


def table(folder: Path) -> dict[str, str]:
    """A package's code-point sequence -> icon, empty if it has no such table."""
    file = folder / "chars.json"
    if not file.is_file():
        return {}
    chars = json.loads(file.read_text(encoding="utf-8"))
    return {sequence(code): name for code, name in chars.items()}


def named(
    icons: Mapping[str, Any],
    rows: Mapping[str, Mapping[str, Any]],
    tables: Sequence[Mapping[str, str]],
) -> dict[str, str]:
    """Code-point sequence -> icon: by the first table that names one that is there, or by label."""
    known = {*icons["icons"], *icons.get("aliases", {})}
    found = {}
    for code, row in rows.items():
        names = [table[code] for table in tables if code in table] + [slug(row["label"])]
        if there := [name for name in names if name in known]:
            found[code] = there[0]
    return found


def _render(icons: Mapping[str, Any], name: str, box: float) -> Image.Image:
    """An icon in a square view box with its margin, on transparency; transparent pixels zeroed."""
    try:
        import resvg_py
    except ImportError:
        raise SfumatoError(
            "data build-emoji: resvg-py is missing; pip install resvg-py (extra 'data')"
        ) from None
    icon = icons["icons"].get(name)
    while icon is None:
        name = icons["aliases"][name]["parent"]
        icon = icons["icons"].get(name)
    width = icon.get("width", icons.get("width", 16))
    height = icon.get("height", icons.get("height", 16))
    side = max(width, height) / box
    left = icon.get("left", 0) - (side - width) / 2
    top = icon.get("top", 0) - (side - height) / 2
    body = icon["body"].replace("currentColor", "#161616")
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
    (target / "metadata.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    _zip(target / f"emoji-{SMALL}.zip", drawn, tuple(SOURCES), SMALL)
    _zip(target / f"emoji-{SIDE}.zip", drawn, LARGE, SIDE)


def _zip(
    file: Path,
    drawn: Mapping[str, Mapping[str, Image.Image]],
    styles: Sequence[str],
    side: int,
) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as packed:
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
