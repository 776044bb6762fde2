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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from PIL import Image

from sfumato.core.errors import SfumatoError
from sfumato.core.ranges import Range
from sfumato.documents import read_json
from sfumato.train.values import foreign

LARGEST = 256 << 20  # bytes of a package's file
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


@foreign
class Word:
    """An emoji in emojibase's data."""

    hexcode: str
    label: str
    emoji: str = ""
    tags: tuple[str, ...] = ()
    group: int | None = None
    subgroup: int | None = None


@foreign
class Groups:
    """Their groups' names by number."""

    groups: dict[str, str]
    subgroups: dict[str, str]


@foreign
class Icon:
    """A drawing of iconify's; sizes that are absent are those of the set."""

    body: str
    width: Annotated[float, Range(gt=0, le=1e5)] | None = None
    height: Annotated[float, Range(gt=0, le=1e5)] | None = None
    left: Annotated[float, Range(-1e5, 1e5)] = 0
    top: Annotated[float, Range(-1e5, 1e5)] = 0


@foreign
class Alias:
    """Another name of an icon."""

    parent: str


@foreign
class Icons:
    """A set of icons."""

    icons: dict[str, Icon]
    aliases: dict[str, Alias] = field(default_factory=dict)
    width: Annotated[float, Range(gt=0, le=1e5)] = 16
    height: Annotated[float, Range(gt=0, le=1e5)] = 16

    def icon(self, name: str) -> Icon | None:
        """An icon by its name or another one of it."""
        for _ in range(len(self.aliases) + 1):
            if name in self.icons:
                return self.icons[name]
            if name not in self.aliases:
                break
            name = self.aliases[name].parent
        return None


def concepts(folder: Path) -> dict[str, dict[str, Any]]:
    """Metadata of every emoji but flags and components, by code-point sequence."""
    english = read_json(list[Word], folder / "en" / "data.json", LARGEST)
    korean = read_json(list[Word], folder / "ko" / "data.json", LARGEST)
    in_korean = {row.hexcode: row for row in korean}
    file = folder / "meta" / "groups.json"
    groups = read_json(Groups, file, LARGEST)
    by_sequence = {}
    for row in english:
        group = groups.groups.get(str(row.group))
        if group in (None, "flags", "component"):
            continue
        if str(row.subgroup) not in groups.subgroups:
            raise SfumatoError(f"{file}: has no subgroup {row.subgroup}, that of {row.hexcode:.40}")
        other = in_korean.get(row.hexcode)
        by_sequence[sequence(row.hexcode)] = {
            "hex": sequence(row.hexcode),
            "emoji": row.emoji,
            "label": row.label,
            "tags": list(row.tags),
            "label_ko": other.label if other else "",
            "tags_ko": list(other.tags) if other else [],
            "group": group,
            "subgroup": groups.subgroups[str(row.subgroup)],
            "split": split_of(row.label),
        }
    return by_sequence


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


def table(folder: Path) -> dict[str, str]:
    """A package's code-point sequence -> icon, empty if it has no such table."""
    file = folder / "chars.json"
    if not file.is_file():
        return {}
    chars = read_json(dict[str, str], file, LARGEST)
    return {sequence(code): name for code, name in chars.items()}


def named(
    icons: Icons,
    rows: Mapping[str, Mapping[str, Any]],
    tables: Sequence[Mapping[str, str]],
) -> dict[str, str]:
    """Code-point sequence -> icon: by the first table that names one that is there, or by label."""
    known = {*icons.icons, *icons.aliases}
    icon_of = {}
    for code, row in rows.items():
        names = [table[code] for table in tables if code in table] + [slug(row["label"])]
        if there := [name for name in names if name in known]:
            icon_of[code] = there[0]
    return icon_of


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
