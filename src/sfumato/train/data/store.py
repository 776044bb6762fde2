"""Pictures in memory: a packed set (zips and metadata.jsonl), or a folder with captions.

A Store knows pictures and what is known about them; how captions are worded and batches composed is
in captions.py and compose.py.
"""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from sfumato.core.errors import SfumatoError

STYLES: dict[str, tuple[str, str]] = {
    "fluent": ("3d render", "입체 그림"),
    "flat": ("flat", "평면 그림"),
    "ink": ("ink drawing", "잉크 그림"),
    "noto": ("cartoon", "만화"),
    "blob": ("blob cartoon", "방울 만화"),
    "twemoji": ("sticker", "스티커"),
    "emojione": ("clip art", "클립아트"),
}
"""What a caption calls each style of the packed set, in English and in Korean."""


@dataclass(frozen=True)
class Concept:
    """What a picture shows. tags may stand for the label; *_ko are Korean."""

    key: str
    label: str
    tags: tuple[str, ...] = ()
    label_ko: str = ""
    tags_ko: tuple[str, ...] = ()
    group: str = ""
    subgroup: str = ""


@dataclass(frozen=True, eq=False)
class Store:
    """pixels (N, 4, S, S) uint8, colours multiplied by alpha; one concept and style for each."""

    pixels: Tensor
    concepts: tuple[Concept, ...]
    styles: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.concepts)

    @property
    def size(self) -> int:
        return int(self.pixels.shape[-1])

    def index(self) -> dict[tuple[str, str], int]:
        """(concept key, style) -> row."""
        pairs = zip(self.concepts, self.styles, strict=True)
        return {(concept.key, style): row for row, (concept, style) in enumerate(pairs)}

    def to(self, device: str) -> Store:
        return Store(self.pixels.to(device), self.concepts, self.styles)


def read(
    path: Path,
    *,
    size: int,
    split: str = "train",
    styles: Sequence[str] = (),
    without: Sequence[str] = (),
) -> Store:
    """A packed set's folder, or a folder of pictures with captions, at size x size pixels.

    split: "train", "test" or "all" (a plain folder is all train). styles: those to keep, () for
    all. without: groups and subgroups to leave out.
    """
    if not path.is_dir():
        raise SfumatoError(
            f"data {path}: no such folder; give --data, or make the packed set with "
            "`sfumato data build-emoji`"
        )
    if (path / "metadata.jsonl").is_file() and list(path.glob("*.zip")):
        return _packed(path, size, split, styles, without)
    return _folder(path, size)


def _packed(
    path: Path, size: int, split: str, styles: Sequence[str], without: Sequence[str]
) -> Store:
    archive = _archive(path, size)
    entries = [
        (style, row)
        for row in metadata(path)
        if split in (row["split"], "all") and not {row["group"], row["subgroup"]} & set(without)
        for style in row["styles"]
        if not styles or style in styles
    ]
    with zipfile.ZipFile(archive) as packed:
        names = set(packed.namelist())
        entries = [(s, row) for s, row in entries if f"{s}/{row['hex']}.webp" in names]
        data = [packed.read(f"{style}/{row['hex']}.webp") for style, row in entries]
    if not entries:
        raise SfumatoError(f"data {archive}: no {split} pictures of styles {list(styles) or 'any'}")
    pixels = _decoded(data, size)
    return Store(pixels, tuple(concept(row) for _, row in entries), tuple(s for s, _ in entries))


def metadata(path: Path) -> list[dict[str, Any]]:
    """The lines of a packed set's metadata.jsonl."""
    text = (path / "metadata.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def concept(row: Mapping[str, Any]) -> Concept:
    """A line of metadata.jsonl as a Concept, its words in lower case."""
    return Concept(
        key=row["hex"],
        label=row["label"].lower(),
        tags=tuple(tag.lower() for tag in row["tags"]),
        label_ko=row.get("label_ko", ""),
        tags_ko=tuple(row.get("tags_ko", ())),
        group=row["group"],
        subgroup=row["subgroup"],
    )


def _archive(path: Path, size: int) -> Path:
    """The smallest zip whose pictures are a whole multiple of the size."""
    found = {int(zipped.stem.rsplit("-", 1)[-1]): zipped for zipped in path.glob("*-*.zip")}
    fitting = sorted(side for side in found if side % size == 0)
    if not fitting:
        raise SfumatoError(f"data {path}: has pictures of {sorted(found)} px, none fits {size} px")
    return found[fitting[0]]


def _decoded(files: Sequence[bytes], size: int) -> Tensor:
    with ThreadPoolExecutor() as pool:
        return torch.stack(list(pool.map(lambda data: _decode(io.BytesIO(data), size), files)))


def _decode(stream: io.BytesIO | Path, size: int) -> Tensor:
    """(4, size, size) uint8: box average of the picture in premultiplied alpha."""
    with Image.open(stream) as image:
        rgba = np.asarray(image.convert("RGBA"), dtype=np.float32)
    rgba = rgba.copy()
    rgba[..., :3] *= rgba[..., 3:] / 255
    factor = rgba.shape[0] // size
    boxes = rgba.reshape(size, factor, size, factor, 4).mean((1, 3))
    return torch.from_numpy(boxes.round().astype(np.uint8)).permute(2, 0, 1)


def _folder(path: Path, size: int) -> Store:
    """Pictures with NAME.txt beside them, or captions.csv / captions.jsonl (file, caption)."""
    captions = dict(_captions(path))
    if not captions:
        raise SfumatoError(
            f"data {path}: no captions; put captions.csv (file,caption), captions.jsonl or a "
            "NAME.txt beside each picture"
        )
    rows = []
    for name in captions:
        rows.append(_open_square(path / name, size))
    concepts = tuple(Concept(name, caption) for name, caption in captions.items())
    return Store(torch.stack(rows), concepts, ("",) * len(concepts))


def _open_square(file: Path, size: int) -> Tensor:
    """A picture cut to its middle square and averaged to the size."""
    try:
        with Image.open(file) as image:
            square = image.convert("RGBA")
    except FileNotFoundError:
        raise SfumatoError(f"{file}: named in the captions, but not there") from None
    except (UnidentifiedImageError, OSError) as error:
        raise SfumatoError(f"{file}: cannot be read as a picture ({error})") from None
    side = min(square.size)
    left, top = (square.width - side) // 2, (square.height - side) // 2
    square = square.crop((left, top, left + side, top + side))
    square = square.resize((size, size), Image.Resampling.BOX)
    rgba = np.asarray(square, dtype=np.float32).copy()
    rgba[..., :3] *= rgba[..., 3:] / 255
    return torch.from_numpy(rgba.round().astype(np.uint8)).permute(2, 0, 1)


def _captions(path: Path) -> Iterator[tuple[str, str]]:
    if (path / "captions.csv").is_file():
        with (path / "captions.csv").open(newline="", encoding="utf-8") as stream:
            for row in csv.DictReader(stream):
                yield row["file"], row["caption"]
    elif (path / "captions.jsonl").is_file():
        for line in (path / "captions.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            yield row["file"], row["caption"]
    else:
        for text in sorted(path.glob("*.txt")):
            pictures = [p for p in path.glob(f"{text.stem}.*") if p.suffix != ".txt"]
            for picture in pictures:
                yield picture.name, text.read_text(encoding="utf-8").strip()
