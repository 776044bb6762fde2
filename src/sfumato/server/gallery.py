"""The gallery: pictures that a client's jobs have made, and what they came from and became."""

from __future__ import annotations

import json
import re
import sqlite3
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from tempfile import TemporaryFile
from typing import IO, Annotated, Any

from pydantic import Field

from sfumato.core.errors import SfumatoError
from sfumato.server.admission import RefusedError
from sfumato.server.jobs import JobId, Sha256, View
from sfumato.server.kept import Kept
from sfumato.server.requests import Body
from sfumato.server.service import missing
from sfumato.server.store import gallery as rows
from sfumato.server.store.files import Files
from sfumato.server.store.gallery import Search
from sfumato.server.store.reading import moment

PAGE = 500  # pictures of a page at most
CHOSEN = 1000  # of one request
ARCHIVE = 2 << 30  # bytes of pictures in one archive
FAMILY = 300  # pictures of a lineage
SLUG = 40  # letters of a prompt in a file's name


class GalleryPicture(View):
    """A picture that a job has made. parent: the sweep or batch of the job; methods: their ids."""

    job: JobId
    place: int
    sha256: Sha256
    name: str
    media_type: str
    bytes: int
    width: int
    height: int
    seed: int | None
    created: datetime
    parent: JobId | None
    model: str
    prompt: str
    methods: tuple[str, ...]


class GalleryPage(View):
    """Pictures, the newest job's first. next: `before` of the page after it; total: how many the
    search has found, on the first page."""

    pictures: tuple[GalleryPicture, ...]
    next: str | None
    total: int | None


class ChosenPicture(Body):
    """A picture by its job and its place among the job's files."""

    job: JobId
    place: Annotated[int, Field(ge=0, lt=1 << 31)]


class Chosen(Body):
    """Pictures of the gallery."""

    pictures: Annotated[tuple[ChosenPicture, ...], Field(min_length=1, max_length=CHOSEN)]


class Relative(View):
    """A picture of a lineage. job and place: of what made it first, none of a picture that was
    brought; hidden: it was deleted."""

    sha256: Sha256
    width: int
    height: int
    created: datetime
    job: JobId | None
    place: int | None
    model: str
    prompt: str
    methods: tuple[str, ...]
    hidden: bool


class MadeOf(View):
    """That a picture was made of another: role is METHOD.FIELD, or `parent` where it was painted
    over."""

    source: Sha256
    made: Sha256
    role: str


class Lineage(View):
    """What a picture came from and what it became. whole: no relative was left out."""

    pictures: tuple[Relative, ...]
    steps: tuple[MadeOf, ...]
    whole: bool


def page(
    kept: Kept, client: str, search: Search, before: tuple[int, int] | None, limit: int
) -> GalleryPage:
    """A page of what a search finds."""
    read = kept.db.read(*rows.page(client, search, before, limit + 1))
    shown = read[:limit]
    more = f"{shown[-1]['number']}-{shown[-1]['place']}" if len(read) > limit else None
    total = None
    if before is None:
        counted = kept.db.one(*rows.count(client, search)) if more else None
        total = int(counted["n"]) if counted else len(shown)
    return GalleryPage(pictures=tuple(map(_picture, shown)), next=more, total=total)


def _picture(row: sqlite3.Row) -> GalleryPicture:
    names = ("job", "place", "sha256", "name", "media_type", "bytes", "width", "height", "seed",
             "parent")  # fmt: skip
    return GalleryPicture(
        **{name: row[name] for name in names}, created=_at(row), **_asked(row["request"])
    )


def _at(row: sqlite3.Row) -> datetime:
    at = moment(row["at"])
    assert at is not None
    return at


def _asked(request: str | None) -> dict[str, Any]:
    """Model, prompt and methods of a job's request."""
    recipe: Mapping[str, Any] = json.loads(request)["recipe"] if request else {}
    ids = tuple(entry["method"] for entry in recipe.get("methods", ()))
    return {"model": recipe.get("model", ""), "prompt": recipe.get("prompt", ""), "methods": ids}


def _rows(kept: Kept, client: str, chosen: Chosen) -> list[sqlite3.Row]:
    """The rows of chosen pictures; RefusedError where one is not there."""
    chosen_rows = []
    for k, one in enumerate(chosen.pictures):
        row = kept.db.one(*rows.one(client, one.job, one.place))
        if row is None:
            raise missing(f"picture {one.place + 1} of job {one.job}", f"pictures.{k}")
        chosen_rows.append(row)
    return chosen_rows


async def hide(kept: Kept, client: str, chosen: Chosen) -> None:
    """Delete pictures, so that `restore` brings them back for an hour."""
    for k, row in enumerate(_rows(kept, client, chosen)):
        if row["job"] in kept.queue.open or row["parent"] in kept.queue.open:
            raise RefusedError(
                f"job {row['job']}: has not ended; cancel it first", f"pictures.{k}", 409
            )
    await _set(kept, chosen, kept.now())


async def restore(kept: Kept, client: str, chosen: Chosen) -> None:
    """Bring back what was deleted."""
    _rows(kept, client, chosen)
    await _set(kept, chosen, None)


async def _set(kept: Kept, chosen: Chosen, at: float | None) -> None:
    pictures = [(one.job, one.place) for one in chosen.pictures]
    await kept.db.write(partial(rows.hide, pictures=pictures, at=at))


def lineage(kept: Kept, client: str, sha256: str) -> Lineage:
    """A picture's ancestors and descendants, each once."""
    steps: dict[tuple[str, str], MadeOf] = {}
    known: dict[str, None] = {sha256: None}
    whole = True
    for ask, end in ((rows.makers, "source"), (rows.takers, "made")):
        edge = [sha256]
        while edge:
            reached = []
            for row in kept.db.read(*ask(client, edge)):
                other = row[end]
                if other not in known and len(known) >= FAMILY:
                    whole = False
                    continue
                pair = (row["source"], row["made"])
                steps.setdefault(pair, MadeOf(source=pair[0], made=pair[1], role=_role(row)))
                if other not in known:
                    known[other] = None
                    reached.append(other)
            edge = reached
    described = kept.db.read(*rows.described(client, list(known)))
    pictures = tuple(_relative(row) for row in described)
    there = {one.sha256 for one in pictures}
    between = tuple(s for s in steps.values() if s.source in there and s.made in there)
    return Lineage(pictures=pictures, steps=between, whole=whole)


def _relative(row: sqlite3.Row) -> Relative:
    names = ("sha256", "width", "height", "job", "place")
    return Relative(
        **{name: row[name] for name in names}, created=_at(row),
        hidden=row["hidden"] is not None, **_asked(row["request"]),
    )  # fmt: skip


def _role(row: sqlite3.Row) -> str:
    """What the picture was in the recipe that took it."""
    for entry in json.loads(row["request"])["recipe"].get("methods", ()):
        for name, value in entry.items():
            if row["source"] in _hashes(value):
                return f"{entry['method']}.{name}"
    return "parent"


def _hashes(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from [value["sha256"]] if isinstance(value.get("sha256"), str) else []
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            yield from _hashes(part)


def chosen_files(kept: Kept, client: str, chosen: Chosen) -> list[tuple[str, str, str]]:
    """Name in an archive, hash, and recipe as JSON, of each; refused where it is too much."""
    described = _rows(kept, client, chosen)
    if (size := sum(row["bytes"] for row in described)) > ARCHIVE:
        raise RefusedError(
            f"pictures: have {size >> 20:,} MiB; at most {ARCHIVE >> 20:,} MiB of one archive, "
            "choose fewer", "pictures", 413,
        )  # fmt: skip
    digits = len(str(len(described)))
    files = []
    for k, row in enumerate(described):
        words = re.sub(r"\W+", "-", _asked(row["request"])["prompt"])[:SLUG].strip("-")
        ending = row["name"].rpartition(".")[2] or "png"
        seed = "" if row["seed"] is None else f"-{row['seed']}"
        name = f"{k + 1:0{digits}d}-{words or 'picture'}{seed}.{ending}"
        recipe = json.dumps(json.loads(row["request"])["recipe"], ensure_ascii=False)
        files.append((name, row["sha256"], recipe))
    return files


def archive(files: Files, chosen: Sequence[tuple[str, str, str]]) -> IO[bytes]:
    """A ZIP of pictures, each with the recipe that it carries, else that of its job."""
    from sfumato.images.texts import read_metadata

    stream: IO[bytes] = TemporaryFile()  # noqa: SIM115  # closed by who reads it
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as zipped:
        for name, sha256, asked in chosen:
            data = files.get(sha256)
            zipped.writestr(name, data)
            try:
                recipe = read_metadata(data).get("sfumato", asked)
            except SfumatoError:
                recipe = asked
            zipped.writestr(f"{name.rpartition('.')[0]}.json", recipe)
    stream.seek(0)
    return stream
