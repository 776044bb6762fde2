"""Pictures in memory: a packed set (zips and metadata.jsonl), or a folder with captions.

A Store knows pictures and what is known about them; how captions are worded and batches composed is
in captions.py and compose.py.
"""

from __future__ import annotations

import csv
import io
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, TypeVar

import torch
from pydantic import Field, StringConstraints
from torch import Tensor

from sfumato.core.errors import SfumatoError
from sfumato.documents import is_folder, parse_json, read_text
from sfumato.models.files import hub
from sfumato.train.data.squares import decoded, open_square
from sfumato.train.values import foreign

T = TypeVar("T")
LARGEST = 64 << 20
"""Bytes of a file of captions, and of a picture of a packed set."""
BESIDE = (".txt", ".json", ".csv", ".jsonl", ".npz", ".md", ".toml")
"""Endings of what lies beside pictures and is none."""

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

    def digests(self) -> dict[str, str]:
        """Of a folder's every picture with its caption; of a packed set as a whole."""
        rows = [row.numpy().tobytes() for row in self.pixels.cpu()]
        texts = [
            json.dumps([asdict(c), s]) for c, s in zip(self.concepts, self.styles, strict=True)
        ]
        if any(self.styles):
            digest = sha256()
            for row, text in zip(rows, texts, strict=True):
                digest.update(row + text.encode())
            return {"the packed set": digest.hexdigest()[:24]}
        return {
            f"picture {concept.key}": sha256(row + text.encode()).hexdigest()[:24]
            for concept, row, text in zip(self.concepts, rows, texts, strict=True)
        }

    def index(self) -> dict[tuple[str, str], int]:
        """(concept key, style) -> row."""
        pairs = zip(self.concepts, self.styles, strict=True)
        return {(concept.key, style): row for row, (concept, style) in enumerate(pairs)}

    def to(self, device: str) -> Store:
        return Store(self.pixels.to(device), self.concepts, self.styles)


PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
ZIP_ERRORS = (  # what reading a zip that is cut or overwritten raises
    *(EOFError, NotImplementedError, OSError, RuntimeError, ValueError),
    *(struct.error, zipfile.BadZipFile, zlib.error),
)


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
    if not is_folder(path):
        raise SfumatoError(
            f"data {path}: no such folder; give --data, or make the packed set with "
            "`sfumato data build-emoji`"
        )
    if (path / "metadata.jsonl").is_file() and list(path.glob("*.zip")):
        return _packed(path, size, split, styles, without)
    return _folder(path, size)


def packed_digest(path: Path) -> str:
    """Hash of a packed set's metadata.jsonl; "" of a folder that is none."""
    file = path / "metadata.jsonl"
    if not file.is_file() or not list(path.glob("*.zip")):
        return ""
    return sha256(read_text(file, LARGEST).encode()).hexdigest()


def captions(path: Path) -> dict[str, str]:
    """What is said of each file of a folder, in the order in which they are learned from."""
    texts: dict[str, str] = {}
    for name, caption in _captions(path):
        if texts.setdefault(name, caption) != caption:
            raise SfumatoError(f"data {path}: {name} has two captions; leave one out")
        if Path(name).is_absolute() or ".." in Path(name).parts or "\0" in name:
            raise SfumatoError(f"data {path}: {name!r:.80}: must be a file in this folder")
    if not texts:
        raise SfumatoError(
            f"data {path}: no captions; put captions.csv (file,caption), captions.jsonl or a "
            "NAME.txt beside each picture"
        )
    return texts


def _packed(
    path: Path, size: int, split: str, styles: Sequence[str], without: Sequence[str]
) -> Store:
    archive = _here(_archive(path, size), path)
    entries = [
        (style, row)
        for row in metadata(path)
        if split in (row["split"], "all") and not {row["group"], row["subgroup"]} & set(without)
        for style in row["styles"]
        if not styles or style in styles
    ]
    try:
        with zipfile.ZipFile(archive) as packed:
            names = set(packed.namelist())
            entries = [(s, row) for s, row in entries if f"{s}/{row['hex']}.webp" in names]
            data = {}
            for style, row in entries:
                name = f"{style}/{row['hex']}.webp"
                info = packed.getinfo(name)
                if info.file_size > LARGEST or info.compress_type not in PACKED:
                    raise SfumatoError(f"data {archive}: {name} is no small picture")
                data[name] = packed.read(name)
    except ZIP_ERRORS as error:
        raise SfumatoError(
            f"data {archive}: cannot be read ({error}); make it again with "
            "`sfumato data build-emoji`"
        ) from None
    if not entries:
        raise SfumatoError(f"data {archive}: no {split} pictures of styles {list(styles) or 'any'}")
    pixels = decoded(data, size)
    return Store(pixels, tuple(concept(row) for _, row in entries), tuple(s for s, _ in entries))


def metadata(path: Path) -> list[dict[str, Any]]:
    """The lines of a packed set's metadata.jsonl."""
    lines = _lines(Row, _here(path / "metadata.jsonl", path))
    return [{**json.loads(line), **asdict(row)} for line, row in lines]


def _lines(kind: type[T], file: Path) -> Iterator[tuple[str, T]]:
    """A .jsonl file's lines and their values; blank lines are none."""
    for number, line in enumerate(read_text(file, LARGEST).split("\n"), 1):
        if line.strip():
            yield line, parse_json(kind, line, f"{file}, line {number}")


@foreign
class Row:
    """A line of metadata.jsonl."""

    hex: Annotated[str, Field(pattern=r"^[0-9a-z-]{1,200}$")]
    label: str
    group: str
    subgroup: str
    split: str
    styles: tuple[str, ...]
    tags: tuple[str, ...] = ()
    label_ko: str = ""
    tags_ko: tuple[str, ...] = ()


@foreign
class Caption:
    """A row of captions."""

    file: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
    caption: str


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
    zips = {
        int(named[1]): zipped
        for zipped in path.glob("*-*.zip")
        if (named := re.search(r"-([1-9][0-9]{0,4})\.zip$", zipped.name)) and zipped.is_file()
    }
    fitting = sorted(side for side in zips if side % size == 0)
    if not fitting:
        raise SfumatoError(f"data {path}: has pictures of {sorted(zips)} px, none fits {size} px")
    return zips[fitting[0]]


def _folder(path: Path, size: int) -> Store:
    """Pictures with NAME.txt beside them, or captions.csv / captions.jsonl (file, caption)."""
    said = captions(path)
    rows = [open_square(path / name, size) for name in said]
    concepts = tuple(Concept(name, caption) for name, caption in said.items())
    return Store(torch.stack(rows), concepts, ("",) * len(concepts))


def _here(file: Path, folder: Path, beside: Path | None = None) -> Path:
    """A file of a folder that no link took from elsewhere: what is trained may be passed on.

    Links to the hub's blobs of this folder are followed, and to the folder in which the picture
    that the file stands beside really lies.
    """
    homes = {folder.resolve(), hub.blob_folder(folder)}
    homes |= set() if beside is None else {beside.resolve().parent}
    if file.resolve().parent not in homes:
        raise SfumatoError(f"{file}: is a link that leads out of the folder; put the file there")
    return file


def _captions(path: Path) -> Iterator[tuple[str, str]]:
    if (path / "captions.csv").is_file():
        yield from _table(_here(path / "captions.csv", path))
    elif (path / "captions.jsonl").is_file():
        for _, row in _lines(Caption, _here(path / "captions.jsonl", path)):
            yield row.file, row.caption.strip()
    else:
        pictures: dict[str, list[str]] = {}
        for file in sorted(path.iterdir()):
            if file.suffix.lower() not in BESIDE and not file.name.startswith("."):
                pictures.setdefault(file.stem, []).append(file.name)
        for text in sorted(path.glob("*.txt")):
            for name in pictures.get(text.stem, ()):
                yield name, read_text(_here(text, path, path / name)).strip()


def _table(file: Path) -> Iterator[tuple[str, str]]:
    """The rows of a captions.csv, as spreadsheets write them too (semicolons or tabs)."""
    text = read_text(file, LARGEST)
    first = text.split("\n", 1)[0]
    mark = next((mark for mark in ",;\t" if mark in first), ",")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=mark, strict=True)
    try:
        names = [name.strip().lower() for name in next(reader, [])]
        if not {"file", "caption"} <= set(names):
            raise SfumatoError(
                f"{file}: its first line must name the columns file,caption; it has "
                f"{', '.join(names) or 'none'}"
            )
        file_at, text_at = names.index("file"), names.index("caption")
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            if len(row) != len(names) or not row[file_at].strip():
                raise SfumatoError(
                    f"{file}, line {reader.line_num}: has {len(row)} cells for {len(names)} "
                    "columns; put a caption with commas in quotes"
                )
            yield row[file_at].strip(), row[text_at].strip()
    except csv.Error as error:
        raise SfumatoError(f"{file}, line {reader.line_num}: {error}") from None
