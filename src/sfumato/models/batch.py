"""Many pictures in one go: rows of a folder or a manifest, one process each.

A row that fails is noted and the rest goes on; a row whose pictures exist is skipped, so the same
call resumes. Knows no command line: it is given a function that composes a row's process.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sfumato.core.errors import SfumatoError
from sfumato.images.picture import write_whole
from sfumato.models.result import Result

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif")
FAILED = "failed.jsonl"


@dataclass(frozen=True)
class Row:
    """number: from 1; where: what errors call it; values: column -> text, as the manifest says.

    image: the row's picture. folder: what other pictures of the row are relative to.
    """

    number: int
    where: str
    values: Mapping[str, Any]
    image: Path | None = None
    folder: Path = Path()

    @property
    def name(self) -> str:
        """What {name} in an output pattern is: the row's own, its picture's, its number."""
        if given := self.values.get("name"):
            return str(given)
        return self.image.stem if self.image else f"{self.number:04d}"


def rows(source: str | Path) -> list[Row]:
    """Rows of a folder of pictures (NAME.txt beside one is its prompt), or of a manifest.

    Manifests: CSV with a header, JSONL, or TXT with a prompt on every line. Paths in them are
    relative to the manifest; columns name and row stand for {name} and {row}. Raises SfumatoError
    when nothing can be read.
    """
    path = Path(source)
    if path.is_dir():
        found = _folder(path)
    elif not path.is_file():
        raise SfumatoError(f"{path}: no such folder or manifest; give one")
    elif path.suffix.lower() in (".csv", ".jsonl", ".txt"):
        found = list(_manifest(path))
    else:
        raise SfumatoError(f"{path.name}: give a folder, or a manifest (.csv, .jsonl, .txt)")
    if not found:
        raise SfumatoError(f"{path}: holds no rows; a folder needs pictures, a manifest rows")
    return found


def _folder(path: Path) -> list[Row]:
    files = sorted(f for f in path.iterdir() if f.suffix.lower() in PICTURES)
    made = []
    for k, file in enumerate(files, 1):
        caption = file.with_suffix(".txt")
        text = _text(caption).strip() if caption.is_file() else None
        made.append(Row(k, file.name, {"prompt": text} if text else {}, file))
    return made


def _manifest(path: Path) -> Iterator[Row]:
    text = _text(path)
    suffix = path.suffix.lower()
    if suffix == ".csv":
        given: Sequence[tuple[int, Any]] = list(enumerate(csv.DictReader(text.splitlines()), 2))
    else:
        lines = enumerate(text.splitlines(), 1)
        given = [(k, line) for k, line in lines if line.strip()]
    for number, (line, data) in enumerate(given, 1):
        where = f"{path.name}, line {line}"
        if suffix == ".jsonl":
            data = _object(data, where)
        elif suffix == ".txt":
            data = {"prompt": data.strip()}
        if None in data:
            raise SfumatoError(f"{where}: has more fields than the header has names")
        values = {k: v for k, v in data.items() if v not in (None, "")}
        image = values.pop("image", None)
        values.pop("error", None)  # failed.jsonl has it, and folder
        row = str(values.pop("row", number))
        if not row.isdigit():
            raise SfumatoError(f"{where}: row = {row!r} is no whole number")
        folder = Path(str(values.pop("folder", path.parent)))
        picture = None if image is None else folder / str(image)
        yield Row(int(row), where, values, picture, folder)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise SfumatoError(f"{path.name}: is not UTF-8 text; save it as UTF-8") from None


def _object(line: str, where: str) -> dict[str, Any]:
    try:
        data = json.loads(line)
    except ValueError as error:
        raise SfumatoError(f"{where}: is not JSON ({error})") from None
    if not isinstance(data, dict):
        raise SfumatoError(f"{where}: is no JSON object")
    return data


@dataclass(frozen=True)
class Job:
    """A row composed: where its pictures go, and how they are made if they are missing."""

    paths: Sequence[Path]
    make: Callable[[], Result]


@dataclass
class Report:
    """Paths made, rows skipped because their pictures exist, rows that failed and why."""

    made: list[Path] = field(default_factory=list)
    skipped: int = 0
    failed: list[tuple[Row, str]] = field(default_factory=list)


def run(
    given: Sequence[Row],
    compose: Callable[[Row], Job],
    folder: Path,
    *,
    done: Callable[[Row, str], None] = lambda row, state: None,
) -> Report:
    """Run every row; what exists is never written again.

    done: told each row's state, "made", "skipped" or what went wrong. Failed rows, and those not
    reached when the run is stopped, are a manifest in `folder`: failed.jsonl.
    """
    report = Report()
    claimed: dict[Path, Row] = {}
    folder.mkdir(parents=True, exist_ok=True)
    left = list(given)
    try:
        while left:
            row = left[0]
            try:
                state = _row(row, compose(row), claimed, report)
            except (SfumatoError, OSError) as error:
                state = " ".join(str(error).split())
                report.failed.append((row, state))
            left.pop(0)
            done(row, state)
    finally:
        _note(folder / FAILED, given, [*report.failed, *((row, "not reached") for row in left)])
    return report


def _row(row: Row, job: Job, claimed: dict[Path, Row], report: Report) -> str:
    for path in job.paths:
        if path in claimed:
            raise SfumatoError(
                f"{path}: was already made from {claimed[path].where}; put {{row}} into -o"
            )
        claimed[path] = row
    missing = [path for path in job.paths if not path.is_file()]
    if not missing:
        report.skipped += 1
        return "skipped"
    result = job.make()
    for picture, path in zip(result.images, job.paths, strict=True):
        if path in missing:
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path)
    report.made += missing
    return "made"


def _note(file: Path, given: Sequence[Row], failed: Sequence[tuple[Row, str]]) -> None:
    """Rows of other sources that an earlier run noted in the same file stay."""
    tried = {row.name for row in given}
    lines = []
    if file.is_file():
        earlier = file.read_text(encoding="utf-8").splitlines()
        lines = [line for line in earlier if json.loads(line).get("name") not in tried]
    for row, error in failed:
        image = {} if row.image is None else {"image": str(row.image.resolve())}
        data = {
            **image, **row.values, "name": row.name, "row": row.number,
            "folder": str(row.folder.resolve()), "error": error,
        }  # fmt: skip
        lines.append(json.dumps(data, ensure_ascii=False))
    if lines:
        write_whole(file, "\n".join([*lines, ""]).encode())
    else:
        file.unlink(missing_ok=True)
