"""Many pictures in one go: rows of a folder or a manifest, one process each.

A row that fails is noted and the rest goes on; a row whose pictures exist is skipped, so the same
call resumes. Knows no command line: it is given a function that composes a row's process.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sfumato import documents
from sfumato.core.errors import SfumatoError, error_line
from sfumato.core.interrupts import undisturbed
from sfumato.images.folders import pictures_in
from sfumato.images.writing import numbered, write_safely, write_whole
from sfumato.models.result import Result, save_new

FAILED = "failed.jsonl"
UNREACHED = "not reached"
OWN_COLUMNS = {"error", "folder", "source"}  # columns that it has besides a manifest's
MANIFEST_BYTES = 256 << 20

_ROW_DIGITS = 18  # more is no row's number
_BREAKS = re.compile("[\x7f-\x9f\u2028\u2029]")  # some programs take them for the end of a line

log = logging.getLogger("sfumato")


@dataclass(frozen=True)
class Row:
    """number: from 1; where: what errors call it; values: column -> text, as the manifest says.

    image: the row's picture. folder: what other pictures of the row are relative to. source: the
    folder or manifest that it came from first, so that a row of failed.jsonl is known again.
    """

    number: int
    where: str
    values: Mapping[str, Any]
    image: Path | None = None
    folder: Path = Path()
    source: str = ""

    @property
    def name(self) -> str:
        """What {name} in an output pattern is: the row's own, its picture's, its number."""
        if name := self.values.get("name"):
            return str(name)
        return self.image.stem if self.image else f"{self.number:04d}"


def read_rows(source: str | Path) -> list[Row]:
    """Rows of a folder of pictures (NAME.txt beside one is its prompt), or of a manifest.

    Manifests: CSV with a header, JSONL, or TXT with a prompt on every line. Paths in them are
    relative to the manifest; columns name and row stand for {name} and {row}. Raises SfumatoError
    when nothing can be read.
    """
    path = Path(source)
    if documents.is_folder(path):
        rows = _folder_rows(path)
    elif not documents.is_file(path):
        raise SfumatoError(f"{path}: no such folder or manifest; give one")
    elif path.suffix.lower() in (".csv", ".jsonl", ".txt"):
        rows = list(_manifest_rows(path))
    else:
        raise SfumatoError(f"{path.name}: give a folder, or a manifest (.csv, .jsonl, .txt)")
    if not rows:
        raise SfumatoError(f"{path}: holds no rows; a folder needs pictures, a manifest rows")
    return rows


def _folder_rows(path: Path) -> list[Row]:
    contents = pictures_in(path, beside=(".txt",))
    if contents.note:
        log.warning("%s: %s", path, contents.note)
    rows = []
    for k, file in enumerate(contents.pictures, 1):
        caption = file.with_suffix(".txt")
        text = _read_text(caption).strip() if caption.is_file() else None
        values = {"prompt": text} if text else {}
        rows.append(Row(k, file.name, values, file, source=str(path.resolve())))
    return rows


def _manifest_rows(path: Path) -> Iterator[Row]:
    reader = {".csv": _read_csv, ".jsonl": _read_jsonl, ".txt": _read_prompts}[path.suffix.lower()]
    source = str(path.resolve())
    for number, (line, data) in enumerate(reader(path), 1):
        where = f"{path.name}, line {line}"
        values = {k: v for k, v in data.items() if v not in (None, "")}
        for name, value in values.items():
            if "." not in name and type(value) not in (str, int, float):
                raise SfumatoError(f"{where}: {name} = {value!r:.60} is neither text nor a number")
        image = values.pop("image", None)
        failure = {}
        if {"error", "folder"} <= values.keys():  # a line of failed.jsonl
            failure = {name: values.pop(name, None) for name in OWN_COLUMNS}
        if reserved := OWN_COLUMNS & values.keys():
            raise SfumatoError(
                f"{where}: unknown column {min(reserved)!r}, a name of {FAILED} alone"
            )
        row = str(values.pop("row", number))
        if not re.fullmatch(rf"[0-9]{{1,{_ROW_DIGITS}}}", row):
            raise SfumatoError(f"{where}: row = {row!r:.60} is no whole number")
        folder = Path(str(failure.get("folder") or path.parent))
        picture = None if image is None else folder / str(image)
        first = str(failure.get("source") or source)
        yield Row(int(row), where, values, picture, folder, first)


def _read_csv(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Lines of a CSV file with their numbers; a quoted field may hold line breaks."""
    limit = csv.field_size_limit(MANIFEST_BYTES)
    try:
        reader = csv.reader(io.StringIO(_read_text(path), newline=""), strict=True)
        names: list[str] | None = None
        while True:
            line = reader.line_num + 1
            fields = next(reader, None)
            if fields is None:
                return
            if not any(fields):
                continue
            if names is None:
                names = [name.strip() for name in fields]
                if repeated := {name for name in names if names.count(name) > 1}:
                    raise SfumatoError(f"{path.name}: has the column {min(repeated)!r} twice")
                continue
            if len(fields) > len(names):
                raise SfumatoError(
                    f"{path.name}, line {line}: has more fields than the header has names"
                )
            yield line, dict(zip(names, fields, strict=False))
    except csv.Error as error:
        raise SfumatoError(f"{path.name}, line {reader.line_num}: is not CSV ({error})") from None
    finally:
        csv.field_size_limit(limit)


def _read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in _lines(path):
        yield number, documents.parse_json(dict[str, Any], line, f"{path.name}, line {number}")


def _read_prompts(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in _lines(path):
        yield number, {"prompt": line.strip()}


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines that are not blank, with their numbers; of all breaks only LF, CR and both end them."""
    for number, line in enumerate(re.split("\r\n|\n|\r", _read_text(path)), 1):
        if line.strip():
            yield number, line


def _read_text(path: Path) -> str:
    return documents.read_text(path, MANIFEST_BYTES)


@dataclass(frozen=True)
class Job:
    """A row composed: where its pictures go, and how they are made if they are missing."""

    paths: Sequence[Path]
    make: Callable[[], Result]


@dataclass
class Report:
    """Paths made, rows skipped because their pictures exist, rows that failed and why.

    note: the manifest of the failed rows.
    """

    made: list[Path] = field(default_factory=list)
    skipped: int = 0
    failed: list[tuple[Row, str]] = field(default_factory=list)
    note: Path | None = None


def run(
    rows: Sequence[Row],
    compose: Callable[[Row], Job],
    folder: Path,
    *,
    notify: Callable[[Row, str], None] = lambda row, state: None,
) -> Report:
    """Run every row; what exists is never written again, and no row's failure ends the others.

    notify: told each row's state, "made", "skipped" or what went wrong. Failed rows, and those not
    reached when the run is stopped, are a manifest in `folder`: failed.jsonl, or failed-2.jsonl and
    so on where that is the user's own or another source's.
    """
    report = Report()
    claimed: dict[Path, Row] = {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        reason = getattr(error, "strerror", None) or error
        raise SfumatoError(f"{folder}: cannot be made ({reason}); give another -o") from None
    waiting = list(rows)
    try:
        while waiting:
            row = waiting[0]
            try:
                state = _make_row(row, compose(row), claimed, report)
            except Exception as error:  # whatever it is, it is this row's alone
                state = error_line(error)
                report.failed.append((row, state))
                _free_memory()
            waiting.pop(0)
            notify(row, state)
    finally:
        with undisturbed():
            failed = [*report.failed, *((row, UNREACHED) for row in waiting)]
            report.note = _write_note(folder, rows, failed)
    return report


def _make_row(row: Row, job: Job, claimed: dict[Path, Row], report: Report) -> str:
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
    trouble = []
    with undisturbed():
        for picture, path in zip(result.images, job.paths, strict=True):
            if path in missing:
                with suppress(OSError):  # it is put elsewhere then
                    path.parent.mkdir(parents=True, exist_ok=True)
                written = save_new(picture, path)
                report.made.append(written.path)
                trouble += [written.trouble] if written.trouble else []
    if trouble:
        raise SfumatoError("; ".join(trouble))
    return "made"


def _free_memory() -> None:
    """Give back what a failed row held on the card, so that the next one has room."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _write_note(
    folder: Path, rows: Sequence[Row], failed: Sequence[tuple[Row, str]]
) -> Path | None:
    """Write the rows that failed; what another run or the user put into such files stays."""
    sources = {row.source for row in rows}
    keys = {(row.source, row.number, row.name) for row in rows}
    for k in itertools.count(1):
        file = numbered(folder / FAILED, k)
        if not os.path.lexists(file):  # a dangling link is taken too
            earlier, exists = {}, False
            break
        lines_by_row = _read_note(file)
        if lines_by_row is not None and {source for source, _, _ in lines_by_row} <= sources:
            earlier, exists = lines_by_row, True
            break
    others = (line for key, line in earlier.items() if key not in keys)
    lines = [*others, *(_note_line(row, error) for row, error in failed)]
    data = "".join(f"{line}\n" for line in lines).encode()
    if not lines:
        if exists:
            file.unlink(missing_ok=True)
        return None
    if exists:
        with suppress(SfumatoError):  # the old one stays, and a new one is tried
            write_whole(file, data)
            return file
    return write_safely(file, data).path


def _note_line(row: Row, error: str) -> str:
    image = {} if row.image is None else {"image": str(row.image.resolve())}
    data = {
        **image, **row.values, "name": row.name, "row": row.number,
        "folder": str(row.folder.resolve()), "source": row.source, "error": error,
    }  # fmt: skip
    text = json.dumps(data, ensure_ascii=False).encode("utf-8", "replace").decode()
    return _BREAKS.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _read_note(file: Path) -> dict[tuple[str, int, str], str] | None:
    """Lines by (source, row, name) of a file that `_write_note` wrote; None for any other file."""
    lines = {}
    try:
        for number, line in _lines(file):
            data = documents.parse_json(dict[str, Any], line, f"{file.name}, line {number}")
            if not {"error", "folder", "name", "row", "source"} <= data.keys():
                return None
            lines[str(data["source"]), int(data["row"]), str(data["name"])] = line
    except (SfumatoError, ValueError, TypeError):
        return None
    return lines or None
