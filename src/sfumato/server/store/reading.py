"""Reads: jobs, files and events as they have been committed."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from sfumato.server.events import Sent
from sfumato.server.jobs import Children, File, Job, Kind, Progress, State
from sfumato.server.store.database import Database

REPLAYED = 500  # events read at once
# In one statement, so that the event is the one that led to this state
JOB = "SELECT *, coalesce((SELECT max(number) FROM events WHERE job = id), 0) AS event FROM jobs"
FILE = (
    "SELECT r.place, r.name, r.seed, p.* FROM results r JOIN pictures p USING (sha256)"
    " WHERE r.hidden IS NULL AND r.job = ?"
)


def moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def row_of(db: Database, id: str) -> sqlite3.Row | None:
    """A job's row."""
    return db.one(f"{JOB} WHERE id = ?", (id,))


def rows_of(
    db: Database,
    client: str,
    *,
    state: State | None,
    kind: Kind | None,
    parent: str | None,
    before: int | None,
    limit: int,
) -> list[sqlite3.Row]:
    """A client's jobs, the newest first: those without a parent, or one parent's children."""
    where, values = ["client = ?"], [client]
    asked: list[tuple[str, Any]] = [
        ("state = ?", state), ("kind = ?", kind), ("parent = ?", parent), ("number < ?", before),
    ]  # fmt: skip
    if parent is None:
        where.append("parent IS NULL")
    for clause, value in asked:
        if value is not None:
            where.append(clause)
            values.append(value)
    sql = f"{JOB} WHERE {' AND '.join(where)} ORDER BY number DESC LIMIT ?"
    return db.read(sql, (*values, limit))


def job_of(
    db: Database,
    row: sqlite3.Row,
    progress: Progress | None = None,
    ahead: int | None = None,
    eta_s: float | None = None,
) -> Job:
    """A job as clients see it. progress: of the run at work."""
    request: Mapping[str, Any] = json.loads(row["request"])
    kept = Progress(done=row["done"], total=row["total"])
    kind = Kind(row["kind"])
    return Job(
        id=row["id"],
        kind=kind,
        state=State(row["state"]),
        client=row["client"],
        name=row["name"],
        parent=row["parent"],
        priority=row["priority"],
        attempt=row["attempt"],
        event=row["event"],
        created=moment(row["created"]) or datetime.now(UTC),
        started=moment(row["started"]),
        ended=moment(row["ended"]),
        cancelling=row["cancelling"] is not None,
        ahead=ahead,
        eta_s=eta_s,
        progress=progress or kept,
        children=children_of(db, row["id"]) if kind.parent else None,
        recipe=request.get("recipe"),
        results=files_of(db, row["id"]) if row["attempt"] else (),
        error=row["error"],
    )


def children_of(db: Database, id: str) -> Children:
    """How many children are in each state."""
    rows = db.read("SELECT state, count(*) AS n FROM jobs WHERE parent = ? GROUP BY state", (id,))
    return Children(**{row["state"]: row["n"] for row in rows})


def files_of(db: Database, id: str) -> tuple[File, ...]:
    """What a job has made."""
    rows = db.read(f"{FILE} ORDER BY r.place", (id,))
    return tuple(file_of(row) for row in rows)


def file_of(row: sqlite3.Row) -> File:
    names = ("sha256", "name", "media_type", "bytes", "place", "width", "height", "seed")
    return File(**{name: row[name] for name in names})


def file_named(db: Database, id: str, name: str) -> File | None:
    """A job's file of that name."""
    row = db.one(f"{FILE} AND r.name = ?", (id, name))
    return None if row is None else file_of(row)


def picture_of(db: Database, client: str, sha256: str) -> sqlite3.Row | None:
    """A picture that the client brought, or that its jobs made or were given."""
    return db.one(
        "SELECT * FROM pictures p WHERE sha256 = :sha AND ("
        " EXISTS (SELECT 1 FROM uploads u WHERE u.sha256 = p.sha256 AND u.client = :client)"
        " OR EXISTS (SELECT 1 FROM results r JOIN jobs j ON j.id = r.job"
        "  WHERE r.sha256 = p.sha256 AND j.client = :client)"
        " OR EXISTS (SELECT 1 FROM inputs i JOIN jobs j ON j.id = i.job"
        "  WHERE i.sha256 = p.sha256 AND j.client = :client))",
        {"sha": sha256, "client": client},
    )


def made_by_children(db: Database, id: str) -> dict[str, str]:
    """Name in a parent -> hash, of the files of its children that are done."""
    rows = db.read(
        "SELECT j.files, r.place, r.sha256 FROM jobs j JOIN results r ON r.job = j.id"
        " WHERE j.parent = ? AND j.state = 'done'",
        (id,),
    )
    hashes = {}
    for row in rows:
        names = json.loads(row["files"])
        if row["place"] < len(names):
            hashes[names[row["place"]]] = row["sha256"]
    return hashes


def events_after(
    db: Database, number: int, *, client: str, job: str | None
) -> Iterator[list[Sent]]:
    """Kept events after a number, in parts: a job's and its children's, or all of a client's."""
    while True:
        if job is None:
            rows = db.read(
                "SELECT * FROM events WHERE client = ? AND number > ? ORDER BY number LIMIT ?",
                (client, number, REPLAYED),
            )
        else:
            rows = db.read(
                "SELECT * FROM events WHERE job = ? AND number > ?"
                " UNION ALL SELECT * FROM events WHERE parent = ? AND number > ?"
                " ORDER BY number LIMIT ?",
                (job, number, job, number, REPLAYED),
            )
        if rows:
            yield [Sent(*(row[key] for key in
                          ("number", "job", "parent", "client", "event", "data")))
                   for row in rows]  # fmt: skip
            number = rows[-1]["number"]
        if len(rows) < REPLAYED:
            return
